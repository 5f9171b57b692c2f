// The code blocks of the README, by their labels, and what the parts of a program need around them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE } from "./vectors.js";

/** A block's label is what stands behind the three ticks. Each has one of its own. */
export function blocks(): Map<string, string> {
  const text = readFileSync(path.join(PACKAGE, "README.md"), "utf8");
  const found = Array.from(text.matchAll(/^```(.*)\n([^]*?)^```$/gm), ([, label = "", block = ""]) => {
    return [label, block] as const;
  });
  const made = new Map(found);
  assert.equal(made.size, found.length, "two blocks of the README have one label");
  return made;
}

export interface Part {
  /** The program. The block comes in the place of BLOCK. */
  readonly around: string;
  readonly prints: string;
}

const GATEWAY = `
  import { Redis } from "ioredis";
  import { CallFailed, Gateway } from "redis-gateway";
  const client = new Redis({ port: 6379 });
  const gateway = new Gateway(client, { timeoutMs: 20_000, connectTimeoutMs: 20_000 }); // A busy machine is slow.
  async function account(key: string) {
    const policies = [{ name: "rpm", kind: "window", limit: 1, per_ms: 3_600_000 }];
    await gateway.commands.policyPut(key, JSON.stringify({ policies }));
  }
`;
const END = `
  await client.flushall();
  await gateway.close();
  await client.quit();
`;

export const PARTS: Readonly<Record<string, Part>> = {
  admission: {
    around: `${GATEWAY}
      async function handle(signal: AbortSignal) {
        const callTheModel = async () => ({ tokens: 20, price: "0.001" });
        BLOCK
        return Response.json(answer);
      }
      await account("{ml}");
      await account("{ml}:key:7");
      for (let call = 0; call < 2; call++) console.log((await handle(new AbortController().signal)).status);
      ${END}`,
    prints: "200\n429\n",
  },
  routing: {
    around: `${GATEWAY}
      const called: string[] = [];
      async function call(target: string) {
        called.push(target);
        if (called.length === 1) throw new CallFailed("overloaded", { retryAfterMs: 1_000 });
        return { tokens: 20, text: "Hello" };
      }
      for (const key of ["{ml}", "{gpt}:eu", "{gpt}:us"]) await account(key);
      {
        BLOCK
        console.log(answer.text, called.sort().join());
      }
      ${END}`,
    prints: "Hello {gpt}:eu,{gpt}:us\n",
  },
  cache: {
    around: `${GATEWAY}
      type Answer = { text: string };
      const request = { model: "small", messages: ["Hi"] };
      const entries = [[{ model: "large" }, { text: "Good morning" }]] as const;
      const model = async (_: typeof request): Promise<Answer> => ({ text: "Hello" });
      const work = async (records: readonly Buffer[]) => console.log(String(records));
      await gateway.commands.logPush("log:jobs", ["one", "two"]);
      BLOCK
      console.log(await cache.get(request), await cache.get(entries[0][0]));
      ${END}`,
    prints: "one,two\nundefined { text: 'Good morning' }\n",
  },
  away: {
    around: `${GATEWAY}
      {
        BLOCK
        await gateway.close();
      }
      ${END}`,
    prints: "",
  },
  middleware: {
    around: `${GATEWAY}
      import type { LanguageModelV4, LanguageModelV4Middleware } from "@ai-sdk/provider";
      import { Hono } from "hono";
      // Stands for the one of the package "ai".
      const wrapLanguageModel = (given: { model: LanguageModelV4; middleware: LanguageModelV4Middleware }) => given.model;
      const base = { provider: "none" } as LanguageModelV4;
      const keyOf = (request: Request) => request.headers.get("key");
      const answer = () => new Response("Hello");
      const app = new Hono<{ Variables: { key: string } }>();
      app.use(async (c, next) => {
        c.set("key", c.req.header("key") ?? "");
        await next();
      });
      BLOCK
      app.get("/", answer);
      await account("one");
      await account("other");
      for (let call = 0; call < 2; call++) {
        const response = await handler(new Request("http://localhost/", { headers: { key: "one" } }));
        const other = await app.request("/", { headers: { key: "other" } });
        console.log(response.status, other.status, model.provider);
        await Promise.all([response.text(), other.text()]);
      }
      ${END}`,
    prints: "200 200 none\n429 429 none\n",
  },
};
