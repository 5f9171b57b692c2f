// Cache keys, amounts and headers: the same as the server's and as in every language.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import {
  addAmounts,
  admissionHeaders,
  cacheKey,
  canonical,
  compareAmounts,
  formatAmount,
  NotCanonical,
  parseAmount,
  parseRequest,
  requests,
  verdictHeaders,
  type HeaderFamily,
} from "../src/index.js";
import { checkedAmount } from "../src/amounts.js";
import { fromJson, load } from "./vectors.js";

interface KeyCase {
  readonly name: string;
  readonly json: string;
  readonly ignore: readonly string[];
  readonly canonical: string;
  readonly sha256: string;
}
interface Keys {
  readonly keys: readonly KeyCase[];
  readonly not_objects: readonly KeyCase[];
  readonly large: readonly KeyCase[];
  readonly refused: readonly { readonly json: string }[];
  readonly refused_bytes: readonly { readonly base64: string }[];
  readonly tenants: readonly {
    readonly category: string;
    readonly tenant: string | null;
    readonly json: string;
    readonly ignore: readonly string[];
    readonly key: string;
  }[];
  readonly refused_tenants: readonly string[];
  readonly refused_categories: readonly string[];
}

const KEYS = load("cache-keys.json") as Keys;

test("a request has the server's key", () => {
  for (const one of [...KEYS.keys, ...KEYS.not_objects, ...KEYS.large]) {
    const values = [JSON.parse(one.json), parseRequest(one.json), parseRequest(Buffer.from(one.json))] as unknown[];
    for (const value of values) {
      assert.equal(cacheKey("llm", value, { ignore: one.ignore }), `llm:${one.sha256}`, one.name);
    }
    assert.equal(createHash("sha256").update(one.canonical).digest("hex"), one.sha256, one.name);
    if (one.ignore.length === 0) assert.equal(canonical(values[0]), one.canonical, one.name);
  }
});

test("a text that could have two keys is refused", () => {
  for (const { json } of KEYS.refused) assert.throws(() => parseRequest(json), NotCanonical, json);
  for (const one of KEYS.refused_bytes) assert.throws(() => parseRequest(fromJson(one)), NotCanonical, one.base64);
});

test("a key says the tenant", () => {
  for (const { category, tenant, json, ignore, key } of KEYS.tenants) {
    assert.equal(cacheKey(category, JSON.parse(json), { tenant: tenant ?? undefined, ignore }), key);
  }
});

test("a colon is refused", () => {
  for (const tenant of KEYS.refused_tenants) assert.throws(() => cacheKey("chat", {}, { tenant }), /colon/);
  for (const category of KEYS.refused_categories) assert.throws(() => cacheKey(category, {}), /colon/);
});

test("a value without a canonical form is refused", () => {
  const values = [
    NaN,
    Infinity,
    2n ** 53n + 1n,
    10n ** 400n,
    "\ud800",
    { "\udc00": 1 },
    { a: Buffer.from("x") },
    new Date(),
  ];
  for (const value of [
    ...values,
    { a: new Set([1]) },
    { a: new Map() },
    Symbol("s"),
    () => 1,
    undefined,
    [undefined],
  ]) {
    assert.throws(() => canonical(value), NotCanonical);
  }
  assert.equal(canonical({ b: 2n ** 53n, a: undefined, c: -0 }), '{"b":9007199254740992,"c":0}');
});

test("nesting has a bound", () => {
  let value: unknown = 1;
  for (let depth = 0; depth < 128; depth++) value = [value];
  assert.equal(canonical(value), `${"[".repeat(128)}1${"]".repeat(128)}`);
  assert.throws(() => canonical({ a: value }), NotCanonical);
});

interface AmountVectors {
  readonly texts: readonly { readonly given: string; readonly value?: string; readonly error?: string }[];
  readonly floats: readonly { readonly given: number; readonly value: string }[];
  readonly sums: readonly { readonly given: readonly string[]; readonly value: string }[];
}

const AMOUNTS = load("amounts.json") as AmountVectors;

test("a text is the server's amount", () => {
  for (const { given, value, error } of AMOUNTS.texts) {
    if (error === undefined) assert.equal(formatAmount(parseAmount(given)), value, given);
    else assert.throws(() => parseAmount(given), { name: "RangeError", message: error }, given);
  }
  assert.throws(() => parseAmount("1".repeat(2049)), /amount too long/);
  assert.equal(formatAmount(parseAmount(`${"0".repeat(2047)}1`)), "1");
});

test("a number is sent as the number that it shows", () => {
  for (const { given, value } of AMOUNTS.floats) {
    const sent = String(requests.addCost("k", given).args.at(-1));
    assert.equal(formatAmount(parseAmount(sent)), value, String(given));
  }
  assert.deepEqual(requests.addCost("k", "1.5e-07").args, ["GW.ADDCOST", "k", "1.5e-07"]);
  assert.deepEqual(requests.addCost("k", 7n).args, ["GW.ADDCOST", "k", "7"]);
});

test("sums are exact", () => {
  for (const { given, value } of AMOUNTS.sums) assert.equal(addAmounts(...given), value);
  assert.equal(addAmounts(), "0");
  assert.deepEqual([compareAmounts("0.30", 0.3), compareAmounts("1e-12", 0), compareAmounts(1, "2")], [0, 1, -1]);
});

test("what the server would refuse is refused when it is told", () => {
  for (const amount of [-1, "-0.1", "x", NaN, Infinity, "1e19", null, undefined, {}, true] as never[]) {
    assert.throws(() => checkedAmount("usd", amount), RangeError);
  }
  for (const amount of [0, "0", 1.5, 3n, "1e18"]) assert.equal(checkedAmount("usd", amount), amount);
});

interface HeaderVectors {
  readonly now_ms: number;
  readonly verdicts: readonly {
    readonly name: string;
    readonly reply: unknown;
    readonly period_ms: number;
    readonly headers: Readonly<Record<string, string>>;
  }[];
  readonly admissions: readonly {
    readonly name: string;
    readonly reply: unknown;
    readonly meters?: Readonly<Record<string, string>>;
    readonly families?: readonly HeaderFamily[];
    readonly headers: Readonly<Record<string, string>>;
  }[];
}

const HEADERS = load("headers.json") as HeaderVectors;
const lowered = (headers: Readonly<Record<string, string>>): unknown =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));

test("a limiter's headers", () => {
  for (const { name, reply, period_ms, headers } of HEADERS.verdicts) {
    const verdict = requests.allow("k", 1).decode(reply);
    assert.deepEqual(lowered(verdictHeaders(name, verdict, period_ms, HEADERS.now_ms)), lowered(headers));
  }
});

test("an admission's headers", () => {
  for (const { name, reply, meters, families, headers } of HEADERS.admissions) {
    const admission = requests.admit("a", { leaseId: "l", ttlMs: 1 }).decode(reply);
    const made = admissionHeaders(admission, HEADERS.now_ms, { meters, families });
    assert.deepEqual(lowered(made), lowered(headers), name);
  }
});

test("rows without details make no headers", () => {
  const reply = [0, 1500, [["a", "rpm", 0, 1, 0, 1500, 60000]]];
  const admission = requests.admit("a", { leaseId: "l", ttlMs: 1 }).decode(reply);
  assert.deepEqual(admissionHeaders(admission, HEADERS.now_ms), { "Retry-After": "2" });
});
