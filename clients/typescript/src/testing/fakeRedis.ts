// The fake server: its clock, its keys, and its commands.

import { formatAmount } from "../amounts.js";
import { cacheKey, parseRequest } from "../cacheKey.js";
import type { Connection, Driver } from "../drivers/driver.js";
import { textOf, type Argument } from "../wire.js";
import { Account, policyOf, type Row } from "./accounts.js";
import { Ledger, PERIODS, type Budget } from "./ledger.js";
import { Bucket, Slots, Window } from "./limits.js";
import { Entry, FillLeases, Queue } from "./store.js";
import { LONGEST, NotInFake, refused, UNIT, unknown, wholeOf, Words } from "./words.js";

const LEAST = -(2 ** 53);
const ADMISSION_WORDS = ["SHADOW", "REQUIRE", "FAILED"];

interface Asked {
  readonly keys: readonly string[];
  readonly options: ReadonlyMap<string, string | number | true>;
  readonly lease: string;
  readonly amounts: Map<string, bigint>;
}

type Command = (words: Words) => unknown;

/** Instead of a client: `new Gateway(new FakeRedis())`. It has the commands that the gateway uses, in memory. */
export class FakeRedis implements Driver {
  readonly address = "fake";
  readonly name = "the fake";
  readonly nodes = null;
  /** While it is set, nothing is answered, as if the server were away. */
  away = false;
  /** All commands that were sent, the last ones last. */
  readonly calls: (readonly Argument[])[] = [];
  #keys = new Map<string, object>();
  #fills = new FillLeases();

  /** @param nowMs the server's clock, unix milliseconds: the beginning of 2026, until tests set it on */
  constructor(public nowMs = Date.UTC(2026, 0, 1)) {}

  /** Sets the clock on. */
  advance(ms: number): void {
    this.nowMs += Math.round(ms);
  }

  /** Forgets everything. */
  flush(): void {
    this.#keys = new Map();
    this.#fills = new FillLeases();
  }

  async connect(): Promise<Connection> {
    await Promise.resolve();
    if (this.away) throw new Error("the fake is away");
    const isAway = (): boolean => this.away;
    return {
      send: async (args) => await Promise.resolve().then(() => this.execute(...args)),
      get closed() {
        return isAway();
      },
      close: () => undefined,
    };
  }

  /** The reply of a command. Throws the errors of `redis-gateway`, and NotInFake for what it does not have. */
  execute(...args: readonly Argument[]): unknown {
    this.calls.push(args);
    if (this.away) throw new Error("the fake is away");
    const [name = "", ...words] = args;
    const command = this.#commands[String(name).toUpperCase()];
    if (command === undefined) throw new NotInFake(`the fake has no ${String(name)}`);
    return command(new Words(words));
  }

