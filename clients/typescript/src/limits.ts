// Limits and budgets that are asked for by themselves, outside an admission.

import { checkedAmount, type Amount, type Decimal } from "./amounts.js";
import { requests, type Period, type Verdict } from "./commands/index.js";
import type { Core } from "./core.js";
import { LimitDecision, type BudgetDecision, type Settlement } from "./decisions.js";
import { Delivery } from "./deliveries.js";
import { Unavailable } from "./failures.js";
import { share } from "./local.js";
import { unlessAborted, wholeMs } from "./tasks.js";
import { nameOfKey, UnexpectedReply, type Text } from "./wire.js";

/** Budgets of a ledger, such as `[[500, "MONTH"], [20, "DAY"]]`. */
export type BudgetList = readonly (readonly [Amount, Period])[];

export interface LimitOptions {
  /** What it takes. Default: 1. */
  readonly cost?: number | undefined;
  /** Answers, and takes nothing. */
  readonly peek?: boolean | undefined;
}

export interface AllowOptions extends LimitOptions {
  /** Milliseconds. Default: 60,000. */
  readonly windowMs?: number | undefined;
}

export interface TokensOptions extends LimitOptions {
  /** Milliseconds. Default: 60,000. */
  readonly perMs?: number | undefined;
}

export class Limits {
  constructor(private readonly core: Core) {}

  async allow(key: Text, limit: number, options: AllowOptions): Promise<LimitDecision> {
    const { windowMs = 60_000, cost = 1, peek = false } = options;
    const mode = peek ? "PEEK" : undefined;
    try {
      return this.#told(await this.core.run(requests.allow(key, limit, { windowMs, cost, mode })), windowMs);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      return this.#alone(key, limit, windowMs, cost, peek, error);
    }
  }

  async tokens(key: Text, rate: number, burst: number, options: TokensOptions): Promise<LimitDecision> {
    const { perMs = 60_000, cost = 1, peek = false } = options;
    const mode = peek ? "PEEK" : undefined;
    try {
      return this.#told(await this.core.run(requests.tokens(key, rate, burst, { perMs, cost, mode })), perMs);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      // A window in which as much is let through as the bucket would let through in that time.
      return this.#alone(key, Math.max(rate, burst), perMs * Math.max(1, burst / rate), cost, peek, error);
    }
  }

  #told(verdict: Verdict, periodMs: number): LimitDecision {
    const { allowed, limit, remaining, retryAfterMs, resetAfterMs } = verdict;
    const [outcome, reason] = allowed ? (["admitted", ""] as const) : (["denied", "limit"] as const);
    this.core.telemetry.decided("limits", outcome, reason);
    return new LimitDecision(outcome, reason, limit, remaining, retryAfterMs, resetAfterMs, periodMs);
  }

  #alone(key: Text, limit: number, windowMs: number, cost: number, peek: boolean, error: Unavailable): LimitDecision {
    const decision = this.#decided(nameOfKey(key), limit, windowMs, cost, peek, error.reason);
    this.core.telemetry.decided("limits", decision.outcome, decision.reason);
    return decision;
  }

  #decided(key: string, limit: number, windowMs: number, cost: number, peek: boolean, reason: string): LimitDecision {
    const { away, pauseMs, instances } = this.core.settings;
    if (away.limits === "open") return new LimitDecision("degraded", reason, limit, limit, 0, 0, windowMs);
    if (away.limits === "closed") return new LimitDecision("denied", reason, limit, 0, pauseMs, pauseMs, windowMs);
    const own = share(limit, instances);
    const { allowed, count, retryAfterMs } = this.core.windows.take(`limits ${key}`, own, windowMs, cost, peek);
    const outcome = allowed ? "degraded" : "denied";
    return new LimitDecision(outcome, allowed ? reason : "local_limit", own, count, retryAfterMs, windowMs, windowMs);
  }
}

/**
 * Money set aside for a request. Declare it with `await using`: it is committed at the end, at what `use` told, or else at
 * its estimate.
 */
export class Hold {
  #actual: Amount;
  #ended = false;
  readonly #atMs = Date.now();

  /** Made by `Budgets.reserve`. */
  constructor(
    private readonly core: Core,
    readonly key: Text,
    readonly holdId: string,
    estimate: Amount,
    readonly decision: BudgetDecision,
    private readonly known: boolean,
  ) {
    this.#actual = estimate;
  }

  get ok(): boolean {
    return this.decision.ok;
  }

  /**
   * Tells what the request has really cost; null and undefined tell nothing.
   *
   * @throws RangeError if it is not an amount from 0
   */
  use(actual: Amount | null | undefined): void {
    if (actual !== null && actual !== undefined) this.#actual = checkedAmount("actual", actual);
  }

  /** Charges what the request has cost, once. */
  async commit(actual?: Amount | null): Promise<Settlement | null> {
    this.use(actual);
    return await this.#end(this.#actual);
  }

