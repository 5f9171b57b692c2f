// Admissions, from the question to the settlement.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Denied, Gateway, type Admission } from "../src/index.js";
import { account, eventually, Server, unique, withGateway } from "./servers.js";

let server: Server;
before(async () => void (server = await Server.start()));
after(async () => await server.close());

const RPM = { name: "rpm", kind: "window", limit: 3, per_ms: 60_000 };
const MONTH = { name: "month", kind: "budget", amount: "10", period: "month" };

async function held(gateway: Gateway, key: string): Promise<number> {
  const described = await gateway.commands.describe(key);
  assert.ok(described?.type === "account");
  return described.inFlight;
}

async function* pieces(count: number, failAt = Infinity): AsyncGenerator<{ tokens: number; usd: string }> {
  for (let at = 1; at <= count; at++) {
    await Promise.resolve();
    if (at > failAt) throw new Error("the model has failed");
    yield { tokens: at, usd: `0.0${String(at)}` };
  }
}

test("admitted and settled", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", RPM, MONTH);
    let seen: Admission;
    {
      await using admission = await gateway.admit(key, { tokens: 500, usd: "0.5" });
      seen = admission;
      assert.deepEqual(
        [admission.outcome, admission.reason, admission.ok, admission.status],
        ["admitted", "", true, 200],
      );
      assert.equal(await held(gateway, key), 1);
      admission.use({ tokens: 10, usd: "0.02" });
    }
    assert.equal(seen.settlement, "settled");
    assert.equal(await held(gateway, key), 0);
    assert.equal(await gateway.budgets.spent(key), "0.02");
    assert.equal(await gateway.withAdmission(key, { usd: 1 }, async (one) => await Promise.resolve(one.ok)), true);
    assert.equal(await gateway.budgets.spent(key), "1.02");
  });
});

test("denied says why and when", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", { ...RPM, limit: 1 });
    await (await gateway.admit(key)).settle();
    const denied = await gateway.admit(key);
    assert.deepEqual([denied.outcome, denied.reason, denied.status], ["denied", "limit", 429]);
    assert.ok(denied.retryAfterMs > 0);
    assert.deepEqual(
      denied.refusals.map(({ policy }) => policy),
      ["rpm"],
    );
    assert.equal(denied.headers()["RateLimit-Policy"], '"rpm";q=1;w=60');
    assert.ok(Number(denied.headers()["Retry-After"]) > 0);
    assert.throws(() => denied.throwIfDenied(), Denied);
    assert.equal(await denied.settle(), "nothing");
    assert.equal(gateway.figures()["decisions{family=admission,outcome=denied,reason=limit}"], 1);
  });
});

test("lease ids are random", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", { ...RPM, limit: 100 });
    const made = await Promise.all(Array.from({ length: 20 }, async () => await gateway.admit(key)));
    assert.equal(new Set(made.map(({ leaseId }) => leaseId)).size, 20);
    for (const admission of made) assert.match(admission.leaseId, /^[0-9a-f-]{36}$/);
    await Promise.all(made.map(async (admission) => await admission.undo()));
  });
});

test("settles once when several settle", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 });
    const all = await Promise.all(Array.from({ length: 10 }, async () => await admission.settle({ usd: 2 })));
    assert.deepEqual(
      all.filter((one) => one !== null),
      ["settled"],
    );
    assert.equal(await admission.settle({ usd: 3 }), "settled");
    assert.equal(await gateway.budgets.spent(key), "2");
    assert.equal(gateway.figures()["settlements{outcome=settled}"], 1);
  });
});

test("a settlement that is refused can be repeated", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 });
    const others = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`meter${String(at)}`, 1]));
    admission.use(others);
    await assert.rejects(admission.settle(), /too many|at most|meters/i);
    const second = await gateway.admit(key, { usd: 1 });
    assert.equal(await second.settle(), "settled");
    // A new one under the same lease: the server has changed nothing.
    assert.equal(await gateway.commands.settle(key, { leaseId: admission.leaseId }), "SETTLED");
  });
});