  readonly #commands: Readonly<Record<string, Command>> = {
    "GW.ALLOW": (words) => this.#allow(words),
    "GW.TOKENS": (words) => this.#tokens(words),
    "GW.ACQUIRE": (words) => this.#acquire(words),
    "GW.RENEW": (words) => this.#renew(words),
    "GW.RELEASE": (words) => this.#at(words.take(), Slots)?.release(this.nowMs, words.named("holder", 512)) ?? 0,
    "GW.ADDCOST": (words) => this.#addCost(words),
    "GW.SPENT": (words) => this.#spent(words),
    "GW.WITHINBUDGET": (words) => this.#withinBudget(words),
    "GW.RESERVE": (words) => this.#reserve(words),
    "GW.COMMIT": (words) =>
      (this.#ledger(words.take()) ?? new Ledger()).end(words.named("hold-id", 512), words.amount("actual")),
    "GW.CANCEL": (words) => (this.#ledger(words.take()) ?? new Ledger()).end(words.named("hold-id", 512), null),
    "GW.POLICYSET": (words) => this.#policySet(words),
    "GW.POLICYPUT": (words) => this.#policyPut(words),
    "GW.POLICYDEL": (words) => Number(this.#account(words.take())?.policies.delete(words.take()) ?? false),
    "GW.ADMIT": (words) => this.#admit(words),
    "GW.ROUTE": (words) => this.#route(words),
    "GW.SETTLE": (words) => this.#settle(words),
    "GW.KEEPALIVE": (words) => this.#keepAlive(words),
    "GW.CACHEGET": (words) => this.#cacheGet(words),
    "GW.CACHEFETCH": (words) => this.#cacheFetch(words),
    "GW.CACHESET": (words) => this.#cacheSet(words),
    "GW.CACHERELEASE": (words) => Number(this.#fills.end(words.take(), words.integer("token", 1), this.nowMs)),
    "GW.CACHEDEL": (words) =>
      this.#clear(
        words
          .rest()
          .map(textOf)
          .filter((key) => this.#entry(key) !== undefined),
      ),
    "GW.CACHECLEAR": (words) => this.#cacheClear(words),
    "GW.CACHEKEY": (words) => this.#cacheKey(words),
    "GW.LOGPUSH": (words) => this.#logPush(words),
    "GW.LOGLEN": (words) => this.#at(words.take(), Queue)?.records.length ?? 0,
    "GW.LOGPEEK": (words) => this.#logPeek(words),
    "GW.STATS": () => ["calls", this.calls.length],
  };

  #at<T extends object>(key: string, type: new (...args: never[]) => T): T | undefined {
    const found = this.#keys.get(key);
    if (found === undefined || found instanceof type) return found;
    throw refused("Operation against a key holding the wrong kind of value", "WRONGTYPE");
  }

  #made<T extends object>(key: string, type: new () => T): T {
    const found = this.#at(key, type) ?? new type();
    this.#keys.set(key, found);
    return found;
  }

  // Limits.

  #allow(words: Words): number[] {
    const [key, limit] = [words.take(), words.integer("limit", 0)];
    let [length, given, fixed, mode] = [60_000, "1", false, ""];
    while (words.left) {
      const option = words.option();
      if (option === "WINDOW") length = words.integer("WINDOW", 1, LONGEST);
      else if (option === "COST") given = words.take("COST");
      else if (option === "FIXED") fixed = true;
      else if (option === "PEEK" || option === "FORCE") mode = option;
      else throw unknown(option);
    }
    const cost = BigInt(wholeOf(given, "COST", mode === "FORCE" ? LEAST : 0)) * UNIT;
    const window = this.#at(key, Window) ?? new Window();
    let [allowed, retry] = window.ask(this.nowMs, BigInt(limit) * UNIT, length, cost, fixed);
    if (mode === "FORCE") [allowed, retry] = [true, 0];
    if (allowed && mode !== "PEEK" && cost !== 0n) {
      window.take(this.nowMs, cost, fixed);
      this.#keys.set(key, window);
    }
    const left = Math.max(0, limit - Number(window.used / UNIT));
    return [Number(allowed), limit, left, retry, window.resetAfter(this.nowMs, length)];
  }

