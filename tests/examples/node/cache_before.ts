// What the class does that the page says of it.
import assert from "node:assert/strict";
import { Redis as Connection } from "ioredis";

const redis = new Connection({ port: Number(process.argv[2]) });
const cache = new CacheService(redis);
let calls = 0;
let reached: () => void;
const all = new Promise<void>((resolve) => (reached = resolve));

async function model(): Promise<string> {
  calls += 1;
  if (calls === 20) reached();
  await all;
  return "Hello!";
}

// All that miss at the same moment call the model.
const burst = await Promise.all(Array.from({ length: 20 }, () => cache.answer("chat", { a: 1 }, model)));
assert.deepEqual([new Set(burst), calls], [new Set(["Hello!"]), 20]);
assert.equal(await cache.answer("chat", { a: 1 }, model), "Hello!");
assert.equal(calls, 20);

// Requests that are written otherwise are others.
await cache.answer("chat", { a: 1, b: 2 }, model);
await cache.answer("chat", { b: 2, a: 1 }, model);
assert.equal(calls, 22);
assert.equal((await cache.keys("chat")).length, 3);

// What is being computed during a clear is stored after it.
let computing: () => void;
let cleared: () => void;
const begun = new Promise<void>((resolve) => (computing = resolve));
const gone = new Promise<void>((resolve) => (cleared = resolve));
const answering = cache.answer("chat", { a: 2 }, async () => {
  computing();
  await gone;
  return "from before the clear";
});
await begun;
assert.equal(await cache.clear("chat:*"), 3);
cleared!();
await answering;
assert.equal(await cache.answer("chat", { a: 2 }, model), "from before the clear");

// Whatever matches is deleted, and by clearAll whatever there is.
await redis.set("chat:settings", "not of the cache");
assert.equal(await cache.clear("chat:*"), 2);
await redis.set("limit:7", 1);
await cache.clearAll();
assert.equal(await redis.exists("limit:7"), 0);
redis.disconnect();
console.log("ok");
