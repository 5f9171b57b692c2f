// The response cache.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Gateway, type Cache, type CacheOptions } from "../src/index.js";
import { counted, eventually, Server, unique, withGateway } from "./servers.js";

let server: Server;
before(async () => void (server = await Server.start()));
after(async () => await server.close());

const REQUEST = { model: "small", messages: [{ role: "user", content: "Hi" }] };
const never = (): Promise<never> => Promise.reject(new Error("never called"));

/** Two processes, as far as the server can tell. */
async function withTwo(work: (one: Gateway, other: Gateway) => Promise<void>): Promise<void> {
  await withGateway(server, async (one) => await withGateway(server, async (other) => await work(one, other)));
}

function deferred<T>(): { readonly promise: Promise<T>; resolve(value: T): void; reject(error: Error): void } {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<T>((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve: (value) => resolve(value), reject: (error) => reject(error) };
}

async function blocked(count: number): Promise<void> {
  await eventually(async () => String(await server.run("INFO clients")).includes(`blocked_clients:${String(count)}`));
}

function cacheOf(
  gateway: Gateway,
  options: CacheOptions = {},
  category = unique("chat").replace(":", "-"),
): Cache<string> {
  return gateway.cache<string>(category, options);
}

test("a hit computes nothing", async () => {
  await withGateway(server, async (gateway) => {
    const cache = cacheOf(gateway, { tenant: "ml", ttlMs: 60_000, ignore: ["user"] });
    const answer = await cache.getOrCompute({ ...REQUEST, user: "a" }, () => Promise.resolve("Hello"), {
      tags: ["t1"],
      saved: "0.01",
    });
    assert.equal(answer, "Hello");
    assert.equal(await cache.getOrCompute({ ...REQUEST, user: "b" }, never), "Hello");
    assert.equal(await cache.get(REQUEST), "Hello");
    assert.match(cache.key(REQUEST), new RegExp(`^${cache.category}:ml:[0-9a-f]{64}$`));
    assert.equal(await gateway.cache(cache.category, { tenant: "sales" }).get(REQUEST), undefined);
    const described = await gateway.commands.describe(cache.key(REQUEST));
    assert.ok(described?.type === "cache-entry");
    assert.deepEqual([described.tags, described.saved, described.category], [["t1"], "0.01", cache.category]);
    assert.equal((await cache.figures())[0]?.hits, 2);
    assert.equal(await gateway.clearTag("t1"), 1);
    assert.equal(await cache.get(REQUEST), undefined);
    await cache.set(REQUEST, "again");
    assert.equal(await cache.delete(REQUEST), true);
    assert.equal(await cache.clear(), 0);
  });
});

test("processes compute once", async () => {
  await withTwo(async (one, other) => {
    const category = unique("chat").replace(":", "-");
    const made = deferred<string>();
    const first = cacheOf(one, {}, category).getOrCompute(REQUEST, async () => await made.promise);
    await eventually(() => counted(one, "miss") === 1);
    const second = cacheOf(other, {}, category).getOrCompute(REQUEST, never);
    await blocked(1);
    made.resolve("Hello");
    assert.deepEqual(await Promise.all([first, second]), ["Hello", "Hello"]);
  });
});

test("equal calls in a process compute once", async () => {
  await withGateway(server, async (gateway) => {
    const cache = cacheOf(gateway);
    let computed = 0;
    const compute = async (): Promise<string> => {
      computed += 1;
      await sleep(10);
      return "Hello";
    };
    const all = await Promise.all(Array.from({ length: 10 }, async () => await cache.getOrCompute(REQUEST, compute)));
    assert.deepEqual([new Set(all), computed], [new Set(["Hello"]), 1]);
    assert.equal(counted(gateway, "coalesced"), 9);
  });
});

test("a lost reply loses no fill lease", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("k");
    const asked = { leaseMs: 60_000, holder: "call" };
    const first = await gateway.commands.cacheLease(key, asked);
    const again = await gateway.commands.cacheLease(key, asked);
    assert.ok(first.token > 0);
    assert.equal(again.token, first.token);
    assert.equal((await gateway.commands.cacheLease(key, { ...asked, holder: "other" })).state, "PENDING");
  });
});

