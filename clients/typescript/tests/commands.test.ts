// The low level without a server: what it documents, and replies that it does not know.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { bytesOf, COMMANDS, Commands, errorOf, NoHold, requests, textOf, UnexpectedReply } from "../src/index.js";
import type { Policy, Request } from "../src/index.js";
import { PACKAGE } from "./vectors.js";

const WINDOW: Policy = { kind: "window", limit: 1, windowMs: 1 };

/** Each call with what it must have. */
const SAMPLES: Readonly<Record<string, Request<unknown>>> = {
  acquire: requests.acquire("k", 1, "h", { ttlMs: 1 }),
  addCost: requests.addCost("k", 1),
  admit: requests.admit("k", { leaseId: "l", ttlMs: 1 }),
  allow: requests.allow("k", 1),
  cacheLease: requests.cacheLease("k", { leaseMs: 1 }),
  cacheListTag: requests.cacheListTag(0, "t"),
  cacheSet: requests.cacheSet("k", "v"),
  cacheStats: requests.cacheStats(),
  cacheStatsTotal: requests.cacheStatsTotal(),
  commit: requests.commit("k", "h", 1),
  costChanges: requests.costChanges(),
  costSync: requests.costSync([["k", 1]]),
  describe: requests.describe("k"),
  keepAlive: requests.keepAlive(["a", "b"], { leaseId: "l", ttlMs: 1 }),
  logLease: requests.logLease("k", { count: 1, leaseMs: 1 }),
  logPush: requests.logPush("k", "r"),
  logStats: requests.logStats("k"),
  policyList: requests.policyList("k"),
  policySet: requests.policySet("k", "p", WINDOW),
  policyStats: requests.policyStats("k"),
  release: requests.release("k", "h"),
  reserve: requests.reserve("k", 1, [[1, "DAY"]], { ttlMs: 1 }),
  route: requests.route(["k"], { leaseId: "l", ttlMs: 1 }),
  settle: requests.settle("k", { leaseId: "l" }),
  spentHistory: requests.spentHistory("k", "DAY", 1),
  stats: requests.stats(),
  statsReset: requests.statsReset(),
  topDenied: requests.topDenied(),
  topMeter: requests.topMeter("usd"),
  withinBudget: requests.withinBudget("k", [[1, "DAY"]]),
};

/** Numbers that are the same in each run. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const ATOMS: readonly unknown[] = [
  ...[null, undefined, true, 0, 1, -1, 2 ** 60, 0.5, NaN, 7n, "", "OK", "HIT", "1.5", "1e5", {}],
  ...["", "OK", "MISS", "type", "1e5", "ledger"].map((text) => Buffer.from(text)),
  Buffer.of(0xff),
];

/** A reply of any shape. */
function anything(random: () => number, depth: number): unknown {
  const pick = <T>(values: readonly T[]): T | undefined => values[Math.floor(random() * values.length)];
  if (depth === 0 || random() < 0.4) return pick(ATOMS);
  const items = Array.from({ length: pick([0, 1, 2, 3, 5, 7, 8, 11]) ?? 0 }, () => anything(random, depth - 1));
  return random() < 0.3 ? new Map(items.map((item) => [pick(["type", "hits", "x"]), item])) : items;
}

test("a reply of another shape is refused or read", () => {
  const random = generator(7);
  for (const [name, request] of Object.entries(SAMPLES)) {
    for (let at = 0; at < 500; at++) {
      try {
        request.decode(anything(random, 3));
      } catch (error) {
        assert.ok(error instanceof UnexpectedReply, `${name}: ${String(error)}`);
      }
    }
  }
});

test("what later servers add is ignored", () => {
  assert.equal(requests.allow("k", 1).decode([1, 2, 1, 0, 5, Buffer.from("new")]).resetAfterMs, 5);
  const names = ["hits", "stale_hits", "misses", "pending", "leader_grants", "releases", "wait_timeouts", "sets"];
  names.push("clears", "expired", "errors", "entries", "bytes", "raw_bytes");
  const figures = new Map<string, unknown>(names.map((name) => [name, 1]));
  figures.set("hit_rate", "0.5").set("saved", "2").set("new", [1]);
  const total = requests.cacheStatsTotal();
  assert.equal(total.decode(figures).saved, "2");
  figures.delete("hits");
  assert.throws(() => total.decode(figures), /a field hits/);
});

test("text of any bytes comes back as it was", () => {
  for (const bytes of [
    [0xff, 0, 13, 10, 0x80],
    [0xed, 0xa0, 0x80],
    [0xc3],
    [0xe2, 0x82, 0xac, 0xff, 0x41],
    [0xef, 0xbb, 0xbf],
  ]) {
    assert.deepEqual([...bytesOf(textOf(Uint8Array.from(bytes)))], bytes);
  }
  assert.equal(textOf(Buffer.from("é😀")), "é😀");
  assert.deepEqual(requests.logLen(Uint8Array.of(0xff)).args, ["GW.LOGLEN", Buffer.of(0xff)]);
});

test("one value is not taken for its letters", () => {
  assert.deepEqual(requests.logPush("q", "abc").args.slice(-2), ["RECORDS", "abc"]);
  assert.throws(() => requests.admit([], { leaseId: "l", ttlMs: 1 }), /at least one key/);
});

test("run can be overridden", async () => {
  const seen: unknown[] = [];
  class Timed extends Commands {
    override async run<T>(request: Request<T>): Promise<T> {
      seen.push(request.args[0]);
      return super.run(request);
    }
  }
  assert.equal(await new Timed(() => Promise.resolve(1)).logLen("q"), 1);
  await assert.rejects(new Timed(() => Promise.reject(errorOf("NOHOLD none"))).cancel("k", "h"), NoHold);
  assert.deepEqual(seen, ["GW.LOGLEN", "GW.CANCEL"]);
});

test("the table has every command", () => {
  const source = readFileSync(path.join(PACKAGE, "src", "commands", "requests.ts"), "utf8");
  const sent = new Set(Array.from(source.matchAll(/"(GW\.\w+)"/g), (found) => found[1]));
  assert.deepEqual([...sent].sort(), [...COMMANDS.keys()].sort());
  assert.deepEqual(COMMANDS.get("GW.LOGPOP"), { family: "log", keyed: true, reads: false, waits: true, grows: false });
});

test("every method explains its parameters", () => {
  const read = (name: string): string => readFileSync(path.join(PACKAGE, "src", "commands", name), "utf8");
  const methods = read("commands.ts").matchAll(
    /\/\*\*((?:(?!\*\/).)*)\*\/\s+(\w+)\(((?:(?!\): Promise).)*)\): Promise</gs,
  );
  let seen = 0;
  for (const [, comment = "", name = "", declared = ""] of methods) {
    if (name === "run") continue;
    seen++;
    for (const [, parameter] of declared.matchAll(/(\w+): /g)) {
      if (parameter !== "options") assert.match(comment, new RegExp(`@param ${String(parameter)} \\S`), name);
    }
    assert.doesNotMatch(comment, /See the reference/);
  }
  assert.equal(seen, Object.getOwnPropertyNames(Commands.prototype).length - 2);
  const types = read("types.ts").split("\n");
  for (const [at, line] of types.entries()) {
    if (!/^ {2}readonly (?!kind: ")/.test(line)) continue;
    assert.match(types[at - 1] ?? "", /\*\/$/, `${line}: no comment`);
    assert.doesNotMatch(types[at - 1] ?? "", /See the reference/, line);
  }
});
