// What the client adds to a call: in each pair of runs ioredis or node-redis itself sends the commands, then the client's
// method.
//
//     npx tsc --project tests/tsconfig.json && node tools/overhead.mjs [pairs]
//
// It starts a server of its own, as the tests do (GW_SERVER, GW_MODULE), and prints medians of the pairs.

import { randomUUID } from "node:crypto";
import { performance } from "node:perf_hooks";
import process from "node:process";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { Gateway } from "../.build/src/index.js";
import { Server } from "../.build/tests/servers.js";

const CALLS = 1_000;
const POLICIES = [
  { name: "rpm", kind: "window", limit: 1_000_000_000, per_ms: 60_000 },
  { name: "tpm", kind: "bucket", rate: 1_000_000_000, burst: 1_000_000_000, per_ms: 60_000, meter: "tokens" },
  { name: "month", kind: "budget", amount: "1000000000", period: "month" },
];
const REQUEST = { model: "small", messages: [{ role: "user", content: "Hi" }] };
// Nothing is degraded because the machine is busy: what is measured is the client.
const OPTIONS = { timeoutMs: 5_000, connectTimeoutMs: 5_000 };

/** By the name of a call: how it is made with the bare client, and with the gateway. */
async function calls(send, gateway) {
  const cache = gateway.cache("overhead", { tenant: "ml" });
  await cache.getOrCompute(REQUEST, async () => "an answer");
  const entry = cache.key(REQUEST);
  const amounts = (tokens, usd) => ["tokens", String(tokens), "usd", usd];
  return {
    allow: [
      async () => await send("GW.ALLOW", "raw", "1000000000"),
      async () => await gateway.allow("client", 1_000_000_000),
    ],
    "admit and settle": [
      async () => {
        const lease = randomUUID();
        await send("GW.ADMIT", "{a}:raw", "LEASE", lease, "TTL", "60000", ...amounts(100, "0.01"));
        await send("GW.SETTLE", "{a}:raw", "LEASE", lease, ...amounts(90, "0.009"));
      },
      async () => {
        const admission = await gateway.admit("{a}:client", { tokens: 100, usd: "0.01" });
        await admission.settle({ tokens: 90, usd: "0.009" });
      },
    ],
    "a cached answer": [
      async () => await send("GW.CACHEGET", entry),
      async () => await cache.getOrCompute(REQUEST, async () => "never called"),
    ],
  };
}

async function usPerCall(call) {
  const began = performance.now();
  for (let made = 0; made < CALLS; made++) await call();
  return ((performance.now() - began) / CALLS) * 1_000;
}

const median = (values) => values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)];

async function measure(name, send, client, pairs) {
  const gateway = new Gateway(client, OPTIONS);
  for (const [call, [raw, own]] of Object.entries(await calls(send, gateway))) {
    const measured = [];
    for (let pair = 0; pair < pairs; pair++) measured.push([await usPerCall(raw), await usPerCall(own)]);
    const [bare, with_] = [0, 1].map((side) => median(measured.map((pair) => pair[side])).toFixed(0));
    const ratio = median(measured.map(([one, other]) => other / one)).toFixed(2);
    console.log(`| ${call} | ${name} | ${bare} | ${with_} | ${ratio} |`);
  }
  await gateway.close();
}

const pairs = Number(process.argv[2] ?? 7);
const server = await Server.start();
for (const key of ["{a}:raw", "{a}:client"]) {
  await server.run(["GW.POLICYPUT", key, JSON.stringify({ policies: POLICIES })]);
}
console.log("| call | over | alone, µs | client, µs | ratio |\n|---|---|---:|---:|---:|");
const ioredis = new Redis({ port: server.port });
await measure("ioredis", async (...words) => await ioredis.call(...words), ioredis, pairs);
ioredis.disconnect();
const nodeRedis = createClient({ socket: { port: server.port, host: "127.0.0.1" } });
await nodeRedis.connect();
await measure("node-redis", async (...words) => await nodeRedis.sendCommand(words), nodeRedis, pairs);
nodeRedis.destroy();
await server.close();