test("if it fails the next one computes", async () => {
  await withTwo(async (one, other) => {
    const category = unique("chat").replace(":", "-");
    const made = deferred<string>();
    const first = cacheOf(one, {}, category).getOrCompute(REQUEST, async () => await made.promise);
    await eventually(() => counted(one, "miss") === 1);
    const second = cacheOf(other, {}, category).getOrCompute(REQUEST, () => Promise.resolve("second"));
    await blocked(1);
    made.reject(new Error("mine"));
    await assert.rejects(first, /mine/);
    assert.equal(await second, "second");
  });
});

test("an aborted computation gives its lease up", async () => {
  await withTwo(async (one, other) => {
    const category = unique("chat").replace(":", "-");
    const controller = new AbortController();
    const first = cacheOf(one, {}, category).getOrCompute(REQUEST, async () => await new Promise(() => undefined), {
      signal: controller.signal,
    });
    await eventually(() => counted(one, "miss") === 1);
    const second = cacheOf(other, {}, category).getOrCompute(REQUEST, () => Promise.resolve("second"));
    await blocked(1);
    controller.abort();
    await assert.rejects(first, { name: "AbortError" });
    assert.equal(await second, "second");
  });
});

test("an aborted question of the cache gives its lease up", async () => {
  await withGateway(server, async (gateway) => {
    const cache = cacheOf(gateway);
    await gateway.commands.logLen("q");
    const controller = new AbortController();
    await server.frozen(async () => {
      const asked = cache.getOrCompute(REQUEST, never, { signal: controller.signal });
      controller.abort();
      await assert.rejects(asked, { name: "AbortError" });
    });
    // Nobody else would get it for two minutes.
    await eventually(async () => (await cache.figures())[0]?.releases === 1);
    assert.equal(await cache.getOrCompute(REQUEST, () => Promise.resolve("next")), "next");
  });
});

test("what cannot be stored gives its lease up", async () => {
  await withTwo(async (one, other) => {
    const category = unique("chat").replace(":", "-");
    const made = deferred<string>();
    const codec = { encode: (): string => "x".repeat(10), decode: String };
    const first = one
      .cache<string>(category, { codec, ttlMs: 1e15 })
      .getOrCompute(REQUEST, async () => await made.promise);
    await eventually(() => counted(one, "miss") === 1);
    const second = cacheOf(other, {}, category).getOrCompute(REQUEST, () => Promise.resolve("second"));
    await blocked(1);
    made.resolve("first");
    assert.equal(await first, "first");
    assert.equal(await second, "second");
    assert.equal(counted(one, "not_stored"), 1);
  });
});

test("a value that cannot be encoded is returned", async () => {
  await withGateway(server, async (gateway, lines) => {
    const cache = gateway.cache<unknown>(unique("chat").replace(":", "-"));
    const circle: { self?: unknown } = {};
    circle.self = circle;
    assert.equal(await cache.getOrCompute(REQUEST, () => Promise.resolve(circle)), circle);
    assert.equal(await cache.getOrCompute(REQUEST, () => Promise.resolve("next")), "next");
    assert.deepEqual(lines.lines, ["an answer cannot be cached: TypeError"]);
  });
});

test("a lease is given up when the server is back", async () => {
  await withGateway(
    server,
    async (gateway) => {
      const cache = cacheOf(gateway);
      await eventually(async () => (await gateway.health()).ok);
      const failing = cache.getOrCompute(REQUEST, async () => {
        server.freeze();
        await Promise.resolve();
        throw new Error("mine");
      });
      await assert.rejects(failing, /mine/);
      server.thaw();
      await eventually(async () => (await cache.figures())[0]?.releases === 1);
    },
    { timeoutMs: 300, kept: { everyMs: 20 }, failures: 1_000 },
  );
});