test("settled when the work fails", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const failing = gateway.withAdmission(key, { usd: 1 }, async (admission) => {
      admission.use({ usd: "0.25" });
      await Promise.resolve();
      throw new Error("mine");
    });
    await assert.rejects(failing, /mine/);
    assert.equal(await gateway.budgets.spent(key), "0.25");
    assert.equal(await held(gateway, key), 0);
  });
});

test("stream that ends", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 });
    const seen: number[] = [];
    for await (const piece of admission.stream(pieces(3), (one) => one)) seen.push(piece.tokens);
    assert.deepEqual(seen, [1, 2, 3]);
    assert.equal(admission.settlement, "settled");
    assert.equal(await gateway.budgets.spent(key), "0.03");
  });
});

test("stream that fails", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    for (const [failAt, spent] of [
      [2, "0.02"],
      [0, "0.02"],
    ] as const) {
      const admission = await gateway.admit(key, { usd: 1 });
      const read = async (): Promise<void> => {
        for await (const piece of admission.stream(pieces(3, failAt), (one) => one)) assert.ok(piece.tokens);
      };
      await assert.rejects(read(), /the model has failed/);
      assert.equal(admission.settlement, "settled");
      assert.equal(await gateway.budgets.spent(key), spent);
    }
    assert.equal(await held(gateway, key), 0);
  });
});

test("stream that is left", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const left = await gateway.admit(key, { usd: 1 });
    for await (const piece of left.stream(pieces(3), (one) => one)) if (piece.tokens === 1) break;
    assert.equal(left.settlement, "settled");
    const cancelled = await gateway.admit(key, { usd: 1 });
    const body = new Response("ab").body as ReadableStream<Uint8Array>;
    const reader = cancelled.readable(body, () => ({ usd: "0.5" })).getReader();
    assert.equal((await reader.read()).done, false);
    await reader.cancel();
    assert.equal(cancelled.settlement, "settled");
    const neverBegun = await gateway.admit(key, { usd: 1 });
    await neverBegun.readable(pieces(3)).cancel();
    assert.equal(neverBegun.settlement, "settled");
    assert.equal(await gateway.budgets.spent(key), "1.51");
    assert.equal(await held(gateway, key), 0);
  });
});

test("a stream that hangs does not hold up the settlement", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 });
    const silent = (async function* (): AsyncGenerator<number> {
      yield await new Promise<number>(() => undefined);
    })();
    const pieces_ = admission.stream(silent);
    void pieces_.next();
    void pieces_.return?.();
    await eventually(() => admission.settlement === "settled");
  });
});

test("a stream that cannot be read is settled", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const locked = new ReadableStream<string>();
    locked.getReader();
    const broken = {
      [Symbol.asyncIterator]: () => ({
        next: async () => await Promise.resolve({ done: false as const, value: "piece" }),
        return: (): never => {
          throw new TypeError("mine");
        },
      }),
    };
    for (const source of [locked, broken]) {
      const admission = await gateway.admit(key, { usd: 1 });
      const pieces_ = admission.stream<string>(source);
      if (source === locked) await assert.rejects(pieces_.next(), TypeError);
      else await assert.rejects(Promise.resolve(pieces_.return?.()), TypeError);
      assert.equal(admission.settlement, "settled");
    }
  });
});

test("an aborted call settles, and the abort does not interrupt that", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const controller = new AbortController();
    const { signal } = controller;
    let calling = false;
    const work = async (admission: Admission): Promise<void> => {
      admission.use({ usd: "0.125" });
      await new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
        calling = true;
      });
    };
    const call = gateway.withAdmission(key, { usd: 1 }, work, { signal });
    await eventually(() => calling);
    controller.abort();
    await assert.rejects(call, { name: "AbortError" });
    assert.equal(await gateway.budgets.spent(key), "0.125");
    assert.equal(await held(gateway, key), 0);
  });
});

