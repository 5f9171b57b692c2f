// Every recorded call: the words that it sends, and the typed value of the reply's bytes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Commands } from "../src/index.js";
import { argumentsOf, CASES, expected, requestOf } from "./calls.js";
import { camel, fromJson, native, plain, toJson } from "./vectors.js";

type Method = (...args: unknown[]) => unknown;

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
