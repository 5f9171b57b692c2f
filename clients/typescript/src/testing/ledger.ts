// What was spent, by period, and what is held.

import { formatAmount } from "../amounts.js";
import { refused } from "./words.js";

export const PERIODS: readonly string[] = ["DAY", "WEEK", "MONTH", "TOTAL"];
const DAY_MS = 86_400_000;

export type Budget = readonly [amount: bigint, period: string];

/** The first moment of the period that `at` lies in, and that of the next one. */
function bounds(period: string, at: number): readonly [number, number] {
  const day = Math.floor(at / DAY_MS) * DAY_MS;
  if (period === "DAY") return [day, day + DAY_MS];
  const date = new Date(day);
  if (period === "WEEK") {
    const monday = day - ((date.getUTCDay() + 6) % 7) * DAY_MS;
    return [monday, monday + 7 * DAY_MS];
  }
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return period === "MONTH" ? [Date.UTC(year, month), Date.UTC(year, month + 1)] : [0, Infinity];
}

/** Milliseconds until the period ends; -1 for TOTAL. */
export function periodEnd(period: string, now: number): number {
  return period === "TOTAL" ? -1 : bounds(period, now)[1] - now;
}

export function periodLength(period: string, now: number): number {
  const [begin, end] = bounds(period, now);
  return period === "TOTAL" ? -1 : end - begin;
}

interface Hold {
  readonly amount: bigint;
  readonly at: number;
  readonly end: number;
  state: "" | "committed" | "cancelled";
  charged: bigint;
}

export class Ledger {
  readonly #sums = new Map<string, bigint>();
  readonly holds = new Map<string, Hold>();
  /** By their ids. */
  readonly charges = new Map<string, { readonly amount: bigint; readonly at: number }>();

  charge(amount: bigint, at: number): void {
    for (const period of PERIODS) {
      const key = `${period} ${String(bounds(period, at)[0])}`;
      this.#sums.set(key, (this.#sums.get(key) ?? 0n) + amount);
    }
  }

  spent(period: string, at: number): bigint {
    return this.#sums.get(`${period} ${String(bounds(period, at)[0])}`) ?? 0n;
  }

  held(period: string, now: number): bigint {
    const [begin] = bounds(period, now);
    const live = [...this.holds.values()].filter(({ state, end }) => state === "" && end > now);
    return live.filter(({ at }) => bounds(period, at)[0] === begin).reduce((sum, { amount }) => sum + amount, 0n);
  }

  hold(id: string, amount: bigint, now: number, ttl: number): void {
    this.holds.set(id, { amount, at: now, end: now + ttl, state: "", charged: 0n });
  }

  /** The fields that tell of the budget with the least left. */
  tightest(budgets: readonly Budget[], now: number): (string | number)[] {
    const left = ([budget, period]: Budget): bigint => budget - this.spent(period, now) - this.held(period, now);
    const tightest = budgets.reduce((one, other) => (left(other) < left(one) ? other : one));
    const [budget, period] = tightest;
    const rest = left(tightest);
    const amounts = [budget, this.spent(period, now), this.held(period, now), rest > 0n ? rest : 0n];
    return [period, ...amounts.map(formatAmount), periodEnd(period, now)];
  }

  hasRoom([budget, period]: Budget, now: number, cost: bigint | null): boolean {
    const used = this.spent(period, now) + this.held(period, now);
    return cost === null ? used < budget : used + cost <= budget;
  }

  /** Commits, or cancels. */
  end(id: string, actual: bigint | null): (string | number)[] {
    const month = (at: number): string => formatAmount(this.spent("MONTH", at));
    const charge = this.charges.get(id);
    if (charge !== undefined) return [0, "charged", formatAmount(charge.amount), 0, month(charge.at)];
    const hold = this.holds.get(id);
    if (hold === undefined) throw refused("no such hold: it was never made, or is forgotten", "NOHOLD");
    const changed = hold.state === "";
    if (changed) {
      hold.state = actual === null ? "cancelled" : "committed";
      hold.charged = actual ?? 0n;
      this.charge(hold.charged, hold.at);
    }
    const over = Number(hold.charged > hold.amount);
    return [Number(changed), hold.state, formatAmount(hold.charged), over, month(hold.at)];
  }
}
