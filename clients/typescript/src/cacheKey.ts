// Cache keys: the SHA-256 of a request in canonical form (RFC 8785), the same as GW.CACHEKEY's.
//
// What could give two requests one key, or one request two, is refused with `NotCanonical`.

import { createHash } from "node:crypto";

/** A value that has no canonical form. */
export class NotCanonical extends Error {
  override readonly name: string = "NotCanonical";
}

/** The deepest nesting of arrays and objects. */
const DEPTH_MAX = 128;

export interface CacheKeyParts {
  /** Who may see the answer: two tenants never share a key. No colon. */
  readonly tenant?: string | undefined;
  /** Members of the request that are left out, at its top alone. */
  readonly ignore?: Iterable<string> | undefined;
}

/**
 * `category:tenant:hash`, or `category:hash` without a tenant.
 *
 * Neither may contain a colon. `request` is a value as `JSON.parse` returns it; members that are `undefined` are left
 * out, as `JSON.stringify` leaves them out.
 *
 * @throws NotCanonical if the request has no canonical form, RangeError for a colon
 */
export function cacheKey(category: string, request: unknown, parts: CacheKeyParts = {}): string {
  const { tenant } = parts;
  if (category.includes(":") || tenant?.includes(":") === true) {
    throw new RangeError("a colon in the category or the tenant of a cache key");
  }
  const ignored = new Set(parts.ignore);
  const kept =
    ignored.size > 0 && isObject(request)
      ? Object.fromEntries(Object.entries(request).filter(([name]) => !ignored.has(name)))
      : request;
  const hash = createHash("sha256").update(canonical(kept), "utf8").digest("hex");
  return tenant === undefined ? `${category}:${hash}` : `${category}:${tenant}:${hash}`;
}

/** The canonical JSON text of a value. */
export function canonical(value: unknown): string {
  const pieces: string[] = [];
  write(value, 0, pieces);
  return pieces.join("");
}

function isObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function write(value: unknown, depth: number, out: string[]): void {
  if (value === null || typeof value === "boolean") {
    out.push(String(value));
  } else if (typeof value === "string") {
    out.push(quoted(value));
  } else if (typeof value === "number") {
    out.push(number(value));
  } else if (typeof value === "bigint") {
    out.push(integer(value));
  } else if (Array.isArray(value)) {
    within(depth);
    writeItems(value, depth + 1, out);
  } else if (isObject(value)) {
    within(depth);
    writeMembers(value, depth + 1, out);
  } else {
    throw new NotCanonical(`not a JSON value: ${typeof value}`);
  }
}

function within(depth: number): void {
  if (depth === DEPTH_MAX) throw new NotCanonical(`nested deeper than ${String(DEPTH_MAX)}`);
}

function writeItems(items: readonly unknown[], depth: number, out: string[]): void {
  out.push("[");
  for (const [at, item] of items.entries()) {
    if (at > 0) out.push(",");
    write(item, depth, out);
  }
  out.push("]");
}

function writeMembers(members: Record<string, unknown>, depth: number, out: string[]): void {
  // Sorted by UTF-16 code units, as strings of JavaScript are.
  const names = Object.keys(members)
    .filter((name) => members[name] !== undefined)
    .sort();
  out.push("{");
  for (const [at, name] of names.entries()) {
    out.push(at > 0 ? "," : "", quoted(name), ":");
    write(members[name], depth, out);
  }
  out.push("}");
}

function quoted(text: string): string {
  if (/\p{Surrogate}/u.test(text)) throw new NotCanonical("half of a surrogate pair");
  return JSON.stringify(text);
}

function number(value: number): string {
  if (!Number.isFinite(value)) throw new NotCanonical("a number that a double cannot hold");
  return String(value === 0 ? 0 : value);
}

function integer(value: bigint): string {
  const written = number(Number(value));
  // An integer that the double would change into another, such as a seed.
  if (plain(written) !== value) throw new NotCanonical("a number that a double cannot hold");
  return written;
}

/** The integer that a number's text says, such as that of `1.5e+21`. */
function plain(written: string): bigint {
  const [digits = "", exponent = "0"] = written.split("e+");
  const [whole = "", fraction = ""] = digits.split(".");
  return BigInt(whole + fraction) * 10n ** BigInt(Number(exponent) - fraction.length);
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|-?[0-9][0-9.eE+-]*|true|false|null/gs;

/**
 * A JSON text as the value that `JSON.parse` returns, refusing what that lets pass: names that repeat, integers that a
 * double would change, halves of surrogate pairs, bytes that are no UTF-8.
 *
 * @throws NotCanonical
 */
export function parseRequest(json: string | Uint8Array): unknown {
  let value: unknown;
  let text: string;
  try {
    text = typeof json === "string" ? json : new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
    value = JSON.parse(text);
  } catch (error) {
    throw new NotCanonical("not valid JSON", { cause: error });
  }
  checkTokens(text);
  canonical(value);
  return value;
}

/** Checks names and integers of a text that is valid. */
function checkTokens(text: string): void {
  // For each object that is open, its names so far; for each array, null.
  const open: (Set<string> | null)[] = [];
  const tokens = text.match(TOKENS) ?? [];
  for (const [at, token] of tokens.entries()) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(null);
    else if (token === "}" || token === "]") open.pop();
    else if (token.startsWith('"') && tokens[at + 1] === ":") addName(open.at(-1), token);
    else if (/^-?[0-9]+$/.test(token)) integer(BigInt(token));
  }
}

function addName(names: Set<string> | null | undefined, token: string): void {
  const name = JSON.parse(token) as string;
  if (names?.has(name) === true) throw new NotCanonical("a name that repeats");
  names?.add(name);
}
