// What is decided on a request, and why.

import type { Decimal } from "./amounts.js";
import type { Period } from "./commands/types.js";
import { verdictHeaders } from "./headers.js";

/** Degraded: let through without the server, which is away, as the settings allow. */
export type Outcome = "admitted" | "denied" | "degraded";

/** A request that is not let through. */
export class Denied extends Error {
  override readonly name: string = "Denied";

  constructor(
    readonly reason: string,
    readonly retryAfterMs: number,
    readonly headers: Readonly<Record<string, string>>,
    readonly status: number,
    cause?: unknown,
  ) {
    super(reason, { cause });
  }
}

/** Thrown in an attempt: the target has failed, and the next one is tried. */
export class CallFailed extends Error {
  override readonly name: string = "CallFailed";
  /** For so many milliseconds the provider wants no further call. */
  readonly retryAfterMs: number | undefined;

  constructor(
    reason = "the call failed",
    options: { readonly retryAfterMs?: number | undefined; readonly cause?: unknown } = {},
  ) {
    super(reason, { cause: options.cause });
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Somebody else may have the lock by now. */
export class LockLost extends Error {
  override readonly name: string = "LockLost";
}

/** A limiter's answer. */
export class LimitDecision {
  constructor(
    readonly outcome: Outcome,
    /** Empty if it is admitted; `limit`; `local_limit`; or why the server is away, such as `timeout`. */
    readonly reason: string,
    readonly limit: number,
    readonly remaining: number,
    /** 0 if it is admitted, -1 if waiting does not help. */
    readonly retryAfterMs: number,
    readonly resetAfterMs: number,
    /** The window, or the period of a bucket's rate. */
    readonly periodMs: number,
  ) {}

  /** Whether the request may go on. */
  get ok(): boolean {
    return this.outcome !== "denied";
  }

  /** The HTTP headers of the response. `name` is `requests` for a limit on requests, and `tokens` for one on tokens. */
  headers(name = "requests"): Record<string, string> {
    const { limit, remaining, retryAfterMs, resetAfterMs } = this;
    return verdictHeaders(
      name,
      { allowed: this.ok, limit, remaining, retryAfterMs, resetAfterMs },
      this.periodMs,
      Date.now(),
    );
  }
}

/** Whether a ledger is within its budgets. The amounts are of the tightest one; null if the server is away. */
export interface BudgetDecision {
  readonly outcome: Outcome;
  readonly reason: string;
  /** Whether the request may go on. */
  readonly ok: boolean;
  readonly period: Period | null;
  readonly budget: Decimal | null;
  readonly spent: Decimal | null;
  readonly held: Decimal | null;
  readonly remaining: Decimal | null;
  /** Milliseconds until the period ends; -1 for TOTAL, and if the server is away. */
  readonly resetAfterMs: number;
}

/**
 * How an admission has ended.
 *
 * `charged`: no account knew the lease, so the money was booked under its id. `unknown`: the same, with no money to book.
 * `kept`: the server is away, and gets it later. `given_up`: it is away, and there is no room to keep more. `nothing`:
 * there was nothing to settle, because the request was denied.
 */
export type Settlement = "settled" | "late" | "repeated" | "charged" | "unknown" | "kept" | "given_up" | "nothing";

/** Whether the gateway works, and what waits. */
export interface Health {
  readonly ok: boolean;
  /** Why it does not, such as `timeout` or `ModuleMissing`; else empty. */
  readonly reason: string;
  /** Milliseconds that the server took to answer. */
  readonly tookMs: number;
  /** Servers that are not asked, because they do not answer. */
  readonly circuitsOpen: number;
  /** Settlements and charges that the server has not taken yet. */
  readonly kept: number;
  readonly logRecords: number;
  readonly logDropped: number;
}
