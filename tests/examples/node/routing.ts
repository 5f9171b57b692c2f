// Drives the routing guide in TypeScript.
import assert from "node:assert/strict";
import { Redis as Connection } from "ioredis";

const redis: Redis = new Connection({ port: Number(process.argv[2]) });
const run = (line: string) => redis.call(...(line.split(" ") as [string, ...string[]]));
const targets = ["{gpt}:eu", "{gpt}:us", "{gpt}:asia"];
const accounts = ["{ml}:key", "{ml}"];
let calls: string[] = [];

const works = async (target: string): Promise<[string, Amounts]> => [`answer of ${target}`, { tokens: 40 }];

function request(call: (target: string) => Promise<[string, Amounts]>): Promise<string> {
  const recorded = (target: string) => {
    calls.push(target);
    return call(target);
  };
  return serve(redis, accounts, targets, { tokens: 100 }, recorded);
}

async function refused(call: (target: string) => Promise<[string, Amounts]>): Promise<[string, number]> {
  try {
    await request(call);
  } catch (error) {
    if (error instanceof Refused) return [error.message, error.retryAfterMs];
    throw error;
  }
  throw new Error("served");
}

function pairs(list: unknown): Record<string, unknown> {
  const flat = list as unknown[];
  return Object.fromEntries(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1]]] : [])));
}

const described = async (account: string, field: string) => pairs(await run(`GW.DESCRIBE ${account}`))[field];
const counts = async (account: string) => pairs(await described(account, "counts"));

await run("GW.POLICYSET {ml} rpm WINDOW 4 PER 3600000");
await run("GW.POLICYSET {ml}:key tokens WINDOW 10000 PER 3600000 METER tokens");
for (const target of targets) {
  await run(`GW.POLICYSET ${target} rpm WINDOW 5 PER 3600000`);
  await run(`GW.POLICYSET ${target} up BREAKER 2 PER 3600000 OPEN 3600000`);
}
assert.equal(await request(works), `answer of ${calls[0]}`);
assert.deepEqual(await counts("{ml}:key"), { tokens: 40 });
assert.notEqual(await described(calls[0]!, "latency_ms"), null);

calls = [];
const busy = async (target: string) => {
  if (calls.length === 1) throw new CallFailed(3_600_000);
  return works(target);
};
assert.equal(await request(busy), `answer of ${calls[1]}`);
const cooled = calls[0]!;
assert.equal(calls.length, 2);
assert.ok(Number(await described(cooled, "cooldown_ms")) > 0);
assert.deepEqual(await counts("{ml}"), { rpm: 2 });

const fails = async (): Promise<[string, Amounts]> => {
  throw new CallFailed();
};
calls = [];
assert.deepEqual(await refused(fails), ["every deployment has failed", -1]);
assert.deepEqual([...calls, cooled].sort(), [...targets].sort());
await refused(fails);
calls = [];
const [why, retryAfterMs] = await refused(works);
assert.ok(why === "no deployment" && retryAfterMs > 0 && retryAfterMs <= 3_600_000 && calls.length === 0);
assert.deepEqual(await counts("{ml}"), { rpm: 2 });

for (const target of targets) {
  await run(`DEL ${target}`);
  await run(`GW.POLICYSET ${target} flight INFLIGHT 1`);
}
await request(works);
await request(works);
assert.equal((await refused(works))[0], "limit");
for (const target of targets) assert.equal(await described(target, "in_flight"), 0);
redis.disconnect();
console.log("ok");
