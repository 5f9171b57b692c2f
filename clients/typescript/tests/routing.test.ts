// One of several targets, and the next one if it fails.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  CallFailed,
  Denied,
  Gateway,
  Telemetry,
  UnexpectedReply,
  WrongType,
  type Argument,
  type Attempt,
} from "../src/index.js";
import { FakeRedis } from "../src/testing/index.js";
import { account, eventually, Lines, PATIENT, Server, unique, withGateway } from "./servers.js";

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
    const controller = new AbortController();
    const asked = gateway.route([target], {}, { signal: controller.signal });
    controller.abort();
    await assert.rejects(asked, { name: "AbortError" });
    await eventually(() => gateway.kept === 1);
    assert.equal(await gateway.sendKept(), 1);
    assert.equal((await described(gateway, target)).inFlight, 0);
    // Nothing is asked if it was aborted before.
    await assert.rejects(gateway.route([target], {}, { signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.equal(gateway.kept, 0);
  });
});

async function breaker(gateway: Gateway, target: string): Promise<string | undefined> {
  const found = await gateway.commands.describe(target);
  return found?.type === "account" ? found.breakers.get("up")?.state : undefined;
}

class Mine extends Error {}

/** Ends in the middle, by an error of the program. */
async function brokenOff(attempt: Attempt, stream: boolean, pieces: number): Promise<void> {
  if (stream) {
    const source = attempt.stream(
      (async function* () {
        for (let at = 0; at < pieces; at++) yield await Promise.resolve(at);
        throw new Mine();
      })(),
    );
    if (pieces > 0) await source.next();
    else await assert.rejects(source.next(), Mine);
    await source.return?.();
  } else {
    const work = attempt.run(async () => {
      await Promise.resolve();
      if (pieces > 0) attempt.use({ usd: "0.5" });
      throw new Mine();
    });
    await assert.rejects(work, Mine);
  }
}

test("what says nothing about a target does not move its breaker", async () => {
  await withGateway(server, async (gateway) => {
    const target = await account(gateway, "t", MONTH);
    await server.run(`GW.POLICYSET ${target} up BREAKER 1 PER 3600000 OPEN 1`);
    for (const stream of [false, true]) {
      await (await gateway.route([target])).failed();
      await eventually(async () => (await breaker(gateway, target)) === "half-open");
      await brokenOff(await gateway.route([target], { usd: 1 }), stream, 0);
      assert.equal(await breaker(gateway, target), "half-open");
      await brokenOff(await gateway.route([target], { usd: 1 }), stream, 1);
      assert.equal(await breaker(gateway, target), "closed");
      assert.equal((await described(gateway, target)).inFlight, 0);
    }
    // The estimate of the first; what the second has told; nothing, because the model has failed; the estimate.
    assert.equal(await gateway.budgets.spent(target), "2.5");
  });
});

test("a target that is forgotten gets its money also if it said nothing", async () => {
  await withGateway(server, async (gateway) => {
    const target = await account(gateway, "t", MONTH);
    const attempt = await gateway.route([target], { usd: 1 });
    await server.run(`DEL ${target}`);
    await brokenOff(attempt, false, 0);
    assert.equal(attempt.settlement, "charged");
    assert.equal(await gateway.budgets.spent(target), "1");
  });
});

class Counted extends Telemetry {
  trips = 0;
  override async call<T>(_operation: string, _server: string, work: () => Promise<T>): Promise<T> {
    this.trips += 1;
    return await work();
  }
}

test("accounts and targets are asked in one round trip", async () => {
  const telemetry = new Counted();
  await withGateway(
    server,
    async (gateway) => {
      const payer = await account(gateway, "a", MONTH);
      const targets = [await account(gateway, "t", RPM), await account(gateway, "t", RPM)];
      telemetry.trips = 0;
      {
        await using request = await gateway.request(payer, targets, { usd: 1 }, { pick: "FIRST" });
        assert.deepEqual([request.ok, telemetry.trips], [true, 1]);
        await request.run(async (attempt) => {
          await Promise.resolve();
          assert.deepEqual([attempt.target, telemetry.trips], [targets[0], 1]);
          attempt.use({ usd: "0.5" });
        });
      }
      for (const key of [payer, targets[0] ?? ""]) assert.equal(await gateway.budgets.spent(key), "0.5");
      // Its target is not called.
      await (await gateway.request(payer, targets, { usd: 1 })).settle();
      for (const key of targets) assert.equal((await described(gateway, key)).inFlight, 0);
      assert.equal(await gateway.budgets.spent(targets[1] ?? ""), "0");
    },
    { telemetry },
  );
});

test("accounts that refuse take nothing of a target", async () => {
  await withGateway(
    server,
    async (gateway) => {
      const full = await account(gateway, "a", { ...RPM, limit: 0 });
      const payer = await account(gateway, "a", MONTH);
      const target = await account(gateway, "t", MONTH);
      const text = unique("text");
      await server.run(`SET ${text} other`);
      const request = await gateway.request(full, [target], { usd: 1 });
      assert.deepEqual([request.ok, request.admission.reason], [false, "limit"]);
      assert.equal((await described(gateway, target)).inFlight, 0);
      await assert.rejects(gateway.request(text, [target], { usd: 1 }), WrongType);
      assert.equal((await described(gateway, target)).inFlight, 0);
      await assert.rejects(gateway.request(payer, [text], { usd: 1 }), WrongType);
      assert.equal(await gateway.sendKept(), 1);
      assert.equal((await described(gateway, payer)).inFlight, 0);
      for (const key of [payer, target]) assert.equal(await gateway.budgets.spent(key), "0");
    },
    { kept: { everyMs: 3_600_000 } },
  );
});

/** A server whose answer to GW.ROUTE is of a shape that nobody knows. */
class Odd extends FakeRedis {
  override execute(...args: readonly Argument[]): unknown {
    const reply = super.execute(...args);
    return args[0] === "GW.ROUTE" ? "odd" : reply;
  }
}

test("an answer that cannot be read keeps no target", async () => {
  const fake = new Odd();
  const gateway = new Gateway(fake, { ...PATIENT, logger: new Lines(), kept: { everyMs: 3_600_000 } });
  await gateway.commands.policyPut("t", JSON.stringify({ policies: [{ name: "f", kind: "inflight", max: 1 }] }));
  await assert.rejects(gateway.route(["t"]), UnexpectedReply);
  assert.equal(await gateway.sendKept(), 1);
  assert.equal((await gateway.admit("t")).ok, true);
  await gateway.close();
});
