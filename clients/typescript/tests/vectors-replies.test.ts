// Every recorded call: the words that it sends, and the typed value of the reply's bytes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Commands, requests, type Request } from "../src/index.js";
import { camel, fromJson, load, native, PACKAGE, plain, toJson, type Bytes } from "./vectors.js";

interface Case {
  readonly name: string;
  readonly method: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly request: readonly Bytes[];
  readonly repeatable: boolean;
  readonly resp2: { readonly reply: Bytes; readonly value: unknown };
  readonly resp3: { readonly reply: Bytes; readonly value: unknown };
}

type Method = (...args: unknown[]) => unknown;

const CASES = (load("replies.json") as { readonly cases: readonly Case[] }).cases;
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
function argumentsOf(one: Case): unknown[] {
  const given = new Map(Object.entries(one.arguments).map(([name, value]) => [camel(name), argument(value)]));
  const first = positional(camel(one.method)).map((name) => {
    const value = given.get(name);
    given.delete(name);
    return value;
  });
  return given.size > 0 ? [...first, Object.fromEntries(given)] : first;
}

function requestOf(one: Case): Request<unknown> {
  const make = (requests as unknown as Record<string, (...args: unknown[]) => Request<unknown>>)[camel(one.method)];
  assert.ok(make, one.method);
  return make(...argumentsOf(one));
}

function expected(one: Case, value: unknown): unknown {
  if (one.method !== "describe" || typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).filter(([name]) => name !== "kind"));
}

test("a request sends the recorded words", () => {
  for (const one of CASES) {
    const request = requestOf(one);
    assert.deepEqual(
      request.args.map((arg) => toJson(Buffer.from(arg as string, "utf8"))),
      one.request,
      one.name,
    );
    assert.equal(request.repeatable, one.repeatable, one.name);
  }
});

test("a reply has the recorded value", async () => {
  for (const one of CASES) {
    for (const { reply, value } of [one.resp2, one.resp3]) {
      for (const decoded of [false, true]) {
        const commands = new Commands(() => Promise.resolve(native(fromJson(reply), decoded)));
        const method = (commands as unknown as Record<string, Method>)[camel(one.method)];
        assert.ok(method, one.method);
        const read = await method.apply(commands, argumentsOf(one));
        assert.deepEqual(plain(read), expected(one, value), `${one.name}, ${decoded ? "decoded" : "as bytes"}`);
      }
    }
  }
});

test("every method is recorded", () => {
  const methods = Object.getOwnPropertyNames(Commands.prototype).filter(
    (name) => !["constructor", "run"].includes(name),
  );
  assert.deepEqual(methods.sort(), [...new Set(CASES.map((one) => camel(one.method)))].sort());
});
