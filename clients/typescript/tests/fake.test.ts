// The in-memory fake: the recorded calls of the spec, and a gateway over it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Denied, Gateway, GatewayError } from "../src/index.js";
import { FakeRedis, NotInFake } from "../src/testing/index.js";
import { CASES, expected, requestOf, type Case } from "./calls.js";
import { Lines } from "./servers.js";
import { fromJson, load, plain, type Bytes } from "./vectors.js";

interface Setup {
  readonly name: string;
  readonly setup?: readonly (string | readonly Bytes[])[];
}

const SETUPS = new Map(
  (load("replies.in.json") as { readonly cases: readonly Setup[] }).cases.map((one) => [one.name, one.setup ?? []]),
);

/** The calls that the fake has. The cases of others are refused by name. */
const METHODS = new Set(
  (
    "acquire add-cost admit allow cache-clear-all cache-clear-category cache-clear-tag cache-del cache-fetch " +
    "cache-fetch-meta cache-get cache-get-meta cache-key cache-lease cache-release cache-set cancel commit " +
    "keep-alive log-len log-peek log-push policy-del policy-put policy-set release renew reserve route settle " +
    "spent tokens within-budget"
  ).split(" "),
);
/** Of these calls it does not have what the case is about: breakers, credits, windows with an anchor. */
const WITHOUT = new Set([
  "a window's policy",
  "a breaker's policy",
  "a commit of a credit's id",
  "admitted, every kind of policy in detail",
]);

function prepared(one: Case): FakeRedis {
  const fake = new FakeRedis();
  for (const words of SETUPS.get(one.name) ?? []) {
    if (words === "BLPOP no:such:list 0.05") fake.advance(50);
    else fake.execute(...(typeof words === "string" ? words.split(" ") : words.map(fromJson)));
  }
  return fake;
}

function alike(found: unknown, wanted: unknown, name = ""): void {
  if (name === "fencing_token" || name === "token") {
    // Random.
    assert.equal(Number(found) > 0, Number(wanted) > 0);
  } else if (name.endsWith("_ms") && Number(wanted) > 1_000_000) {
    // Until the end of a month: the recorded server had another clock. Or a millisecond has passed there.
    assert.ok(Number(found) > 0);
  } else if (typeof wanted === "object" && wanted !== null) {
    assert.deepEqual(Object.keys(found as object), Object.keys(wanted));
    for (const [key, value] of Object.entries(wanted)) alike((found as Record<string, unknown>)[key], value, key);
  } else {
    assert.equal(found, wanted);
  }
}

test("a vector of replies", () => {
  for (const one of CASES.filter(({ method }) => METHODS.has(method))) {
    const request = requestOf(one);
    if (WITHOUT.has(one.name)) {
      assert.throws(() => prepared(one).execute(...request.args), NotInFake, one.name);
      continue;
    }
    const fake = prepared(one);
    let { args } = request;
    // The token is random.
    if (one.name === "a fill lease is given up") args = [...args.slice(0, 2), "1000001"];
    try {
      alike(plain(request.decode(fake.execute(...args))), expected(one, one.resp2.value));
    } catch (error) {
      throw new Error(one.name, { cause: error });
    }
  }
});

test("other commands are refused by name", () => {
  for (const one of CASES.filter(({ method }) => !METHODS.has(method) && method !== "stats")) {
    assert.throws(() => new FakeRedis().execute(...requestOf(one).args), NotInFake, one.name);
  }
});

