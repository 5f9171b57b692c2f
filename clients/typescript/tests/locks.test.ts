// Slots and locks.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LockLost, Gateway } from "../src/index.js";
import { eventually, Lines, Proxy, Server, unique, withGateway } from "./servers.js";

let server: Server;
before(async () => void (server = await Server.start()));
after(async () => await server.close());

test("one at a time with growing tokens", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("lock");
    const first = await gateway.lock(key);
    assert.deepEqual([first.ok, first.outcome, first.reason, first.lost], [true, "admitted", "", false]);
    const second = await gateway.lock(key);
    assert.deepEqual([second.ok, second.reason, second.fencingToken], [false, "limit", 0]);
    assert.throws(() => second.check(), LockLost);
    first.check();
    assert.equal(await first.release(), true);
    assert.equal(await first.release(), false);
    {
      await using third = await gateway.lock(key);
      assert.ok(third.fencingToken > first.fencingToken);
    }
    assert.equal((await gateway.lock(key)).ok, true);
    const slots = await Promise.all([gateway.slot("s", 2), gateway.slot("s", 2), gateway.slot("s", 2)]);
    assert.equal(slots.filter(({ ok }) => ok).length, 2);
  });
});

test("waits for its turn", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("lock");
    const first = await gateway.lock(key);
    const second = gateway.lock(key, { waitMs: 30_000 });
    await eventually(async () => String(await server.run("INFO clients")).includes("blocked_clients:1"));
    // Ordinary calls go on meanwhile.
    assert.equal((await gateway.allow(unique("w"), 1)).ok, true);
    await first.release();
    const got = await second;
    assert.equal(got.ok, true);
    const late = await gateway.lock(key, { waitMs: 20 });
    assert.deepEqual([late.ok, late.reason], [false, "limit"]);
    await got.release();
  });
});

test("a wait is made of parts", async () => {
  await withGateway(
    server,
    async (gateway) => {
      const key = unique("lock");
      const first = await gateway.lock(key);
      const calls = async (): Promise<number> => {
        const stats = String(await server.run("INFO commandstats"));
        return Number(/cmdstat_gw\.acquire:calls=(\d+)/.exec(stats)?.[1] ?? 0);
      };
      const before_ = await calls();
      const waiting = gateway.lock(key, { waitMs: 60_000 });
      await eventually(async () => (await calls()) >= before_ + 3);
      await first.release();
      assert.equal((await waiting).ok, true);
    },
    { waitingTimeoutMs: 500 },
  );
});

test("a grant after a wait is held no longer than the server says", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("lock");
    const first = await gateway.lock(key, { ttlMs: 60_000 });
    const renewals = async (): Promise<number> => {
      const stats = String(await server.run("INFO commandstats"));
      return Number(/cmdstat_gw\.renew:calls=(\d+)/.exec(stats)?.[1] ?? 0);
    };
    const before_ = await renewals();
    const waiting = gateway.lock(key, { waitMs: 30_000, ttlMs: 60_000 });
    await first.release();
    const second = await waiting;
    assert.equal(second.ok, true);
    assert.equal(await renewals(), before_ + 1);
  });
});

test("renewed until it is lost", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("lock");
    const lock = await gateway.lock(key, { ttlMs: 1_500 });
    const { signal } = lock;
    // Longer than it lives without a renewal.
    assert.equal(await lock.untilLost(2_500), false);
    lock.check();
    await server.run(`DEL ${key}`);
    assert.equal(await lock.untilLost(), true);
    await eventually(() => signal.aborted);
    assert.ok(signal.reason instanceof LockLost);
    assert.throws(() => lock.check(), LockLost);
    assert.equal(gateway.figures()["locks_lost"], 1);
  });
});

test("lost when nobody answers", async () => {
  const proxy = new Proxy(server.port);
  const client = server.client({ port: await proxy.start() });
  const gateway = new Gateway(client, { timeoutMs: 2_000, connectTimeoutMs: 2_000, logger: new Lines() });
  const lock = await gateway.lock(unique("lock"), { ttlMs: 3_000 });
  assert.equal(lock.ok, true);
  proxy.target = 1;
  proxy.close();
  assert.equal(await lock.untilLost(), true);
  await gateway.close(100);
  client.disconnect();
});

test("an outage ends the wait for the loss", async () => {
  const own = await Server.start();
  await withGateway(own, async (gateway) => {
    const lock = await gateway.lock("lock", { ttlMs: 1_000 });
    assert.equal(lock.ok, true);
    const waiting = lock.untilLost();
    own.freeze();
    assert.equal(await waiting, true);
    own.thaw();
  });
  await own.close();
});

test("releases only its own", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("lock");
    const lost = await gateway.lock(key, { renew: false, ttlMs: 1 });
    let other = await gateway.lock(key);
    await eventually(async () => other.ok || ((other = await gateway.lock(key)), other.ok));
    assert.equal(await lost.release(), false);
    assert.equal((await gateway.lock(key)).ok, false);
    assert.equal(await other.release(), true);
  });
});

test("released on errors", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("lock");
    const work = async (): Promise<void> => {
      await using lock = await gateway.lock(key);
      lock.check();
      throw new Error("mine");
    };
    await assert.rejects(work(), /mine/);
    assert.equal((await gateway.lock(key)).ok, true);
  });
});

test("an aborted acquire leaves nothing taken", async () => {
  await withGateway(
    server,
    async (gateway) => {
      const key = unique("lock");
      const first = await gateway.lock(key);
      const controller = new AbortController();
      const waiting = gateway.lock(key, { waitMs: 60_000, signal: controller.signal });
      await eventually(async () => String(await server.run("INFO clients")).includes("blocked_clients:1"));
      controller.abort();
      await assert.rejects(waiting, { name: "AbortError" });
      await first.release();
      await eventually(async () => {
        const next = await gateway.lock(key);
        return next.ok;
      });
    },
    { waitingTimeoutMs: 1_000, kept: { everyMs: 20 } },
  );
});

test("more waiters than connections", async () => {
  await withGateway(
    server,
    async (gateway) => {
      const key = unique("lock");
      let inside = 0;
      const one = async (): Promise<void> => {
        await using lock = await gateway.lock(key, { waitMs: 60_000 });
        assert.ok(lock.ok);
        inside += 1;
        assert.equal(inside, 1);
        await sleep(1);
        inside -= 1;
      };
      await Promise.all(Array.from({ length: 6 }, one));
    },
    { waitingConnections: 2, timeoutMs: 200 },
  );
});

test("the signal of a slot", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("lock");
    const first = await gateway.lock(key, { ttlMs: 60_000 });
    const { signal } = first;
    assert.equal(first.signal, signal);
    assert.equal(signal.aborted, false);
    const none = await gateway.lock(key);
    assert.equal(none.signal.aborted, true);
    assert.ok(none.signal.reason instanceof LockLost);
    // Whoever waits for the loss does not wait any more once it is released.
    const waiting = first.untilLost();
    await first.release();
    assert.equal(await waiting, false);
    assert.equal(signal.aborted, false);
    await assert.rejects(gateway.lock(key, { signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.equal((await gateway.lock(key)).ok, true);
  });
});
