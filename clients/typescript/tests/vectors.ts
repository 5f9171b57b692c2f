// The vectors of clients/spec, and how replies look to a program.

import { readFileSync } from "node:fs";
import path from "node:path";
import { bytesOf, textOf } from "../src/wire.js";

/** This package's folder: tests run from there, compiled or not. */
export const PACKAGE = process.cwd();
const VECTORS = path.join(PACKAGE, "..", "spec", "vectors");

/** A string of any bytes: text, or `{ base64 }`. */
export type Bytes = string | { readonly base64: string };

export function load(name: string): unknown {
  return JSON.parse(readFileSync(path.join(VECTORS, name), "utf8"));
}

export function fromJson(value: Bytes): Buffer {
  return typeof value === "string" ? Buffer.from(value, "utf8") : Buffer.from(value.base64, "base64");
}

export function toJson(value: Uint8Array): Bytes {
  const text = textOf(value);
  return /\p{Surrogate}/u.test(text) ? { base64: Buffer.from(value).toString("base64") } : text;
}

/** A reply as a connection hands it to a program: with strings as bytes, or decoded. */
export function native(raw: Buffer, decoded: boolean): unknown {
  let at = 0;
  const line = (): string => {
    const end = raw.indexOf("\r\n", at);
    const text = raw.toString("utf8", at, end);
    at = end + 2;
    return text;
  };
  const string = (bytes: Buffer): unknown => (decoded ? textOf(bytes) : bytes);
  const many = (count: number): unknown[] => Array.from({ length: count }, () => read());
  const read = (): unknown => {
    const kind = String.fromCharCode(raw[at++] ?? 0);
    const head = line();
    const size = Number(head);
    switch (kind) {
      case ":":
        return size;
      case "+":
        return string(Buffer.from(head));
      case "_":
        return null;
      case "$": {
        if (size < 0) return null;
        at += size + 2;
        return string(raw.subarray(at - size - 2, at - 2));
      }
      case "*":
        return size < 0 ? null : many(size);
      case "%":
        return new Map(Array.from({ length: size }, () => [read(), read()] as const));
      default:
        throw new Error(`a reply of the kind ${kind}`);
    }
  };
  return read();
}

/** A typed value as the vectors write it. */
export function plain(value: unknown): unknown {
  if (typeof value === "string") return toJson(bytesOf(value));
  if (value instanceof Uint8Array) return toJson(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries(Array.from(value, ([name, one]) => [String(name), plain(one)]));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [snake(name), plain(one)]));
  }
  return value === undefined ? null : value;
}

/** `retryAfterMs` to `retry_after_ms`. */
export function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** `retry_after_ms` or `cache-get` to `retryAfterMs` and `cacheGet`. */
export function camel(name: string): string {
  return name.replace(/[_-](.)/g, (_, letter: string) => letter.toUpperCase());
}