test("stale is served and refreshed", async () => {
  await withGateway(server, async (gateway) => {
    const cache = cacheOf(gateway, { ttlMs: 1, staleMs: 60_000 });
    await cache.getOrCompute(REQUEST, () => Promise.resolve("old"));
    await sleep(5);
    const made = deferred<string>();
    assert.equal(await cache.getOrCompute(REQUEST, async () => await made.promise), "old");
    assert.equal(await cache.getOrCompute(REQUEST, never), "old");
    made.resolve("new");
    await eventually(async () => (await cache.get(REQUEST)) === "new");
  });
});

test("a refresh that fails gives its lease up", async () => {
  await withGateway(server, async (gateway) => {
    const cache = cacheOf(gateway, { ttlMs: 1, staleMs: 60_000 });
    await cache.getOrCompute(REQUEST, () => Promise.resolve("old"));
    await sleep(5);
    assert.equal(await cache.getOrCompute(REQUEST, () => Promise.reject(new Error("mine"))), "old");
    await eventually(async () => (await cache.figures())[0]?.releases === 1);
    assert.equal(counted(gateway, "refresh_failed"), 1);
    assert.equal(await cache.getOrCompute(REQUEST, () => Promise.resolve("new")), "old");
    await eventually(async () => (await cache.get(REQUEST)) === "new");
  });
});

test("waits hold up no other call", async () => {
  await withTwo(async (one, other) => {
    const category = unique("chat").replace(":", "-");
    const made = deferred<string>();
    const first = cacheOf(one, {}, category).getOrCompute(REQUEST, async () => await made.promise);
    await eventually(() => counted(one, "miss") === 1);
    const second = cacheOf(other, {}, category).getOrCompute(REQUEST, never);
    await blocked(1);
    for (let at = 0; at < 20; at++) assert.equal((await other.allow(unique("w"), 1)).outcome, "admitted");
    made.resolve("Hello");
    assert.deepEqual(await Promise.all([first, second]), ["Hello", "Hello"]);
  });
});

test("more waiters than connections", async () => {
  await withGateway(server, async (one) => {
    const category = unique("chat").replace(":", "-");
    const made = deferred<string>();
    const leading = cacheOf(one, {}, category).getOrCompute(REQUEST, async () => await made.promise);
    await eventually(() => counted(one, "miss") === 1);
    await withGateway(
      server,
      async (other) => {
        // Calls in one process are one: so each waits with a cache of its own.
        const all = Array.from(
          { length: 5 },
          async () => await cacheOf(other, {}, category).getOrCompute(REQUEST, never),
        );
        await blocked(2);
        made.resolve("Hello");
        assert.deepEqual(new Set(await Promise.all(all)), new Set(["Hello"]));
      },
      { waitingConnections: 2, timeoutMs: 200, failures: 1_000 },
    );
    assert.equal(await leading, "Hello");
  });
});

test("a wait is made of parts", async () => {
  await withGateway(server, async (one) => {
    await withGateway(
      server,
      async (other) => {
        const category = unique("chat").replace(":", "-");
        const made = deferred<string>();
        const first = cacheOf(one, {}, category).getOrCompute(REQUEST, async () => await made.promise);
        await eventually(() => counted(one, "miss") === 1);
        const second = cacheOf(other, {}, category).getOrCompute(REQUEST, never);
        // One wait after the other has ended without a value.
        await eventually(async () => {
          const [figures] = await cacheOf(one, {}, category).figures();
          return (figures?.waitTimeouts ?? 0) >= 2;
        });
        made.resolve("Hello");
        assert.deepEqual(await Promise.all([first, second]), ["Hello", "Hello"]);
      },
      { waitingTimeoutMs: 500 },
    );
  });
});

