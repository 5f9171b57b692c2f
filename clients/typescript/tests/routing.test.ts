// One of several targets, and the next one if it fails.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CallFailed, Denied, Gateway } from "../src/index.js";
import { account, Server, unique, withGateway } from "./servers.js";

let server: Server;
before(async () => void (server = await Server.start()));
after(async () => await server.close());

const MONTH = { name: "month", kind: "budget", amount: "10", period: "month" };
const RPM = { name: "rpm", kind: "window", limit: 100, per_ms: 60_000 };

async function described(
  gateway: Gateway,
  key: string,
): Promise<{ inFlight: number; latencyMs: number | null; cooldownMs: number }> {
  const found = await gateway.commands.describe(key);
  assert.ok(found?.type === "account");
  return found;
}

test("the first that has room", async () => {
  await withGateway(server, async (gateway) => {
    const full = await account(gateway, "t", { ...RPM, limit: 0 });
    const free = await account(gateway, "t", RPM);
    const attempt = await gateway.route([full, free, unique("none")], { tokens: 10 });
    assert.deepEqual([attempt.ok, attempt.target], [true, free]);
    await attempt.run(async () => await sleep(5));
    assert.ok(((await described(gateway, free)).latencyMs ?? 0) > 0);
    const denied = await gateway.route([full]);
    assert.deepEqual([denied.ok, denied.reason, denied.target], [false, "limit", ""]);
    assert.equal((await gateway.route([unique("none")])).reason, "no_account");
  });
});

test("the next one if it fails", async () => {
  await withGateway(server, async (gateway) => {
    const payer = await account(gateway, "a", MONTH);
    const bad = await account(gateway, "t", RPM);
    const good = await account(gateway, "t", RPM);
    const called: string[] = [];
    {
      await using request = await gateway.request(payer, [bad, good], { usd: 1 }, { pick: "FIRST" });
      const answer = await request.run(async (attempt) => {
        called.push(attempt.target);
        await Promise.resolve();
        if (attempt.target === bad) throw new CallFailed("overloaded", { retryAfterMs: 30_000 });
        attempt.use({ usd: "0.25" });
        return "Hello";
      });
      assert.equal(answer, "Hello");
    }
    assert.deepEqual(called, [bad, good]);
    assert.equal(await gateway.budgets.spent(payer), "0.25");
    assert.ok((await described(gateway, bad)).cooldownMs > 0);
    assert.deepEqual([(await described(gateway, bad)).inFlight, (await described(gateway, good)).inFlight], [0, 0]);
  });
});

class ProviderError extends Error {}

test("errors of a provider's package are failures", async () => {
  await withGateway(server, async (gateway) => {
    const targets = [await account(gateway, "t", RPM), await account(gateway, "t", RPM)];
    const payer = await account(gateway, "a", MONTH);
    await using request = await gateway.request(
      payer,
      targets,
      {},
      {
        pick: "FIRST",
        failures: (error) => (error instanceof ProviderError ? new CallFailed("x", { retryAfterMs: 5_000 }) : false),
      },
    );
    const called: string[] = [];
    const call = request.run(async (attempt) => {
      called.push(attempt.target);
      await Promise.resolve();
      throw called.length === 1 ? new ProviderError("x") : new TypeError("mine");
    });
    await assert.rejects(call, TypeError);
    assert.deepEqual(called, targets);
  });
});

test("nobody pays if all fail", async () => {
  await withGateway(server, async (gateway) => {
    const payer = await account(gateway, "a", MONTH);
    const targets = [await account(gateway, "t", RPM), await account(gateway, "t", RPM)];
    const request = await gateway.request(payer, targets, { usd: 1 });
    let calls = 0;
    const failed = request.run(async () => {
      calls += 1;
      await Promise.resolve();
      throw new CallFailed(`call ${String(calls)}`);
    });
    await assert.rejects(failed, (error) => {
      assert.ok(error instanceof Denied);
      assert.deepEqual([error.reason, error.status], ["every_target_failed", 503]);
      assert.equal((error.cause as Error).message, "call 2");
      return true;
    });
    await request.settle();
    assert.equal(await gateway.budgets.spent(payer), "0");
    assert.equal((await described(gateway, payer)).inFlight, 0);
  });
});

