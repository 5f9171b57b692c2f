// What requests and replies are built of: values to arguments, and replies of any connection to values.
//
// Replies are read alike whether the connection decodes strings or not, and whether it speaks RESP2 or RESP3. Names and
// keys may be any bytes: bytes that are no UTF-8 become halves of surrogate pairs, U+DC80 to U+DCFF, and the same bytes
// again when they are sent, so that no byte is lost.

import { Buffer } from "node:buffer";
import type { Amount, Amounts, Decimal } from "./amounts.js";

/** A key, name or id: any bytes. */
export type Text = string | Uint8Array;

/** What is handed to the connection: strings are sent as UTF-8. */
export type Argument = string | Buffer;

/** A command with its arguments, and how its reply is read. */
export interface Request<T> {
  /** The command's name, then its arguments. */
  readonly args: readonly Argument[];
  /** Makes the typed result of the reply. */
  readonly decode: (reply: unknown) => T;
  /** Whether sending it again, after nobody knows whether it took effect, changes nothing more. */
  readonly repeatable: boolean;
}

/** A reply of a shape that this version of the client does not know. */
export class UnexpectedReply extends Error {
  override readonly name: string = "UnexpectedReply";

  constructor(
    readonly expected: string,
    reply: unknown,
  ) {
    super(`expected ${expected}, got ${reply === null ? "nil" : Array.isArray(reply) ? "an array" : typeof reply}`);
  }
}

/** Reads a reply. */
export type Decode<T> = (reply: unknown) => T;

// Arguments.

export function textArgument(value: Text): Argument {
  if (typeof value !== "string") {
    return Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  return SURROGATE.test(value) ? bytesOf(value) : value;
}

export function amountArgument(value: Amount): string {
  return typeof value === "string" ? value : String(value);
}

/** One value, or several: a string is never taken for a sequence of its letters. */
export function textArguments(values: Text | Iterable<Text>): Argument[] {
  if (typeof values === "string" || values instanceof Uint8Array) return [textArgument(values)];
  return Array.from(values, textArgument);
}

/** The first key, and the others after `WITH <count>`. */
export function keyArguments(keys: Text | readonly Text[]): Argument[] {
  const [first, ...others] = textArguments(keys);
  if (first === undefined) throw new RangeError("at least one key is needed");
  return others.length > 0 ? [first, "WITH", String(others.length), ...others] : [first];
}

export function amountArguments(amounts: Amounts): Argument[] {
  return Object.entries(amounts).flatMap(([meter, amount]) => [textArgument(meter), amountArgument(amount)]);
}

export function versionArguments(versions: Iterable<readonly [Text, number]>): Argument[] {
  return Array.from(versions).flatMap(([key, version]) => [textArgument(key), String(version)]);
}

export function budgetArguments(budgets: Iterable<readonly [Amount, string]>): Argument[] {
  return Array.from(budgets).flatMap(([amount, period]) => [amountArgument(amount), period]);
}

// Text of any bytes.

// Half of a surrogate pair, alone.
const SURROGATE = /\p{Surrogate}/u;
const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The bytes of a text. */
export function bytesOf(text: string): Buffer {
  if (!SURROGATE.test(text)) return Buffer.from(text, "utf8");
  const pieces: Buffer[] = [];
  // By code points: what is left of a surrogate is alone.
  for (const letter of text) {
    const code = letter.codePointAt(0) ?? 0;
    pieces.push(code >= 0xdc80 && code <= 0xdcff ? Buffer.of(code - 0xdc00) : Buffer.from(letter, "utf8"));
  }
  return Buffer.concat(pieces);
}

/** The text of a key or name. */
export function nameOfKey(key: Text): string {
  return typeof key === "string" ? key : textOf(key);
}

/** The text of bytes. */
export function textOf(bytes: Uint8Array): string {
  try {
    return STRICT.decode(bytes);
  } catch {
    return escaped(bytes);
  }
}

function escaped(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at] ?? 0;
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    try {
      text += STRICT.decode(bytes.subarray(at, at + length));
      at += length;
    } catch {
      text += String.fromCharCode(0xdc00 + first);
      at += 1;
    }
  }
  return text;
}

