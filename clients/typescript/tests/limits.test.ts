// Limits, budgets and holds.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Gateway, requests } from "../src/index.js";
import { eventually, Server, unique, withGateway } from "./servers.js";

let server: Server;
before(async () => void (server = await Server.start()));
after(async () => await server.close());

test("windows and buckets", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("w");
    const first = await gateway.allow(key, 2);
    assert.deepEqual([first.outcome, first.reason, first.remaining, first.periodMs], ["admitted", "", 1, 60_000]);
    assert.equal((await gateway.allow(key, 2, { cost: 1, peek: true })).remaining, 1);
    const denied = await gateway.allow(key, 2, { cost: 2 });
    assert.deepEqual([denied.ok, denied.reason], [false, "limit"]);
    assert.equal((await gateway.allow(key, 2, { cost: 3 })).retryAfterMs, -1);
    assert.equal((await gateway.tokens(unique("b"), 1, 5, { perMs: 60_000, cost: 4 })).remaining, 1);
  });
});

test("headers of a limit", async () => {
  await withGateway(server, async (gateway) => {
    const decision = await gateway.allow(unique("w"), 2);
    assert.equal(decision.headers()["RateLimit-Policy"], '"requests";q=2;w=60');
    assert.equal(decision.headers("tokens")["x-ratelimit-limit-tokens"], "2");
  });
});

test("budgets and holds", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("l");
    const { budgets } = gateway;
    assert.equal(await budgets.charge(key, "0.25", { id: "one" }), "settled");
    assert.equal(await budgets.charge(key, "0.25", { id: "one" }), "settled");
    assert.equal(await budgets.charge(key, "-0.05", { refund: true }), "settled");
    assert.equal(await budgets.spent(key), "0.2");
    const within = await budgets.within(key, [[1, "MONTH"]], { cost: "0.5" });
    assert.deepEqual([within.ok, within.spent, within.remaining], [true, "0.2", "0.8"]);
    const over = await budgets.within(key, [[1, "MONTH"]], { cost: "0.9" });
    assert.deepEqual([over.ok, over.reason], [false, "limit"]);
    const hold = await budgets.reserve(key, "0.5", [[1, "MONTH"]]);
    assert.equal(hold.ok, true);
    assert.equal((await budgets.reserve(key, "0.5", [[1, "MONTH"]])).ok, false);
    assert.equal(await hold.commit("0.3"), "settled");
    assert.equal(await budgets.spent(key), "0.5");
    const cancelled = await budgets.reserve(key, "0.5", [[1, "MONTH"]]);
    assert.equal(await cancelled.cancel(), "settled");
    assert.equal(await cancelled.commit(), null);
    {
      await using kept = await budgets.reserve(key, "0.25", [[1, "MONTH"]]);
      assert.ok(kept.ok);
    }
    assert.equal(await budgets.spent(key), "0.75");
    // The server has forgotten it: it is charged under the hold's id.
    const forgotten = await budgets.reserve(key, "0.1", [[1, "MONTH"]]);
    await server.run(`DEL ${key}`);
    assert.equal(await forgotten.commit("0.125"), "charged");
    assert.equal(await budgets.spent(key), "0.125");
  });
});

test("holds end once", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("l");
    const hold = await gateway.budgets.reserve(key, 1, [[10, "DAY"]]);
    const all = await Promise.all(Array.from({ length: 5 }, async () => await hold.commit(2)));
    assert.deepEqual(
      all.filter((one) => one !== null),
      ["settled"],
    );
    assert.equal(await gateway.budgets.spent(key, "DAY"), "2");
    assert.throws(() => hold.use(-1), RangeError);
  });
});

test("an aborted reservation sets nothing aside", async () => {
  await withGateway(
    server,
    async (gateway) => {
      const key = unique("l");
      await gateway.budgets.charge(key, 0);
      const controller = new AbortController();
      await server.frozen(async () => {
        const { signal } = controller;
        const reserved = gateway.budgets.reserve(key, 1, [[10, "DAY"]], { signal });
        controller.abort();
        await assert.rejects(reserved, { name: "AbortError" });
      });
      await eventually(async () => gateway.kept === 0 && (await held(gateway, key)) === "0");
    },
    { kept: { everyMs: 20 } },
  );
});

async function held(gateway: Gateway, key: string): Promise<string> {
  const answer = await gateway.commands.run(requests.withinBudget(key, [[10, "DAY"]]));
  return answer.held;
}