test("an aborted question is undone", async () => {
  await withGateway(
    server,
    async (gateway) => {
      const key = await account(gateway, "a", RPM, MONTH);
      await (await gateway.admit(key, { usd: 1 })).undo();
      const controller = new AbortController();
      await server.frozen(async () => {
        const asked = gateway.admit(key, { usd: 1 }, { signal: controller.signal });
        controller.abort();
        await assert.rejects(asked, { name: "AbortError" });
      });
      await eventually(
        async () => gateway.kept === 0 && (await held(gateway, key)) === 0 && gateway.figures()["kept_sent"] === 1,
      );
      assert.equal(await gateway.budgets.spent(key), "0");
      await assert.rejects(gateway.admit(key, {}, { signal: AbortSignal.abort() }), { name: "AbortError" });
      await eventually(async () => gateway.kept === 0 && (await held(gateway, key)) === 0);
    },
    { kept: { everyMs: 20 } },
  );
});

test("an admission that nobody settles", async () => {
  await withGateway(
    server,
    async (gateway, { lines }) => {
      assert.ok(globalThis.gc, "run node with --expose-gc");
      const key = await account(gateway, "a", MONTH);
      await (async () => (await gateway.admit(key, { usd: "0.75" })).ok)();
      await eventually(async () => {
        globalThis.gc?.();
        return (await gateway.budgets.spent(key)) === "0.75" && (await held(gateway, key)) === 0;
      });
      assert.equal(gateway.figures()["admissions_leaked"], 1);
      assert.deepEqual(lines, ["an admission was never settled: it is settled at its estimates"]);
    },
    { kept: { everyMs: 20 } },
  );
});

test("unknown meters stay at their estimate", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH, {
      name: "tpm",
      kind: "window",
      limit: 1000,
      per_ms: 60_000,
      meter: "tokens",
    });
    const admission = await gateway.admit(key, { usd: 1, tokens: 100 });
    admission.use({ tokens: null, usd: undefined });
    await admission.settle({ tokens: 0 });
    assert.equal(await gateway.budgets.spent(key), "1");
    const undone = await gateway.admit(key, { usd: 1, tokens: 100 });
    assert.equal(undone.rows.find(({ policy }) => policy === "tpm")?.used, 100);
    await undone.undo();
    assert.equal(await gateway.budgets.spent(key), "1");
    const unused = await gateway.admit(key, { usd: 1 });
    unused.unused();
    await unused.settle();
    assert.equal(await gateway.budgets.spent(key), "1");
  });
});

test("use takes no amount that the server would refuse", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 });
    for (const usd of [-1, "x", NaN, "1e19", {} as never]) {
      assert.throws(() => admission.use({ tokens: 1, usd }), RangeError);
    }
    assert.equal(await admission.settle(), "settled");
    assert.equal(await gateway.budgets.spent(key), "1");
  });
});

test("kept alive until the cap", async () => {
  await withGateway(
    server,
    async (gateway) => {
      const key = await account(gateway, "a", MONTH);
      const admission = await gateway.admit(key, { usd: 1 });
      // It is lost only at the cap: until then its lease has been extended several times.
      await eventually(() => admission.lost);
      assert.equal(gateway.figures()["leases_lost"], 1);
      assert.equal(gateway.figures()["keep_alive_failed"], undefined);
      await admission.settle();
    },
    { leaseTtlMs: 600, leaseCapMs: 1_500 },
  );
});

test("kept alive while it lives", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 }, { ttlMs: 1_500 });
    const prolonged = async (): Promise<number> => {
      const stats = String(await server.run("INFO commandstats"));
      return Number(/cmdstat_gw\.keepalive:calls=(\d+)/.exec(stats)?.[1] ?? 0);
    };
    // Nobody reads a stream meanwhile. Six thirds are longer than it lives by itself.
    const before_ = await prolonged();
    await eventually(async () => (await prolonged()) >= before_ + 6);
    assert.deepEqual([await held(gateway, key), admission.lost], [1, false]);
    assert.equal(await admission.settle(), "settled");
  });
});