  /** Gives the money free again. */
  async cancel(): Promise<Settlement | null> {
    return await this.#end(null);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.commit();
  }

  async #end(actual: Amount | null): Promise<Settlement | null> {
    if (this.#ended || !this.ok) return null;
    this.#ended = true;
    try {
      return await this.core.tasks.track(this.core.deliver(this.#ending(actual)));
    } catch (error) {
      // An error reply has changed nothing: it can be ended again.
      this.#ended = false;
      throw error;
    }
  }

  #ending(actual: Amount | null): Delivery {
    if (actual === null) return new Delivery(requests.cancel(this.key, this.holdId).args);
    const charge = requests.addCost(this.key, actual, { atMs: this.#atMs, id: this.holdId }).args;
    // If it is not known, the server has certainly not heard of it.
    return this.known
      ? new Delivery(requests.commit(this.key, this.holdId, actual).args, [charge])
      : new Delivery(charge);
  }
}

export interface ReserveOptions {
  /** The money is free again after this time, in milliseconds. Default: 5 minutes. */
  readonly ttlMs?: number | undefined;
  /** If it is aborted before the answer has come, nothing stays set aside. */
  readonly signal?: AbortSignal | undefined;
}

export interface ChargeOptions {
  /** What is charged under an id is charged once. Made here if it is not given. */
  readonly id?: string | undefined;
  /** When it was spent, unix milliseconds. Default: now. */
  readonly atMs?: number | undefined;
  /** The amount is taken back: it must be negative or 0. */
  readonly refund?: boolean | undefined;
}

export class Budgets {
  /** Made by the gateway. */
  constructor(private readonly core: Core) {}

  /** Whether a ledger is within its budgets, and would be with `cost` more. */
  async within(
    key: Text,
    budgets: BudgetList,
    options: { readonly cost?: Amount | undefined } = {},
  ): Promise<BudgetDecision> {
    try {
      const answer = await this.core.run(requests.withinBudget(key, budgets, { estimate: options.cost }));
      return this.#told(answer.within, answer);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      return this.#alone(error);
    }
  }

  /** Sets money aside for a request if all budgets have room for it. */
  async reserve(key: Text, estimate: Amount, budgets: BudgetList, options: ReserveOptions = {}): Promise<Hold> {
    options.signal?.throwIfAborted();
    const holdId = crypto.randomUUID();
    const asked = requests.reserve(key, estimate, budgets, { ttlMs: wholeMs(options.ttlMs ?? 300_000), id: holdId });
    const cancel = (): void => void this.core.keep(this.#cancelled(key, holdId));
    try {
      const hold = await unlessAborted(options.signal, this.core.tasks.track(this.core.run(asked)), cancel);
      return new Hold(this.core, key, holdId, estimate, this.#told(hold.granted, hold), true);
    } catch (error) {
      if (!(error instanceof Unavailable)) {
        // A reply that cannot be read: it may have been set aside.
        if (error instanceof UnexpectedReply) cancel();
        throw error;
      }
      const decision = this.#alone(error);
      if (error.sent && !decision.ok) cancel();
      return new Hold(this.core, key, holdId, estimate, decision, error.sent);
    }
  }

  /**
   * Adds to a ledger, once. While the server is away the charge is kept, and booked later on the day of now, or of `atMs`.
   */
  async charge(key: Text, amount: Amount, options: ChargeOptions = {}): Promise<Settlement> {
    const { id = crypto.randomUUID(), atMs = Date.now(), refund } = options;
    const made = requests.addCost(key, amount, { id, atMs, refund });
    return await this.core.tasks.track(this.core.deliver(new Delivery(made.args)));
  }

  /** What a ledger has spent in the current period. Rejects with Unavailable if the server is away. */
  async spent(key: Text, period: Period = "MONTH"): Promise<Decimal> {
    return await this.core.run(requests.spent(key, { period }));
  }

  #told(ok: boolean, about: Omit<BudgetDecision, "ok" | "outcome" | "reason">): BudgetDecision {
    const { period, budget, spent, held, remaining, resetAfterMs } = about;
    const [outcome, reason] = ok ? (["admitted", ""] as const) : (["denied", "limit"] as const);
    this.core.telemetry.decided("budgets", outcome, reason);
    return { ok, outcome, reason, period, budget, spent, held, remaining, resetAfterMs };
  }

  #alone({ reason }: Unavailable): BudgetDecision {
    const ok = this.core.settings.away.budgets === "open";
    const outcome = ok ? "degraded" : "denied";
    this.core.telemetry.decided("budgets", outcome, reason);
    const nothing = { period: null, budget: null, spent: null, held: null, remaining: null, resetAfterMs: -1 };
    return { ok, outcome, reason, ...nothing };
  }

  #cancelled(key: Text, holdId: string): Delivery {
    const delivery = new Delivery(requests.cancel(key, holdId).args);
    // The question may still be on its way: that nobody knows the hold is no answer yet.
    delivery.early = true;
    return delivery;
  }
}
