// Error replies become types.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as gateway from "../src/index.js";
import { BY_CODE, errorOf, errorWith, GatewayError } from "../src/index.js";
import { camel, load } from "./vectors.js";

interface Case {
  readonly name: string;
  readonly line: string;
  readonly type: string;
  readonly code: string;
  readonly text: string;
  readonly away: boolean;
  readonly retry: boolean;
  readonly fields: Readonly<Record<string, string>> | null;
}

const CASES = (load("errors.json") as { readonly cases: readonly Case[] }).cases;

test("an error has the type of its code", () => {
  for (const one of CASES) {
    const made = [errorOf(one.line), errorWith(one.code, one.text)];
    // Some clients leave this code out.
    if (one.code === "ERR") made.push(errorOf(one.text));
    for (const error of made) {
      assert.equal(error.constructor, (gateway as Record<string, unknown>)[one.type], one.name);
      assert.equal(error.name, one.type);
      assert.deepEqual([error.code, error.text, error.message], [one.code, one.text, one.line]);
      assert.deepEqual([error.away, error.retry], [one.away, one.retry], one.name);
      for (const [name, value] of Object.entries(one.fields ?? {})) {
        assert.equal((error as unknown as Record<string, unknown>)[camel(name)], value, one.name);
      }
    }
  }
});

test("all errors have one base", () => {
  for (const [code, type] of BY_CODE) assert.ok(new type(code, "text") instanceof GatewayError);
  assert.ok(new GatewayError("X", "y") instanceof Error);
});
