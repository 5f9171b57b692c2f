// Batches of a queue, for whoever works on them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Unavailable, type LogBatch } from "../src/index.js";
import { eventually, PATIENT, Server, unique, withGateway } from "./servers.js";

let server: Server;
before(async () => void (server = await Server.start()));
after(async () => await server.close());

async function calls(name: string): Promise<number> {
  const stats = String(await server.run("INFO commandstats"));
  return Number(new RegExp(`cmdstat_gw\\.${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
}

const texts = ({ records }: LogBatch): string[] => records.map(String);

test("acknowledged or given back", async () => {
  await withGateway(server, async (gateway) => {
    const queue = unique("q");
    await gateway.commands.logPush(queue, ["a", "b", "c"]);
    const done = await gateway.withLease(
      queue,
      async (batch) => {
        await Promise.resolve();
        assert.deepEqual([batch.ok, batch.lost, texts(batch), batch.delivery], [true, false, ["a", "b"], 1]);
        return batch;
      },
      { count: 2 },
    );
    assert.equal(await done?.acknowledge(), false);
    for (const delivery of [1, 2]) {
      const failing = gateway.withLease(
        queue,
        async (batch) => {
          await Promise.resolve();
          assert.deepEqual([texts(batch), batch.delivery], [["c"], delivery]);
          throw new RangeError("mine");
        },
        { waitMs: 20_000, retryAfterMs: 10, maxDeliveries: 2 },
      );
      await assert.rejects(failing, RangeError);
    }
    assert.equal(await gateway.withLease<string>(queue, never), undefined);
    const none = await gateway.lease(queue);
    assert.deepEqual([none.ok, texts(none), none.delivery, none.lost], [false, [], 0, false]);
    assert.deepEqual([await none.acknowledge(), await none.giveBack()], [false, false]);
    const [letter] = await gateway.commands.logDeadList(queue);
    assert.deepEqual(letter?.records.map(String), ["c"]);
    assert.equal(await gateway.commands.logLen(queue), 0);
    // What a block leaves without an acknowledgement.
    await gateway.commands.logPush(queue, ["d"]);
    {
      await using batch = await gateway.lease(queue, { retryAfterMs: 0 });
      assert.deepEqual(texts(batch), ["d"]);
    }
    {
      await using batch = await gateway.lease(queue, { waitMs: 20_000 });
      assert.equal(batch.delivery, 2);
      assert.equal(await batch.acknowledge(), true);
    }
    assert.equal((await gateway.lease(queue)).ok, false);
  });
});

test("waits for records", async () => {
  // Also for longer than a call of the server may wait.
  await withGateway(
    server,
    async (gateway) => {
      const queue = unique("q");
      const asked = gateway.lease(queue, { waitMs: 60_000 });
      const before = await calls("logpop");
      await eventually(async () => (await calls("logpop")) >= before + 2);
      await gateway.commands.logPush(queue, ["a"]);
      const batch = await asked;
      assert.deepEqual(texts(batch), ["a"]);
      assert.equal(await batch.acknowledge(), true);
    },
    { waitingTimeoutMs: 1_000 },
  );
});

test("a lease is renewed while the work goes on", async () => {
  await withGateway(server, async (gateway) => {
    const queue = unique("q");
    await gateway.commands.logPush(queue, ["a"]);
    const batch = await gateway.lease(queue, { ttlMs: 4_500 });
    // Four thirds of its time.
    await eventually(async () => (await calls("logextend")) >= 4);
    assert.deepEqual([(await gateway.lease(queue)).ok, batch.lost], [false, false]);
    assert.equal(await batch.acknowledge(), true);
    assert.equal((await gateway.commands.logStats(queue))?.acked, 1);
  });
});

test("a lost batch leaves that of another alone", async () => {
  await withGateway(server, async (gateway) => {
    const queue = unique("q");
    await gateway.commands.logPush(queue, ["a"]);
    const slow = await gateway.lease(queue, { ttlMs: 300 });
    // As if its lease had ended, and another program had got the records.
    await gateway.commands.logNack(queue, slow.batchId);
    const other = await gateway.lease(queue, { ttlMs: 60_000, waitMs: 20_000 });
    assert.deepEqual([other.batchId, other.delivery], [slow.batchId, 2]);
    await eventually(() => slow.lost && gateway.figures()["batches_lost"] === 1);
    assert.equal(await slow.acknowledge(), false);
    assert.equal(await other.giveBack(0), true);
    const third = await gateway.lease(queue, { waitMs: 20_000 });
    assert.equal(third.delivery, 3);
    assert.equal(await third.acknowledge(), true);
  });
});

test("an acknowledgement is sent later", async () => {
  const own = await Server.start();
  const quick = { timeoutMs: 300, connectTimeoutMs: 300, failures: 1_000, kept: { everyMs: 3_600_000 } };
  await withGateway(own, async (patient) => {
    await withGateway(
      own,
      async (gateway) => {
        let batch: LogBatch | undefined;
        // Its answer may be late on a busy machine.
        while (batch?.ok !== true) {
          await own.run("DEL q");
          await patient.commands.logPush("q", ["a"]);
          batch = await gateway.lease("q", { ttlMs: 600_000 }).catch(() => undefined);
        }
        const leased = batch;
        await own.frozen(async () => {
          assert.deepEqual([await leased.acknowledge(), gateway.kept], [true, 1]);
          await assert.rejects(gateway.lease("q"), Unavailable);
        });
        await eventually(async () => {
          await gateway.sendKept();
          return gateway.kept === 0;
        });
        assert.equal((await patient.commands.logStats("q"))?.acked, 1);
      },
      quick,
    );
  });
  await own.close();
});

test("records of who has left are given back", async () => {
  const own = await Server.start();
  await withGateway(
    own,
    async (gateway) => {
      const controller = new AbortController();
      const { signal } = controller;
      // The program leaves while it waits, and a record comes all the same.
      await gateway.commands.logLen("q");
      const waiting = gateway.lease("q", { ttlMs: 3_600_000, waitMs: 60_000, signal });
      await eventually(async () => String(await own.run("INFO clients")).includes("blocked_clients:1"));
      controller.abort();
      await assert.rejects(waiting, { name: "AbortError" });
      await gateway.commands.logPush("q", ["a"]);
      // The wait that nobody wants any more has got it.
      const batch = await gateway.lease("q", { waitMs: 20_000 });
      assert.deepEqual([texts(batch), batch.delivery], [["a"], 2]);
      assert.equal(await batch.acknowledge(), true);
      await assert.rejects(gateway.lease("q", { signal }), { name: "AbortError" });
    },
    { ...PATIENT, waitingTimeoutMs: 60_000, kept: { everyMs: 20 } },
  );
  await own.close();
});

function never(): Promise<never> {
  return Promise.reject(new Error("never called"));
}
