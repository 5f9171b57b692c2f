// Entries of the cache: many at once, how long they live, and what is counted of them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Core } from "../src/core.js";
import { Cache, json, Telemetry } from "../src/index.js";
import { settingsOf } from "../src/settings.js";
import { FakeRedis } from "../src/testing/index.js";
import { counted, eventually, Lines, Server, withGateway } from "./servers.js";

const REQUEST = { model: "small", messages: [{ role: "user", content: "Hi" }] };

async function* words(count: number): AsyncGenerator<string> {
  for (let at = 0; at < count; at++) yield await Promise.resolve(`word ${String(at)}`);
}

async function collect(source: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const piece of source) found.push(piece);
  return found;
}

test("figures are told by category", async () => {
  // Also those of streams, whose callers wait for each other as well.
  const own = await Server.start();
  await withGateway(own, async (gateway) => {
    const [chat, title] = ["chat", "title"] as const;
    const streams = gateway.streamCache<string>(chat, { waitMs: 20_000 });
    const all = Array.from({ length: 3 }, async () => await collect(streams.stream(REQUEST, () => words(2))));
    assert.deepEqual(await Promise.all(all), Array(3).fill(["word 0", "word 1"]));
    await gateway.cache(title).get(REQUEST);
    assert.deepEqual(gateway.figures(), {
      [`cache{category=${chat},result=miss}`]: 1,
      [`cache{category=${chat},result=coalesced}`]: 2,
      [`cache{category=${title},result=miss}`]: 1,
    });
    const impatient = gateway.streamCache<string>(chat, { waitMs: 10 });
    async function* slow(): AsyncGenerator<string> {
      await eventually(() => counted(gateway, "wait_timeout") === 1);
      yield "piece";
    }
    async function* quick(): AsyncGenerator<string> {
      yield await Promise.resolve("another");
    }
    const both = [slow, quick].map(async (compute) => await collect(impatient.stream({ n: 1 }, compute)));
    assert.deepEqual(await Promise.all(both), [["piece"], ["another"]]);
  });
  await own.close();
});

test("many entries go together", async () => {
  // Each as it would alone.
  const own = await Server.start();
  const texts = Array.from({ length: 250 }, (_, at) => `text ${String(at)}`);
  await withGateway(own, async (gateway) => {
    const codec = { encode: (value: Buffer) => value, decode: (bytes: Buffer) => bytes };
    const cache = gateway.cache<Buffer>("embed", { codec });
    const some = texts.slice(0, 200).map((text) => [text, Buffer.from(text)] as const);
    await cache.setMany(some, { tags: ["m"], saved: "0.1" });
    const odd = cache.key(texts[1]);
    await own.run(["GW.CACHEDEL", odd]);
    await own.run(["SET", odd, "other"]);
    const values = (await cache.getMany(texts.values())).map((value) => value?.toString());
    assert.deepEqual(values, [
      texts[0],
      undefined,
      ...texts.slice(2, 200),
      ...Array.from({ length: 50 }, () => undefined),
    ]);
    assert.deepEqual(gateway.figures(), {
      "cache{category=embed,result=error}": 1,
      "cache{category=embed,result=hit}": 199,
      "cache{category=embed,result=miss}": 50,
    });
    assert.equal(await gateway.clearTag("m"), 199);
    // Large ones, of which one cannot be stored; and one that cannot be encoded, so that none is.
    await cache.setMany(texts.slice(0, 4).map((text) => [text, Buffer.alloc(200 * 1_024)] as const));
    assert.equal(counted(gateway, "not_stored"), 1);
    const found = (await cache.getMany(texts.slice(0, 4))).map((value) => value !== undefined);
    assert.deepEqual(found, [true, false, true, true]);
    const wrong = [
      ["new", Buffer.alloc(0)],
      ["newer", null as unknown as Buffer],
    ] as const;
    await assert.rejects(cache.setMany(wrong), TypeError);
    assert.deepEqual(await cache.getMany(["new"]), [undefined]);
    assert.deepEqual(await cache.getMany([]), []);
    await cache.setMany([]);
    await own.stop();
    assert.deepEqual(await cache.getMany(texts.slice(0, 2)), [undefined, undefined]);
    assert.equal(counted(gateway, "away"), 2);
  });
  await own.close();
});

test("many entries go in batches", async () => {
  const core = new Core(new FakeRedis(), settingsOf({}), new Telemetry(), new Lines());
  const trips: number[] = [];
  const own = core.transport.many.bind(core.transport);
  core.transport.many = async (sent) => {
    trips.push(sent.length);
    return await own(sent);
  };
  const cache = new Cache<string>(core, "embed", json<string>(), {});
  await cache.setMany(Array.from({ length: 250 }, (_, at) => [at, "x"] as const));
  const found = await cache.getMany(Array.from({ length: 150 }, (_, at) => at));
  assert.deepEqual(found, Array(150).fill("x"));
  await cache.setMany(Array.from({ length: 4 }, (_, at) => [at, "x".repeat(200 * 1_024)] as const));
  // One that is longer than a batch may be goes alone.
  await cache.setMany([
    ["long", "x".repeat(600 * 1_024)],
    ["short", "x"],
  ]);
  assert.deepEqual(trips, [100, 100, 50, 100, 50, 2, 2, 1, 1]);
  await core.close(1_000);
});

test("lifetimes are the server's or the caller's", async () => {
  const own = await Server.start();
  await own.run(["CONFIG", "SET", "gw.cache-ttl", "chat=600"]);
  await own.run(["CONFIG", "SET", "gw.cache-stale", "chat=60"]);
  await withGateway(own, async (gateway) => {
    const lives = async (cache: Cache<string>, seconds: number): Promise<void> => {
      const left = Number(await own.run(["PTTL", cache.key(REQUEST)])) / 1_000;
      assert.ok(seconds - 30 < left && left <= seconds, `${String(left)} s, and not ${String(seconds)}`);
    };
    for (const [options, seconds] of [
      [{}, 660],
      [{ staleMs: 0 }, 600],
      [{ ttlMs: 100_000 }, 160],
      [{ ttlMs: 100_000, staleMs: 20_000 }, 120],
    ] as const) {
      const cache = gateway.cache<string>("chat", options);
      await cache.set(REQUEST, "x");
      await lives(cache, seconds);
    }
    const other = gateway.cache<string>("title");
    assert.equal(await other.getOrCompute(REQUEST, () => Promise.resolve("x")), "x");
    await lives(other, 3_600);
  });
  await own.close();
});
