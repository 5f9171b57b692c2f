// The recorded calls of clients/spec, as requests.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { requests, type Request } from "../src/index.js";
import { camel, fromJson, load, PACKAGE, type Bytes } from "./vectors.js";

export interface Case {
  readonly name: string;
  readonly method: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly request: readonly Bytes[];
  readonly repeatable: boolean;
  readonly resp2: { readonly reply: Bytes; readonly value: unknown };
  readonly resp3: { readonly reply: Bytes; readonly value: unknown };
}

export const CASES = (load("replies.json") as { readonly cases: readonly Case[] }).cases;
const POLICIES = new Map([
  ["WindowPolicy", "window"],
  ["BucketPolicy", "bucket"],
  ["InFlightPolicy", "inflight"],
  ["BudgetPolicy", "budget"],
  ["BlockPolicy", "block"],
  ["BreakerPolicy", "breaker"],
]);
const SOURCE = readFileSync(path.join(PACKAGE, "src", "commands", "commands.ts"), "utf8");

/** The names of a method's parameters that come before its options. */
function positional(method: string): string[] {
  const found = new RegExp(`^  ${method}\\((.*?)\\): Promise<`, "ms").exec(SOURCE);
  assert.ok(found, method);
  return Array.from((found[1] ?? "").matchAll(/(\w+): /g), (one) => one[1] ?? "").filter((name) => name !== "options");
}

function argument(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(argument);
  if (typeof value !== "object" || value === null) return value;
  if ("base64" in value) return fromJson(value as Bytes);
  const members = Object.entries(value).map(([name, one]) => [camel(name), argument(one)]);
  const made = Object.fromEntries(members) as Record<string, unknown>;
  return "kind" in value ? { ...made, kind: POLICIES.get(String(value.kind)) } : value;
}

/** A call's arguments, as TypeScript passes them. */
export function argumentsOf(one: Case): unknown[] {
  const given = new Map(Object.entries(one.arguments).map(([name, value]) => [camel(name), argument(value)]));
  const first = positional(camel(one.method)).map((name) => {
    const value = given.get(name);
    given.delete(name);
    return value;
  });
  return given.size > 0 ? [...first, Object.fromEntries(given)] : first;
}

export function requestOf(one: Case): Request<unknown> {
  const make = (requests as unknown as Record<string, (...args: unknown[]) => Request<unknown>>)[camel(one.method)];
  assert.ok(make, one.method);
  return make(...argumentsOf(one));
}

/** The value as this package has it: the kind of a union is in the value itself. */
export function expected(one: Case, value: unknown): unknown {
  if (one.method !== "describe" || typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).filter(([name]) => name !== "kind"));
}
