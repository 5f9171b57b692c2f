// Accounts with their policies, and the admissions that live in them.

import { Bucket, Window, type Asked } from "./limits.js";
import { Ledger, PERIODS, periodEnd, periodLength } from "./ledger.js";
import { LONGEST, NANO, NotInFake, refused, told, UNIT, up, Words, amountOf } from "./words.js";

/** Eleven fields, as GW.ADMIT replies them with ROWS DETAIL. */
export type Row = readonly (string | number)[];

interface Policy {
  readonly name: string;
  readonly kind: string;
  meter: string;
  shadow: boolean;
  decimal: boolean;
  fixed: boolean;
  perMs: number;
  rate: bigint;
  limit: bigint;
  period: string;
  /** Of BLOCK; Infinity for ever. */
  untilMs: number;
  window: Window;
  bucket: Bucket | null;
}

interface Admission {
  readonly at: number;
  end: number;
  readonly amounts: ReadonlyMap<string, bigint>;
  settled: boolean;
}

export class Account {
  readonly policies = new Map<string, Policy>();
  readonly admissions = new Map<string, Admission>();
  readonly #meters = new Map<string, Ledger>();
  cooldownUntil = 0;

  constructor(readonly ledger = new Ledger()) {}

  ledgerOf(meter: string): Ledger {
    if (meter === "usd") return this.ledger;
    const found = this.#meters.get(meter) ?? new Ledger();
    this.#meters.set(meter, found);
    return found;
  }

  live(now: number): Admission[] {
    return [...this.admissions.values()].filter(({ settled, end }) => !settled && end > now);
  }

  #held(meter: string, period: string, now: number): bigint {
    const admissions = this.live(now).reduce((sum, { amounts }) => sum + (amounts.get(meter) ?? 0n), 0n);
    return admissions + this.ledgerOf(meter).held(period, now);
  }

  rows(name: string, amounts: ReadonlyMap<string, bigint>, now: number): Row[] {
    const rows = Array.from(this.policies.values(), (policy) => this.#row(name, policy, amounts, now));
    const wait = this.cooldownUntil - now;
    return wait > 0 ? [...rows, [name, "COOLDOWN", 0, 0, 0, wait, wait, "COOLDOWN", "", -1, 0]] : rows;
  }

  #row(name: string, policy: Policy, amounts: ReadonlyMap<string, bigint>, now: number): Row {
    const { kind, meter, decimal, perMs, fixed } = policy;
    const step = decimal ? NANO : UNIT;
    const given = amounts.get(meter);
    const cost = given === undefined ? 0n : kind === "BUDGET" ? given : up(given, step);
    // A meter that is not named takes nothing, and passes while anything is left.
    const asked = given === undefined ? step : cost;
    let limit = policy.limit;
    let used = 0n;
    let period = -1;
    let reset: number;
    let answer: Asked;
    if (kind === "WINDOW") {
      answer = policy.window.ask(now, limit, perMs, asked, fixed);
      [used, period, reset] = [policy.window.used, perMs, policy.window.resetAfter(now, perMs)];
    } else if (kind === "BUCKET") {
      const per = BigInt(perMs);
      const [bucket, full] = this.#bucket(policy, now);
      answer = bucket.ask(policy.rate, full, asked * per);
      [used, period, reset] = [up((full - bucket.level) / per, step), perMs, bucket.resetAfter(policy.rate, full)];
    } else if (kind === "INFLIGHT") {
      const ends = this.live(now).map(({ end }) => end - now);
      const most = Number(limit / UNIT);
      ends.sort((one, other) => one - other);
      used = BigInt(ends.length) * UNIT;
      answer = used < limit ? [true, 0] : [false, most === 0 ? -1 : (ends[ends.length - most] ?? 0)];
      reset = Math.max(0, ...ends);
    } else if (kind === "BUDGET") {
      used = this.ledgerOf(meter).spent(policy.period, now) + this.#held(meter, policy.period, now);
      [reset, period] = [periodEnd(policy.period, now), periodLength(policy.period, now)];
      const allowed = given === undefined ? used < limit : used + cost <= limit;
      answer = allowed ? [true, 0] : [false, cost > limit ? -1 : reset];
    } else {
      const wait = policy.untilMs === Infinity ? -1 : Math.max(0, policy.untilMs - now);
      [answer, limit, reset] = [[wait === 0, wait], 0n, wait];
    }
    const plain = (value: bigint): string | number => told(value, decimal || kind === "BUDGET");
    const left = limit > used ? limit - used : 0n;
    const [allowed, retry] = answer;
    return [
      name,
      policy.name,
      Number(allowed),
      plain(limit),
      plain(left),
      retry,
      reset,
      kind,
      meter,
      period,
      plain(used),
    ];
  }

  #bucket(policy: Policy, now: number): readonly [Bucket, bigint] {
    const full = policy.limit * BigInt(policy.perMs);
    policy.bucket ??= new Bucket(now, full);
    policy.bucket.flow(now, policy.rate, full);
    return [policy.bucket, full];
  }

  refuses(rows: readonly Row[]): boolean {
    return rows.some((row) => row[2] === 0 && this.policies.get(String(row[1]))?.shadow !== true);
  }

  take(lease: string, amounts: ReadonlyMap<string, bigint>, now: number, ttl: number): void {
    this.admissions.set(lease, { at: now, end: now + ttl, amounts: new Map(amounts), settled: false });
    for (const policy of this.policies.values()) this.#count(policy, amounts.get(policy.meter) ?? 0n, now, now);
  }

  /** Adds to what a window or bucket has counted, or takes from it. */
  #count(policy: Policy, units: bigint, at: number, now: number): void {
    const whole = up(units, policy.decimal ? NANO : UNIT);
    if (policy.kind === "WINDOW") policy.window.take(at, whole, policy.fixed);
    if (policy.kind !== "BUCKET") return;
    const [bucket, full] = this.#bucket(policy, now);
    bucket.take(whole * BigInt(policy.perMs), full);
  }

  settle(lease: string, used: ReadonlyMap<string, bigint>, now: number): string {
    const admission = this.admissions.get(lease);
    if (admission === undefined) return "UNKNOWN";
    if (admission.settled) return "REPEATED";
    const late = admission.end <= now;
    admission.settled = true;
    const actual = new Map([...admission.amounts, ...used]);
    const budgets = new Set(["usd"]);
    for (const policy of this.policies.values()) {
      const step = policy.decimal ? NANO : UNIT;
      const [before, after] = [admission.amounts.get(policy.meter) ?? 0n, actual.get(policy.meter) ?? 0n];
      this.#count(policy, up(after, step) - up(before, step), admission.at, now);
      if (policy.kind === "BUDGET") budgets.add(policy.meter);
    }
    for (const meter of budgets) this.ledgerOf(meter).charge(actual.get(meter) ?? 0n, admission.at);
    return late ? "LATE" : "SETTLED";
  }

  /** Whether it is new. It keeps what it has counted if it counts the same. */
  put(made: Policy): boolean {
    const old = this.policies.get(made.name);
    if (old?.kind === made.kind && old.meter === made.meter && old.decimal === made.decimal) {
      made.window = old.window;
      made.bucket = old.bucket;
    }
    this.policies.set(made.name, made);
    return old === undefined;
  }

  /** The whole set, from the document of GW.POLICYPUT. */
  putDocument(document: string, now: number): void {
    let members: readonly Readonly<Record<string, unknown>>[];
    try {
      members = (JSON.parse(document) as { policies: typeof members }).policies;
    } catch {
      throw refused("not a document of policies: json");
    }
    const made = members.map((one) => policyOf(String(one["name"]), new Words(wordsOf(one)), now));
    const old = new Map(this.policies);
    this.policies.clear();
    for (const policy of made) {
      const before = old.get(policy.name);
      if (before !== undefined) this.policies.set(policy.name, before);
      this.put(policy);
    }
  }
}