test("a vector of errors and amounts", () => {
  const fake = new FakeRedis();
  const { texts } = load("amounts.json") as {
    readonly texts: readonly { given: string; value?: string; error?: string }[];
  };
  for (const { given, value, error } of texts) {
    const words = ["GW.ADDCOST", `ledger:${given}`, given, ...(given.startsWith("-") ? ["REFUND"] : [])];
    if (error === undefined) assert.equal(fake.execute(...words), value, given);
    else assert.throws(() => fake.execute(...words), { text: `${error}: amount` }, given);
  }
  const known = new Set((load("errors.json") as { cases: readonly { type: string }[] }).cases.map(({ type }) => type));
  fake.execute("GW.POLICYSET", "a", "rpm", "WINDOW", "1", "PER", "60000");
  fake.execute("GW.ADMIT", "a", "LEASE", "1", "TTL", "1");
  fake.advance(1);
  for (const [line, name, text] of [
    ["GW.ADMIT a LEASE 1 TTL 1", "LeaseEnded", "lease has ended: 1"],
    ["GW.ADMIT b LEASE 1 TTL 1 REQUIRE", "NoAccount", "no such account: b"],
    ["GW.ROUTE b LEASE 1 TTL 1", "NoAccount", "no such account: b"],
    ["GW.COMMIT l h 1", "NoHold", "no such hold: it was never made, or is forgotten"],
    ["GW.LOGPUSH q MAXLEN 1 REJECT RECORDS a b", "QueueFull", "the queue is full: nothing was stored"],
    ["GW.ALLOW a 1", "WrongType", "Operation against a key holding the wrong kind of value"],
    ["GW.ALLOW k -1", "InvalidArgument", "not an integer from 0 to 9007199254740992: limit"],
    ["GW.LOGPUSH q JSON RECORDS {", "InvalidArgument", "not valid JSON: record 0 at byte 0"],
  ] as const) {
    assert.throws(
      () => fake.execute(...line.split(" ")),
      (error) => {
        assert.ok(error instanceof GatewayError && known.has(name));
        assert.deepEqual([error.name, error.text], [name, text]);
        return true;
      },
    );
  }
});

test("the gateway works without a server", async () => {
  const fake = new FakeRedis();
  await using gateway = new Gateway(fake, {
    away: { admission: "open" },
    failures: 1_000,
    logger: new Lines(),
    timeoutMs: 5_000,
  });
  await gateway.commands.policyPut("a", '{"policies":[{"name":"rpm","kind":"window","limit":2,"per_ms":60000}]}');
  const admission = await gateway.admit("a", { usd: "1" });
  admission.use({ usd: "0.25" });
  assert.equal(await admission.settle(), "settled");
  assert.equal(await gateway.budgets.spent("a"), "0.25");
  await (await gateway.admit("a")).settle();
  const denied = await gateway.admit("a");
  assert.deepEqual([denied.reason, denied.headers()["Retry-After"]], ["limit", "60"]);
  assert.throws(() => denied.throwIfDenied(), Denied);
  const cache = gateway.cache<string>("chat", { tenant: "ml" });
  for (let at = 0; at < 2; at++)
    assert.equal(await cache.getOrCompute({ a: 1 }, () => Promise.resolve("answer")), "answer");
  assert.deepEqual([await cache.clear(), await cache.get({ a: 1 })], [1, undefined]);
  const lock = await gateway.lock("l", { waitMs: 10 });
  assert.deepEqual([lock.ok, (await gateway.lock("l")).ok, await lock.release()], [true, false, true]);
  const hold = await gateway.budgets.reserve("l2", 1, [[5, "MONTH"]]);
  await hold.commit("0.5");
  const logs = gateway.logs("log");
  logs.push({ id: 1 });
  assert.equal(await logs.flush(), true);
  assert.equal(String((fake.execute("GW.LOGPEEK", "log") as Buffer[])[0]), '{"id":1}');
  assert.equal((await gateway.health()).ok, true);
  fake.away = true;
  assert.deepEqual([(await gateway.admit("a")).outcome, (await gateway.health()).ok], ["degraded", false]);
  assert.equal(await gateway.budgets.charge("l2", 1), "kept");
  fake.away = false;
  await gateway.sendKept();
  assert.equal(await gateway.budgets.spent("l2"), "1.5");
  assert.equal((await gateway.tokens("t", 1, 1)).ok, true);
  assert.equal((await gateway.tokens("t", 1, 1)).ok, false);
});

test("the clock is the tests'", async () => {
  const fake = new FakeRedis();
  await using gateway = new Gateway(fake, { timeoutMs: 5_000 });
  const ask = async (): Promise<string> => (await gateway.allow("k", 2)).outcome;
  assert.deepEqual([await ask(), await ask(), await ask()], ["admitted", "admitted", "denied"]);
  fake.advance(59_999);
  assert.equal(await ask(), "denied");
  fake.advance(1);
  assert.equal(await ask(), "admitted");
  await gateway.cache("chat", { ttlMs: 10_000 }).set({}, 1);
  fake.advance(10_000);
  assert.equal(await gateway.cache("chat").get({}), undefined);
});