test("ends with the last error", async () => {
  await withGateway(server, async (gateway) => {
    const payer = await account(gateway, "a", MONTH);
    const targets = await Promise.all(Array.from({ length: 4 }, async () => await account(gateway, "t", RPM)));
    for (const options of [{ attempts: 2 }, { withinMs: 0, attempts: 9 }]) {
      let calls = 0;
      await using request = await gateway.request(payer, targets, {}, options);
      const failed = request.run(async () => {
        calls += 1;
        await sleep(2);
        throw new CallFailed(`call ${String(calls)}`);
      });
      await assert.rejects(failed, Denied);
      assert.equal(calls, options.attempts === 2 ? 2 : 1);
    }
  });
});

test("an error of the program tells no time", async () => {
  await withGateway(server, async (gateway) => {
    const target = await account(gateway, "t", RPM);
    const attempt = await gateway.route([target]);
    await assert.rejects(
      attempt.run(async () => await Promise.reject(new TypeError("mine"))),
      TypeError,
    );
    assert.deepEqual([attempt.settlement, (await described(gateway, target)).latencyMs], ["settled", null]);
  });
});

async function* words(count: number, failAt: number): AsyncGenerator<string> {
  for (let at = 0; at < count; at++) {
    await Promise.resolve();
    if (at === failAt) throw new CallFailed();
    yield `word ${String(at)}`;
  }
}

test("no other target once a piece was passed on", async () => {
  await withGateway(server, async (gateway) => {
    const payer = await account(gateway, "a", MONTH);
    const targets = [await account(gateway, "t", RPM), await account(gateway, "t", RPM)];
    for (const [failAt, calls] of [
      [1, 1],
      [0, 2],
    ] as const) {
      let called = 0;
      await using request = await gateway.request(payer, targets, {});
      const failed = request.run(async (attempt) => {
        called += 1;
        for await (const word of attempt.stream(words(3, failAt))) assert.ok(word);
      });
      await assert.rejects(failed, failAt === 1 ? CallFailed : Denied);
      assert.equal(called, calls);
    }
  });
});

test("the sum of the attempts has the estimate of what was not told", async () => {
  await withGateway(server, async (gateway) => {
    const payer = await account(gateway, "a", MONTH);
    const targets = [await account(gateway, "t", RPM), await account(gateway, "t", RPM)];
    {
      await using request = await gateway.request(payer, targets, { usd: "0.5", tokens: 100 });
      let calls = 0;
      await request.run(async (attempt) => {
        calls += 1;
        await Promise.resolve();
        attempt.use(calls === 1 ? { usd: "0.1" } : { usd: 0.2 });
        if (calls === 1) throw new CallFailed();
      });
    }
    assert.equal(await gateway.budgets.spent(payer), "0.3");
  });
});

test("nothing is paid if the loop is left after a failure", async () => {
  await withGateway(server, async (gateway) => {
    const payer = await account(gateway, "a", MONTH);
    const target = await account(gateway, "t", RPM);
    {
      await using request = await gateway.request(payer, [target], { usd: "0.5" });
      for await (const attempt of request.attempts()) {
        await attempt.failed();
        break;
      }
    }
    assert.equal(await gateway.budgets.spent(payer), "0");
  });
});

test("an aborted question of a route is undone", async () => {
  await withGateway(server, async (gateway) => {
    const target = await account(gateway, "t", RPM);
    await assert.rejects(gateway.route([target], {}, { signal: AbortSignal.abort() }), { name: "AbortError" });
    for (;;) {
      if (gateway.kept === 0 && (await described(gateway, target)).inFlight === 0) break;
      await gateway.sendKept();
      await sleep(10);
    }
  });
});
