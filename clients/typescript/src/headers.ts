// HTTP headers that tell of limits: the IETF draft's, OpenAI's, Anthropic's, and Retry-After.

import type { Admission, AdmissionRow, Verdict } from "./commands/types.js";

/** Whose headers: those of the IETF draft ratelimit-headers, OpenAI's, or Anthropic's. */
export type HeaderFamily = "ietf" | "openai" | "anthropic";

export interface HeaderOptions {
  /** Default: all. */
  readonly families?: readonly HeaderFamily[] | undefined;
}

export interface AdmissionHeaderOptions extends HeaderOptions {
  /** The usual names of meters that are called otherwise here, such as `{ tpm: "tokens" }`. */
  readonly meters?: Readonly<Record<string, string>> | undefined;
}

const ALL: readonly HeaderFamily[] = ["ietf", "openai", "anthropic"];
// The meters that OpenAI's and Anthropic's headers are about, by what they are called there.
const OPENAI = new Map([
  ["requests", "requests"],
  ["tokens", "tokens"],
]);
const ANTHROPIC = new Map([...OPENAI, ["input_tokens", "input-tokens"], ["output_tokens", "output-tokens"]]);

/** A limit in whole units, as headers tell of it. */
interface Limit {
  readonly name: string;
  readonly meter: string;
  readonly allowed: boolean;
  readonly limit: number;
  readonly remaining: number;
  readonly resetAfterMs: number;
  readonly periodMs: number;
}

/** The headers of one limiter. `name` is `requests` for a limit on requests, and `tokens` for one on tokens. */
export function verdictHeaders(
  name: string,
  verdict: Verdict,
  periodMs: number,
  nowMs: number,
  options: HeaderOptions = {},
): Record<string, string> {
  const { allowed, limit, remaining, resetAfterMs } = verdict;
  const limits: Limit[] = [{ name, meter: name, allowed, limit, remaining, resetAfterMs, periodMs }];
  return { ...headersOf(limits, nowMs, options.families ?? ALL), ...retryAfter(allowed, verdict.retryAfterMs) };
}

/**
 * The headers of a decision with `ROWS DETAIL`.
 *
 * They tell of windows and buckets that count whole units. If several count one meter, OpenAI's and Anthropic's headers
 * tell of the one that a client meets first. Budgets are left out, since their amounts are decimals.
 */
export function admissionHeaders(
  admission: Admission,
  nowMs: number,
  options: AdmissionHeaderOptions = {},
): Record<string, string> {
  const { admitted, retryAfterMs, rows } = admission;
  const limits = rows.flatMap((row) => limitOf(row, options.meters ?? {}, admitted));
  return { ...headersOf(limits, nowMs, options.families ?? ALL), ...retryAfter(admitted, retryAfterMs) };
}

function limitOf(row: AdmissionRow, meters: Readonly<Record<string, string>>, admitted: boolean): Limit[] {
  const { policy, allowed, limit, remaining, resetAfterMs, kind, meter, periodMs } = row;
  if ((kind !== "WINDOW" && kind !== "BUCKET") || resetAfterMs < 0 || periodMs === null || meter === null) return [];
  if (typeof limit !== "number" || typeof remaining !== "number") return [];
  // The policy is in SHADOW: it refuses nobody.
  if (admitted && !allowed) return [];
  return [{ name: policy, meter: meters[meter] ?? meter, allowed, limit, remaining, resetAfterMs, periodMs }];
}

/** None if waiting does not help. */
function retryAfter(allowed: boolean, retryAfterMs: number): Record<string, string> {
  return allowed || retryAfterMs < 0 ? {} : { "Retry-After": String(seconds(retryAfterMs)) };
}

/** Whether a client meets `one` before `other`. */
function tighter(one: Limit, other: Limit): boolean {
  if (one.allowed !== other.allowed) return other.allowed;
  if (one.remaining !== other.remaining) return one.remaining < other.remaining;
  return one.resetAfterMs > other.resetAfterMs;
}

function tightest(limits: readonly Limit[], key: (limit: Limit) => string): Map<string, Limit> {
  const found = new Map<string, Limit>();
  for (const limit of limits) {
    const known = found.get(key(limit));
    if (known === undefined || tighter(limit, known)) found.set(key(limit), limit);
  }
  return found;
}

function headersOf(limits: readonly Limit[], nowMs: number, families: readonly HeaderFamily[]): Record<string, string> {
  const made: Record<string, string> = {};
  const byName = tightest(limits, (limit) => limit.name);
  if (byName.size > 0 && families.includes("ietf")) {
    const named = Array.from(byName, ([name, limit]) => [quoted(name), limit] as const);
    made["RateLimit-Policy"] = named
      .map(([name, one]) => `${name};q=${String(one.limit)};w=${String(seconds(one.periodMs))}`)
      .join(", ");
    made["RateLimit"] = named
      .map(([name, one]) => `${name};r=${String(one.remaining)};t=${String(seconds(one.resetAfterMs))}`)
      .join(", ");
  }
  for (const [meter, one] of tightest(limits, (limit) => limit.meter)) {
    const openai = families.includes("openai") ? OPENAI.get(meter) : undefined;
    if (openai !== undefined) {
      made[`x-ratelimit-limit-${openai}`] = String(one.limit);
      made[`x-ratelimit-remaining-${openai}`] = String(one.remaining);
      made[`x-ratelimit-reset-${openai}`] = duration(one.resetAfterMs);
    }
    const anthropic = families.includes("anthropic") ? ANTHROPIC.get(meter) : undefined;
    if (anthropic !== undefined) {
      made[`anthropic-ratelimit-${anthropic}-limit`] = String(one.limit);
      made[`anthropic-ratelimit-${anthropic}-remaining`] = String(one.remaining);
      made[`anthropic-ratelimit-${anthropic}-reset`] = new Date(nowMs + one.resetAfterMs).toISOString();
    }
  }
  return made;
}

/** A string of RFC 9651, which has printable ASCII alone. */
function quoted(name: string): string {
  const shown = Array.from(name, (letter) => (letter >= " " && letter <= "~" ? letter : "?")).join("");
  return `"${shown.replace(/["\\]/g, "\\$&")}"`;
}

/** Rounded up: a client that waits so long is admitted. */
function seconds(ms: number): number {
  return Math.ceil(ms / 1000);
}

/** As OpenAI writes it: 1h2m3.5s. */
function duration(ms: number): string {
  if (ms < 1000) return ms > 0 ? `${String(ms)}ms` : "0s";
  const rest = ms % 60_000;
  const fraction = String(rest % 1000)
    .padStart(3, "0")
    .replace(/0+$/, "");
  const shown = `${String(Math.floor(rest / 1000))}${fraction === "" ? "" : `.${fraction}`}s`;
  const minutes = Math.floor(ms / 60_000);
  const hours = Math.floor(minutes / 60);
  if (hours > 0) return `${String(hours)}h${String(minutes % 60)}m${shown}`;
  return minutes > 0 ? `${String(minutes)}m${shown}` : shown;
}