const VALUES: Readonly<Record<string, readonly string[]>> = {
  WINDOW: ["limit"],
  BUCKET: ["rate", "burst"],
  INFLIGHT: ["max"],
  BUDGET: ["amount", "period"],
  BLOCK: [],
};
const OPTIONS: Readonly<Record<string, string>> = {
  per_ms: "PER",
  meter: "METER",
  soft_percent: "SOFT",
  for_ms: "FOR",
  until_ms: "UNTIL",
};
const FLAGS: Readonly<Record<string, string>> = { decimal: "DECIMAL", fixed: "FIXED", shadow: "SHADOW" };

/** A policy of a document as GW.POLICYSET's words. */
function wordsOf(members: Readonly<Record<string, unknown>>): string[] {
  const kind = String(members["kind"]).toUpperCase();
  const values = VALUES[kind];
  if (values === undefined) throw new NotInFake(`a policy of the kind ${kind}`);
  const words = [kind, ...values.map((name) => String(members[name]))];
  for (const [name, value] of Object.entries(members)) {
    const [option, flag] = [OPTIONS[name], FLAGS[name]];
    if (option !== undefined) words.push(option, String(value));
    else if (flag !== undefined) words.push(...(value === true ? [flag] : []));
    else if (!["name", "kind", ...values].includes(name)) throw refused(`unknown word: ${name} (policies)`);
  }
  return words;
}

/** A policy of GW.POLICYSET's words. */
export function policyOf(name: string, words: Words, now: number): Policy {
  const kind = words.take("kind").toUpperCase();
  if (VALUES[kind] === undefined) throw new NotInFake(`a policy of the kind ${kind}`);
  const made: Policy = {
    ...{ name, kind, meter: "", shadow: false, decimal: false, fixed: false, perMs: 0, rate: 0n, limit: 0n },
    ...{ period: "", untilMs: Infinity, window: new Window(), bucket: null },
  };
  if (kind === "WINDOW" || kind === "BUCKET") {
    made.meter = "requests";
    if (kind === "BUCKET") made.rate = amountOf(words.take("rate"), "rate");
    made.limit = amountOf(words.take("limit"), "limit");
  } else if (kind === "INFLIGHT") {
    made.limit = BigInt(words.integer("max", 0)) * UNIT;
  } else if (kind === "BUDGET") {
    made.meter = "usd";
    made.limit = amountOf(words.take("amount"), "amount");
    made.period = words.option();
    if (!PERIODS.includes(made.period)) throw refused(`not DAY, WEEK, MONTH or TOTAL: ${made.period}`);
  }
  while (words.left) option(made, words, now);
  if ((kind === "WINDOW" || kind === "BUCKET") && made.perMs === 0) throw refused("missing option: PER");
  return made;
}

function option(made: Policy, words: Words, now: number): void {
  const word = words.option();
  if (word === "PER") made.perMs = words.integer("PER", 1, LONGEST);
  else if (word === "METER") made.meter = words.named("METER", 64);
  else if (word === "DECIMAL") made.decimal = true;
  else if (word === "FIXED") made.fixed = true;
  else if (word === "SHADOW") made.shadow = true;
  else if (word === "SOFT") words.integer("SOFT", 1, 100);
  else if (word === "FOR") made.untilMs = now + words.integer("FOR", 1);
  else if (word === "UNTIL") made.untilMs = words.integer("UNTIL", 0);
  else throw new NotInFake(`the option ${word} of a policy`);
}