test("an error of the cache is a miss", async () => {
  await withGateway(server, async (gateway, lines) => {
    const cache = cacheOf(gateway);
    await server.run(["SET", cache.key(REQUEST), "x"]);
    assert.equal(await cache.getOrCompute(REQUEST, () => Promise.resolve("computed")), "computed");
    assert.equal(counted(gateway, "error"), 1);
    assert.ok(lines.lines.includes("the cache refuses to answer: WrongType"));
  });
  const away = await Server.start();
  await away.stop();
  await withGateway(
    away,
    async (gateway) => {
      const cache = cacheOf(gateway);
      assert.equal(await cache.getOrCompute(REQUEST, () => Promise.resolve("computed")), "computed");
      assert.equal(await cache.get(REQUEST), undefined);
      await cache.set(REQUEST, "x");
      assert.equal(counted(gateway, "not_stored"), 1);
    },
    { timeoutMs: 50, connectTimeoutMs: 100 },
  );
  await away.close();
});

test("get is a miss if the server refuses", async () => {
  await withGateway(server, async (gateway) => {
    const cache = cacheOf(gateway);
    await server.run(["SET", cache.key(REQUEST), "x"]);
    assert.equal(await cache.get(REQUEST), undefined);
    assert.equal(counted(gateway, "error"), 1);
  });
});

test("without the cache a bounded number is computed", async () => {
  const away = await Server.start();
  await away.stop();
  await withGateway(
    away,
    async (gateway) => {
      let computing = 0;
      let most = 0;
      const cache = cacheOf(gateway, { computing: 3 });
      const compute = async (): Promise<string> => {
        computing += 1;
        most = Math.max(most, computing);
        await sleep(5);
        computing -= 1;
        return "x";
      };
      const all = Array.from({ length: 20 }, async (_, at) => await cache.getOrCompute({ at }, compute));
      await Promise.all(all);
      assert.equal(most, 3);
    },
    { timeoutMs: 50, connectTimeoutMs: 100 },
  );
  await away.close();
});

test("null and empty are values", async () => {
  await withGateway(server, async (gateway) => {
    const category = unique("chat").replace(":", "-");
    const cache = gateway.cache<string | null>(category);
    assert.equal(await cache.getOrCompute({ a: 1 }, () => Promise.resolve(null)), null);
    assert.equal(await cache.getOrCompute({ a: 1 }, never), null);
    assert.equal(await cache.get({ a: 1 }), null);
    await cache.set({ a: 2 }, "");
    assert.equal(await cache.get({ a: 2 }), "");
    const codec = { encode: (value: Buffer) => value, decode: (bytes: Buffer) => bytes };
    const raw = gateway.cache<Buffer>(category, { codec, tenant: "raw" });
    for (const bytes of [Buffer.alloc(0), Buffer.from(Array.from({ length: 256 }, (_, at) => at))]) {
      await raw.set({ length: bytes.length }, bytes);
      assert.deepEqual(await raw.getOrCompute({ length: bytes.length }, never), bytes);
    }
  });
});

async function* words(count: number, failAt = Infinity): AsyncGenerator<string> {
  for (let at = 0; at < count; at++) {
    await Promise.resolve();
    if (at === failAt) throw new Error("the model has failed");
    yield `word ${String(at)}`;
  }
}

async function collect(source: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const piece of source) found.push(piece);
  return found;
}

test("streams are stored when complete", async () => {
  await withGateway(server, async (gateway) => {
    const cache = gateway.streamCache<string>(unique("chat").replace(":", "-"));
    const all = ["word 0", "word 1", "word 2"];
    const [first, second] = await Promise.all([
      collect(cache.stream(REQUEST, () => words(3))),
      collect(cache.stream(REQUEST, () => words(3, 0))),
    ]);
    assert.deepEqual([first, second], [all, all]);
    assert.deepEqual(await collect(cache.stream(REQUEST, () => words(3, 0))), all);
    assert.deepEqual(await cache.entries.get(REQUEST), all);
  });
});