test("degraded admissions are kept alive if the server may have them", async () => {
  await withGateway(
    server,
    async (gateway) => {
      await eventually(async () => (await gateway.health()).ok);
      const key = await account(gateway, "a", MONTH);
      const admission = await server.frozen(async () => await gateway.admit(key, { usd: 1 }, { ttlMs: 2_000 }));
      assert.deepEqual([admission.outcome, admission.reason], ["degraded", "timeout"]);
      await eventually(async () => (await held(gateway, key)) === 1);
      const prolonged = async (): Promise<number> => {
        const stats = String(await server.run("INFO commandstats"));
        return Number(/cmdstat_gw\.keepalive:calls=(\d+)/.exec(stats)?.[1] ?? 0);
      };
      const before_ = await prolonged();
      await eventually(async () => (await prolonged()) >= before_ + 6);
      assert.equal(await held(gateway, key), 1);
      assert.equal(await admission.settle({ usd: "0.5" }), "settled");
      assert.equal(await gateway.budgets.spent(key), "0.5");
    },
    { timeoutMs: 1_000, away: { admission: "open" }, failures: 1_000 },
  );
});

test("a failed attempt to prolong ends nothing", async () => {
  const client = server.client();
  const gateway = new Gateway(client, {
    leaseTtlMs: 60_000,
    timeoutMs: 30,
    connectTimeoutMs: 5_000,
    failures: 1_000,
    logger: { warn: () => undefined, error: () => undefined },
  });
  const key = unique("a");
  await eventually(
    async () =>
      await gateway.commands.policyPut(key, JSON.stringify({ policies: [MONTH] })).then(
        () => true,
        () => false,
      ),
  );
  let admission = await gateway.admit(key, { usd: 1 }, { ttlMs: 300 });
  await eventually(
    async () => admission.ok || ((admission = await gateway.admit(key, { usd: 1 }, { ttlMs: 300 })), admission.ok),
  );
  await server.frozen(async () => await eventually(() => (gateway.figures()["keep_alive_failed"] ?? 0) > 0));
  assert.equal(admission.ok, true);
  await gateway.close();
  client.disconnect();
});

test("unknown is booked once under the lease", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: "0.5" });
    await server.run(`DEL ${key}`);
    await gateway.commands.policyPut(key, JSON.stringify({ policies: [MONTH] }));
    assert.equal(await admission.settle({ usd: "0.25" }), "charged");
    assert.equal(await gateway.budgets.spent(key), "0.25");
    // Under this id it is charged once.
    await gateway.budgets.charge(key, "0.25", { id: admission.leaseId });
    assert.equal(await gateway.budgets.spent(key), "0.25");
  });
});

test("late and repeated book nothing", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const repeated = await gateway.admit(key, { usd: 1 });
    await gateway.commands.settle(key, { leaseId: repeated.leaseId, amounts: { usd: "0.5" } });
    assert.equal(await repeated.settle({ usd: 2 }), "repeated");
    assert.equal(await gateway.budgets.spent(key), "0.5");
    const late = await gateway.admit(key, { usd: 1 }, { ttlMs: 1, keepAlive: false });
    await eventually(async () => (await held(gateway, key)) === 0);
    assert.equal(await late.settle({ usd: 2 }), "late");
    assert.equal(await gateway.budgets.spent(key), "2.5");
  });
});

test("accounts that do not exist", async () => {
  const plan = JSON.stringify({ policies: [RPM] });
  await withGateway(
    server,
    async (gateway) => {
      const known = unique("plan");
      const none = await gateway.admit(unique("none"), {}, { require: true });
      assert.deepEqual([none.outcome, none.reason, none.status, none.retryAfterMs], ["denied", "no_account", 403, -1]);
      await using admission = await gateway.admit(known, {}, { require: true });
      assert.equal(admission.outcome, "admitted");
      assert.ok((await gateway.commands.policyDocument(known))?.includes("rpm"));
      await using passed = await gateway.admit(unique("none"));
      assert.equal(passed.ok, true);
    },
    { plans: (name) => (name.startsWith("plan") ? { document: plan, idleMs: 60_000 } : null) },
  );
});