// Replies.

export function unexpected(expected: string, reply: unknown): never {
  throw new UnexpectedReply(expected, reply);
}

export function integer(reply: unknown): number {
  if (typeof reply === "number" && Number.isInteger(reply)) return reply;
  return typeof reply === "bigint" ? Number(reply) : unexpected("an integer", reply);
}

export function boolean(reply: unknown): boolean {
  return integer(reply) !== 0;
}

export function text(reply: unknown): string {
  if (typeof reply === "string") return reply;
  return reply instanceof Uint8Array ? textOf(reply) : unexpected("a string", reply);
}

export function raw(reply: unknown): Buffer {
  if (Buffer.isBuffer(reply)) return reply;
  return typeof reply === "string" ? bytesOf(reply) : unexpected("a string", reply);
}

export function amount(reply: unknown): Decimal {
  const given = text(reply);
  return /^-?[0-9]+(\.[0-9]+)?$/.test(given) ? given : unexpected("an amount", reply);
}

/** A count of whole units, or an exact decimal. */
export function quantity(reply: unknown): number | Decimal {
  return typeof reply === "number" || typeof reply === "bigint" ? integer(reply) : amount(reply);
}

export function cursor(reply: unknown): number {
  if (typeof reply === "number") return integer(reply);
  const given = text(reply);
  return /^[0-9]+$/.test(given) ? Number(given) : unexpected("a cursor", reply);
}

/** The reply of what has nothing to tell. */
export function ok(reply: unknown): void {
  if (text(reply) !== "OK") unexpected("OK", reply);
}

export function stored(reply: unknown): boolean {
  if (isNil(reply)) return false;
  ok(reply);
  return true;
}

/** An array of at least so many items. Later servers may add fields to it. */
export function items(reply: unknown, least = 0): readonly unknown[] {
  if (!Array.isArray(reply)) return unexpected("an array", reply);
  return reply.length >= least ? reply : unexpected(`an array of ${String(least)}`, reply);
}

/** A map whose names are known, and whose values differ: of RESP3, or the flat array of RESP2. */
export function fields(reply: unknown): ReadonlyMap<string, unknown> {
  if (reply instanceof Map) return new Map(Array.from(reply, ([name, value]) => [text(name), value as unknown]));
  if (typeof reply === "object" && reply !== null && !Array.isArray(reply) && !(reply instanceof Uint8Array)) {
    return new Map(Object.entries(reply));
  }
  const flat = items(reply);
  if (flat.length % 2 !== 0) unexpected("names and values in turn", reply);
  const found = new Map<string, unknown>();
  for (let at = 0; at < flat.length; at += 2) found.set(text(flat[at]), flat[at + 1]);
  return found;
}

export function field(found: ReadonlyMap<string, unknown>, name: string): unknown {
  return found.has(name) ? found.get(name) : unexpected(`a field ${name}`, null);
}

/** A field that only some replies have, at their end. */
export function tail<T>(found: readonly unknown[], at: number, decode: Decode<T>): T | null {
  return found.length > at ? decode(found[at]) : null;
}

export function oneOf<const W extends string>(reply: unknown, words: readonly W[]): W {
  const given = text(reply);
  return words.find((word) => word === given) ?? unexpected(`one of ${words.join(", ")}`, reply);
}

// Functions that read replies, made of others.

export function wordOf<W extends string>(words: readonly W[]): Decode<W> {
  return (reply) => oneOf(reply, words);
}

export function arrayOf<T>(decode: Decode<T>): Decode<readonly T[]> {
  return (reply) => items(reply).map((item) => decode(item));
}

export function mapOf<T>(decode: Decode<T>): Decode<ReadonlyMap<string, T>> {
  return (reply) => new Map(Array.from(fields(reply), ([name, value]) => [name, decode(value)]));
}

export function optionalOf<T>(decode: Decode<T>): Decode<T | null> {
  return (reply) => (isNil(reply) ? null : decode(reply));
}

function isNil(reply: unknown): reply is null | undefined {
  return reply === null || reply === undefined;
}