test("a stream that breaks off is not stored", async () => {
  await withGateway(server, async (gateway) => {
    const cache = gateway.streamCache<string>(unique("chat").replace(":", "-"));
    await assert.rejects(collect(cache.stream(REQUEST, () => words(3, 1))), /the model has failed/);
    for await (const piece of cache.stream(REQUEST, () => words(3))) if (piece === "word 0") break;
    assert.equal(await cache.entries.get(REQUEST), undefined);
    assert.equal((await cache.entries.figures())[0]?.releases, 2);
    assert.equal((await collect(cache.stream(REQUEST, () => words(2)))).length, 2);
  });
});

interface Answer {
  text: string;
}

test("each caller has an answer of its own", async () => {
  await withGateway(server, async (gateway) => {
    const cache = gateway.cache<Answer>(unique("chat").replace(":", "-"));
    const made = deferred<Answer>();
    const compute = async (): Promise<Answer> => await made.promise;
    const asked = Array.from({ length: 3 }, async () => await cache.getOrCompute(REQUEST, compute));
    made.resolve({ text: "Hello" });
    for (const answer of await Promise.all(asked)) {
      assert.equal(answer.text, "Hello");
      answer.text = "changed";
    }
    assert.deepEqual(await cache.get(REQUEST), { text: "Hello" });
    assert.equal(counted(gateway, "coalesced"), 2);
  });
});

test("each caller of a stream has pieces of its own", async () => {
  await withGateway(server, async (gateway) => {
    const cache = gateway.streamCache<Answer>(unique("chat").replace(":", "-"));
    const compute = async function* (): AsyncGenerator<Answer> {
      yield await Promise.resolve({ text: "Hello" });
    };
    const all = await Promise.all(
      Array.from({ length: 3 }, async () => {
        for await (const piece of cache.stream(REQUEST, compute)) return piece;
        return undefined;
      }),
    );
    // Whoever leaves after the first piece leaves the answer to the next one: so read one to its end, too.
    const whole = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const made: Answer[] = [];
        for await (const piece of cache.stream(REQUEST, compute)) made.push(piece);
        return made[0];
      }),
    );
    for (const piece of [...all, ...whole]) {
      assert.ok(piece);
      assert.equal(piece.text, "Hello");
      piece.text = "changed";
    }
    assert.deepEqual(await cache.entries.get(REQUEST), [{ text: "Hello" }]);
  });
});

test("an answer that cannot be encoded is shared with nobody", async () => {
  await withGateway(server, async (gateway) => {
    // JSON has neither.
    for (const odd of [undefined, 1n]) {
      const cache = gateway.cache<unknown>(unique("chat").replace(":", "-"));
      let computed = 0;
      const compute = async (): Promise<unknown> => {
        computed += 1;
        await sleep(1);
        return odd;
      };
      const all = Array.from({ length: 3 }, async () => await cache.getOrCompute(REQUEST, compute));
      assert.deepEqual(await Promise.all(all), [odd, odd, odd]);
      assert.equal(computed, 3);
      const [figures] = await cache.figures();
      assert.deepEqual([figures?.releases, figures?.sets], [3, 0]);
    }
  });
});

test("a stream that cannot begin gives its lease up", async () => {
  await withGateway(server, async (gateway) => {
    const cache = gateway.streamCache<string>(unique("chat").replace(":", "-"));
    const fails = (): never => {
      throw new TypeError("mine");
    };
    await assert.rejects(collect(cache.stream(REQUEST, fails)), TypeError);
    assert.equal((await cache.entries.figures())[0]?.releases, 1);
    assert.equal((await collect(cache.stream(REQUEST, () => words(2)))).length, 2);
  });
});