  #tokens(words: Words): number[] {
    const [key, rate, burst] = [words.take(), words.integer("rate", 1), words.integer("burst", 0)];
    let [per, given, mode] = [60_000, "1", ""];
    while (words.left) {
      const option = words.option();
      if (option === "PER") per = words.integer("PER", 1, LONGEST);
      else if (option === "COST") given = words.take("COST");
      else if (option === "PEEK" || option === "FORCE") mode = option;
      else throw unknown(option);
    }
    const cost = BigInt(wholeOf(given, "COST", mode === "FORCE" ? LEAST : 0)) * BigInt(per);
    const full = BigInt(burst) * BigInt(per);
    const bucket = this.#at(key, Bucket) ?? new Bucket(this.nowMs, full);
    bucket.flow(this.nowMs, BigInt(rate), full);
    let [allowed, retry] = bucket.ask(BigInt(rate), full, cost);
    if (mode === "FORCE") [allowed, retry] = [true, 0];
    if (allowed && mode !== "PEEK") {
      bucket.take(cost, full);
      this.#keys.set(key, bucket);
    }
    const left = bucket.level > 0n ? Number(bucket.level / BigInt(per)) : 0;
    return [Number(allowed), burst, left, retry, bucket.resetAfter(BigInt(rate), full)];
  }

  #acquire(words: Words): number[] {
    const [key, most, holder] = [words.take(), words.integer("max", 0), words.named("holder", 512)];
    let ttl = 0;
    while (words.left) {
      const option = words.option();
      if (option === "TTL") ttl = words.integer("TTL", 1, LONGEST);
      // It never waits: nobody else can come meanwhile.
      else if (option === "BLOCK") words.integer("BLOCK", 0, LONGEST);
      else throw unknown(option);
    }
    if (ttl === 0) throw refused("missing option: TTL");
    const slots = this.#at(key, Slots) ?? new Slots();
    const reply = slots.acquire(this.nowMs, most, holder, ttl);
    if (reply[0] === 1) this.#keys.set(key, slots);
    return reply;
  }

  #renew(words: Words): number {
    const [slots, holder] = [this.#at(words.take(), Slots), words.named("holder", 512)];
    words.take();
    return slots?.renew(this.nowMs, holder, words.integer("TTL", 1, LONGEST)) ?? 0;
  }

  // Money.

  /** The ledger of a key, which may be an account's. */
  #ledger(key: string): Ledger | undefined {
    const found = this.#keys.get(key);
    return found instanceof Account ? found.ledger : this.#at(key, Ledger);
  }

  #madeLedger(key: string): Ledger {
    return this.#ledger(key) ?? this.#made(key, Ledger);
  }

  #addCost(words: Words): string {
    const [key, given] = [words.take(), words.take("amount")];
    let [at, id, refund] = [this.nowMs, "", false];
    while (words.left) {
      const option = words.option();
      // Whoever sends it has the real clock: what is later than here is now.
      if (option === "AT") at = Math.min(words.integer("AT", 0), this.nowMs);
      else if (option === "ID") id = words.named("ID", 512);
      else if (option === "REFUND") refund = true;
      else throw unknown(option);
    }
    const amount = new Words([given]).amount("amount", refund);
    if (refund && amount > 0n) throw refused("REFUND requires a negative amount: amount");
    const ledger = this.#madeLedger(key);
    const known = ledger.charges.get(id) ?? ledger.holds.get(id);
    if (known !== undefined) {
      if ("state" in known && known.state !== "committed") throw refused("a hold has this id: ID");
      at = known.at;
    } else {
      if (id !== "") ledger.charges.set(id, { amount, at });
      ledger.charge(amount, at);
    }
    return formatAmount(ledger.spent("MONTH", at));
  }

  #spent(words: Words): string {
    const ledger = this.#ledger(words.take());
    let [period, at] = ["MONTH", this.nowMs];
    while (words.left) {
      const option = words.option();
      if (PERIODS.includes(option)) period = option;
      else if (option === "DATE") at = Date.parse(words.take("DATE"));
      else throw new NotInFake(`the option ${option} of GW.SPENT`);
    }
    return formatAmount(ledger?.spent(period, at) ?? 0n);
  }

  #budgets(words: Words, options: readonly string[]): Budget[] {
    const budgets: Budget[] = [];
    while (words.left && !options.includes(words.next)) {
      const amount = words.amount("budget");
      budgets.push([amount, PERIODS.includes(words.next) ? words.option() : "MONTH"]);
    }
    return budgets;
  }

  #withinBudget(words: Words): unknown[] {
    const ledger = this.#ledger(words.take()) ?? new Ledger();
    const budgets = this.#budgets(words, ["COST"]);
    const cost = words.left ? (words.take(), words.amount("COST")) : null;
    const within = budgets.every((budget) => ledger.hasRoom(budget, this.nowMs, cost));
    return [Number(within), ...ledger.tightest(budgets, this.nowMs)];
  }

  #reserve(words: Words): unknown[] {
    const [key, estimate] = [words.take(), words.amount("estimate")];
    const budgets = this.#budgets(words, ["TTL", "ID"]);
    let [ttl, id] = [300_000, `fake:${String(this.calls.length)}`];
    while (words.left) {
      if (words.option() === "TTL") ttl = words.integer("TTL", 1, LONGEST);
      else id = words.named("ID", 512);
    }
    const ledger = this.#madeLedger(key);
    const hold = ledger.holds.get(id);
    if (hold?.state === "" && hold.end > this.nowMs) return [1, id, ...ledger.tightest(budgets, this.nowMs)];
    if (hold !== undefined || ledger.charges.has(id)) throw refused("id already used: ID");
    const granted = budgets.every((budget) => ledger.hasRoom(budget, this.nowMs, estimate));
    if (granted) ledger.hold(id, estimate, this.nowMs, ttl);
    return [Number(granted), granted ? id : null, ...ledger.tightest(budgets, this.nowMs)];
  }

  // Accounts.

  /** An account; a ledger without policies is none. */
  #account(key: string): Account | undefined {
    const found = this.#keys.get(key);
    if (!(found instanceof Account)) {
      this.#at(key, Ledger);
      return undefined;
    }
    return found.policies.size > 0 || found.cooldownUntil > this.nowMs ? found : undefined;
  }

  #madeAccount(key: string): Account {
    const known = this.#keys.get(key);
    const account = known instanceof Account ? known : new Account(this.#at(key, Ledger));
    this.#keys.set(key, account);
    return account;
  }

  #policySet(words: Words): number {
    const [key, name] = [words.take(), words.named("name", 64)];
    return Number(this.#madeAccount(key).put(policyOf(name, words, this.nowMs)));
  }

  #policyPut(words: Words): number {
    const [key, document] = [words.take(), words.take("json")];
    const nx = words.rest().some((word) => textOf(word).toUpperCase() === "NX");
    if (nx && this.#account(key) !== undefined) return 0;
    this.#madeAccount(key).putDocument(document, this.nowMs);
    return 1;
  }

  #asked(words: Words, most: number): Asked {
    const keys = words.keys(most);
    const options = new Map<string, string | number | true>();
    const amounts = new Map<string, bigint>();
    while (words.left) {
      const word = words.take();
      const option = word.toUpperCase();
      if (option === "LEASE") options.set(option, words.named("LEASE", 512));
      else if (option === "TTL" || option === "COOLDOWN") options.set(option, words.integer(option, 1, LONGEST));
      else if (option === "TOOK") options.set(option, words.integer(option, 0, LONGEST));
      else if (option === "ROWS" || option === "PICK") options.set(option, words.option());
      else if (ADMISSION_WORDS.includes(option)) options.set(option, true);
      else amounts.set(word, words.amount(word));
    }
    const lease = options.get("LEASE");
    if (lease === undefined) throw refused("missing option: LEASE");
    return { keys, options, lease: String(lease), amounts };
  }

  #admit(words: Words): unknown[] {
    const asked = this.#asked(words, 15);
    if (!asked.options.has("TTL")) throw refused("missing option: TTL");
    if (!asked.amounts.has("requests")) asked.amounts.set("requests", UNIT);
    const found = new Map<string, Account>();
    for (const key of asked.keys) {
      const account = this.#account(key);
      if (account !== undefined) found.set(key, account);
      else if (asked.options.has("REQUIRE")) throw refused(`no such account: ${key}`, "NOACCOUNT");
    }
    const [admitted, retry, rows] = this.#decided(found, asked);
    return [admitted, retry, toldRows(rows, String(asked.options.get("ROWS") ?? "ALL"))];
  }

  #decided(accounts: ReadonlyMap<string, Account>, asked: Asked): readonly [number, number, Row[]] {
    const { lease, amounts, options } = asked;
    const now = this.nowMs;
    const known = new Set<string>();
    for (const [key, { admissions }] of accounts) {
      const admission = admissions.get(lease);
      if (admission === undefined) continue;
      if (admission.settled || admission.end <= now) throw refused(`lease has ended: ${lease}`, "LEASEENDED");
      known.add(key);
    }
    const asking = Array.from(accounts).filter(([key]) => !known.has(key));
    const before = new Map(asking.map(([key, account]) => [key, account.rows(key, amounts, now)]));
    const refusing = asking.filter(([key, account]) => account.refuses(before.get(key) ?? []));
    const waits = refusing.flatMap(([key]) =>
      (before.get(key) ?? []).filter((row) => row[2] === 0).map((row) => Number(row[5])),
    );
    const shadow = options.has("SHADOW");
    if (refusing.length === 0 && !shadow) {
      for (const [, account] of asking) account.take(lease, amounts, now, Number(options.get("TTL")));
    }
    const rows = Array.from(accounts).flatMap(([key, account]) =>
      account.rows(key, amounts, now).map((row, at): Row => {
        const old = before.get(key)?.[at];
        // What is left now, and what was decided before.
        const [allowed, retry] = known.has(key) ? [1, 0] : [old?.[2] ?? 1, old?.[5] ?? 0];
        return [...row.slice(0, 2), allowed, ...row.slice(3, 5), retry, ...row.slice(6)];
      }),
    );
    const retry = waits.includes(-1) ? -1 : Math.max(0, ...waits);
    return [Number(refusing.length === 0 || shadow), retry, rows];
  }

  /** The first that admits it, whatever PICK says. */
  #route(words: Words): unknown[] {
    const asked = this.#asked(words, 63);
    const { keys, lease, amounts } = asked;
    if (!amounts.has("requests")) amounts.set("requests", UNIT);
    const found = keys.flatMap((key) => {
      const account = this.#account(key);
      return account === undefined ? [] : [[key, account] as const];
    });
    if (found.length === 0) throw refused(`no such account: ${keys[0] ?? ""}`, "NOACCOUNT");
    const rowsOf = ([key, account]: readonly [string, Account]): Row[] => account.rows(key, amounts, this.nowMs);
    const known = found.find(([, { admissions }]) => admissions.has(lease));
    const chosen = known ?? found.find((one) => !one[1].refuses(rowsOf(one)));
    const rows: Row[] = [];
    const waits: number[] = [];
    for (const key of keys) {
      const one = found.find(([name]) => name === key);
      if (one === undefined) {
        rows.push([key, "NOACCOUNT", 0, 0, 0, -1, -1]);
      } else if (one === chosen) {
        rows.push(...this.#decided(new Map([one]), asked)[2]);
      } else {
        const own = rowsOf(one);
        rows.push(...own);
        const refusing = own.filter((row) => row[2] === 0).map((row) => Number(row[5]));
        if (refusing.length > 0 && !refusing.includes(-1)) waits.push(Math.max(...refusing));
      }
    }
    const retry = chosen !== undefined ? 0 : waits.length > 0 ? Math.min(...waits) : -1;
    return [chosen?.[0] ?? null, retry, toldRows(rows, String(asked.options.get("ROWS") ?? "NONE"))];
  }

  #settle(words: Words): string {
    const { keys, options, lease, amounts } = this.#asked(words, 15);
    const outcomes = keys.flatMap((key) => {
      const account = this.#keys.get(key);
      if (!(account instanceof Account)) return [];
      const outcome = account.settle(lease, amounts, this.nowMs);
      const cooldown = Number(options.get("COOLDOWN") ?? 0);
      if (cooldown > 0 && (outcome === "SETTLED" || outcome === "LATE")) {
        account.cooldownUntil = Math.max(account.cooldownUntil, this.nowMs + cooldown);
      }
      return [outcome];
    });
    return ["SETTLED", "LATE", "REPEATED"].find((one) => outcomes.includes(one)) ?? "UNKNOWN";
  }

  #keepAlive(words: Words): number {
    const { keys, options, lease } = this.#asked(words, 15);
    const live = keys.flatMap((key) => this.#account(key)?.admissions.get(lease) ?? []);
    const kept = live.filter(({ settled, end }) => !settled && end > this.nowMs);
    for (const admission of kept) admission.end = this.nowMs + Number(options.get("TTL"));
    return kept.length;
  }

  // The cache.

  #entry(key: string): Entry | undefined {
    const entry = this.#at(key, Entry);
    if (entry === undefined || entry.until > this.nowMs) return entry;
    this.#keys.delete(key);
    return undefined;
  }

  #answer(entry: Entry | undefined): [string, Buffer | null, number, number, number] {
    if (entry === undefined) return ["MISS", null, 0, 0, 0];
    const fresh = this.nowMs < entry.freshUntil;
    const left = (fresh ? entry.freshUntil : entry.until) - this.nowMs;
    return [fresh ? "HIT" : "STALE", entry.value, this.nowMs - entry.at, left, 0];
  }

  #cacheGet(words: Words): unknown {
    const entry = this.#entry(words.take());
    return words.next === "META" ? this.#answer(entry) : (entry?.value ?? null);
  }

  #cacheFetch(words: Words): unknown {
    const key = words.take();
    let [meta, lease, holder, touch] = [false, 0, "", false];
    while (words.left) {
      const option = words.option();
      if (option === "LEASE") lease = words.integer("LEASE", 1, 3_600_000);
      else if (option === "HOLDER") holder = words.named("HOLDER", 512);
      // It never waits.
      else if (option === "WAIT") words.integer("WAIT", 1, 3_600_000);
      else if (option === "CATEGORY") words.named("CATEGORY", 64);
      else if (option === "META") meta = true;
      else if (option === "TOUCH") touch = true;
      else throw unknown(option);
    }
    const entry = this.#entry(key);
    if (touch) entry?.touch(this.nowMs);
    const answer = this.#answer(entry);
    if (lease > 0 && answer[0] !== "HIT") {
      const [token, left] = this.#fills.ask(key, this.nowMs, lease, holder);
      answer[4] = token;
      if (entry === undefined) [answer[0], answer[3]] = [token > 0 ? "MISS" : "PENDING", left];
    }
    return meta || lease > 0 ? answer : answer[1];
  }

  #cacheSet(words: Words): string | null {
    const [key, value] = [words.take(), words.bytes()];
    let [fresh, stale, category, token] = [3_600_000, 0, categoryOf(key), 0];
    const tags: string[] = [];
    while (words.left) {
      const option = words.option();
      if (option === "EX") fresh = words.integer("EX", 1, LONGEST / 1000) * 1000;
      else if (option === "PX") fresh = words.integer("PX", 1, LONGEST);
      else if (option === "STALE") stale = words.integer("STALE", 0, LONGEST);
      else if (option === "CATEGORY") category = words.named("CATEGORY", 64);
      else if (option === "TAG") tags.push(words.named("TAG", 256));
      else if (option === "SAVED") words.amount("SAVED");
      else if (option === "TOKEN") token = words.integer("TOKEN", 1);
      else throw unknown(option);
    }
    this.#at(key, Entry);
    const names = ["ALL ", `CATEGORY ${category}`, ...tags.map((tag) => `TAG ${tag}`)];
    if (token > 0 && !(this.#fills.end(key, token, this.nowMs) && this.#fills.mayStore(token, names))) return null;
    this.#fills.forget(key);
    this.#keys.set(key, new Entry(value, this.nowMs, fresh, stale, category, tags));
    return "OK";
  }

  #cacheClear(words: Words): number {
    const by = words.option();
    const name = words.left ? words.take() : "";
    if (!["TAG", "CATEGORY", "ALL"].includes(by)) throw new NotInFake(`GW.CACHECLEAR ${by}`);
    this.#fills.clear(`${by} ${name}`);
    const matches = ({ tags, category }: Entry): boolean =>
      by === "ALL" || (by === "TAG" ? tags.includes(name) : category === name);
    const found = [...this.#keys.keys()].filter((key) => {
      const entry = this.#keys.get(key) instanceof Entry ? this.#entry(key) : undefined;
      return entry !== undefined && matches(entry);
    });
    return this.#clear(found);
  }

  #clear(keys: readonly string[]): number {
    for (const key of keys) {
      this.#keys.delete(key);
      this.#fills.forget(key);
    }
    return keys.length;
  }

  #cacheKey(words: Words): string {
    const [prefix, text] = [words.take(), words.take()];
    const ignore = words.rest().slice(1).map(textOf);
    const colon = prefix.indexOf(":");
    const [category, tenant] = colon < 0 ? [prefix, undefined] : [prefix.slice(0, colon), prefix.slice(colon + 1)];
    try {
      return cacheKey(category, parseRequest(text), { tenant, ignore });
    } catch {
      throw refused("not valid JSON: at byte 0");
    }
  }

  // Log queues.

  #logPush(words: Words): number[] {
    const key = words.take();
    let [most, bytes, reject, json, id] = [1_000_000, 64 * 1024 * 1024, false, false, ""];
    while (["MAXLEN", "MAXBYTES", "REJECT", "JSON", "ID"].includes(words.next)) {
      const option = words.option();
      if (option === "MAXLEN") most = words.integer("MAXLEN", 1);
      else if (option === "MAXBYTES") bytes = words.integer("MAXBYTES", 1);
      else if (option === "ID") id = words.named("ID", 512);
      else if (option === "REJECT") reject = true;
      else json = true;
    }
    if (words.next === "RECORDS") words.take();
    const records = words.rest();
    if (records.length === 0) throw refused("missing value: record");
    const wrong = json ? records.findIndex((record) => !isJson(record)) : -1;
    if (wrong >= 0) throw refused(`not valid JSON: record ${String(wrong)} at byte 0`);
    return this.#made(key, Queue).push(records, most, bytes, reject, id);
  }

  #logPeek(words: Words): Buffer[] {
    const queue = this.#at(words.take(), Queue);
    let [count, bytes] = [10, Infinity];
    while (words.left) {
      if (words.option() === "COUNT") count = words.integer("COUNT", 1, 10_000);
      else bytes = words.integer("MAXBYTES", 1);
    }
    const found: Buffer[] = [];
    for (const record of queue?.records ?? []) {
      bytes -= record.length;
      if (found.length === count || bytes < 0) break;
      found.push(record);
    }
    return found;
  }
}

function toldRows(rows: readonly Row[], which: string): Row[] {
  if (which === "NONE") return [];
  const kept = rows.filter((row) => which !== "REFUSED" || row[2] === 0);
  return which === "DETAIL" ? kept : kept.map((row) => row.slice(0, 7));
}

function categoryOf(key: string): string {
  const colon = key.indexOf(":");
  return colon >= 1 && colon <= 64 ? key.slice(0, colon) : "default";
}

function isJson(record: Buffer): boolean {
  try {
    JSON.parse(record.toString("utf8"));
    return true;
  } catch {
    return false;
  }
}
