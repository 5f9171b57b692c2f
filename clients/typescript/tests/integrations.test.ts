// Middleware, and OpenTelemetry.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { LanguageModelV4, LanguageModelV4StreamPart, LanguageModelV4Usage } from "@ai-sdk/provider";
import type { Attributes, Meter, Span, Tracer } from "@opentelemetry/api";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
  type MetricData,
} from "@opentelemetry/sdk-metrics";
import { Hono } from "hono";
import { admissionMiddleware } from "../src/ai.js";
import { admitted, honoAdmission, type HonoContext } from "../src/fetch.js";
import { CallFailed, Denied, Gateway, type Admission } from "../src/index.js";
import { OpenTelemetry } from "../src/otel.js";
import { account, eventually, Lines, PATIENT, Server, withGateway } from "./servers.js";

let server: Server;
before(async () => void (server = await Server.start()));
after(async () => await server.close());

const MONTH = { name: "month", kind: "budget", amount: "10", period: "month" };
const RPM = { name: "rpm", kind: "window", limit: 2, per_ms: 60_000 };

async function settled(gateway: Gateway, key: string): Promise<void> {
  await eventually(async () => {
    const described = await gateway.commands.describe(key);
    return described?.type === "account" && described.inFlight === 0;
  });
}

test("a fetch handler is admitted and settled", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", RPM, MONTH);
    const options = { accounts: ({ url }: Request) => (url.endsWith("/free") ? null : key), estimates: { usd: 1 } };
    const handle = admitted(gateway, options, (_, admission) => {
      admission?.use({ usd: "0.25" });
      return new Response("Hello", { headers: { "content-type": "text/plain" } });
    });
    const response = await handle(new Request("http://x/chat"));
    assert.equal(response.headers.get("x-ratelimit-remaining-requests"), "1");
    assert.equal(await response.text(), "Hello");
    await settled(gateway, key);
    assert.equal(await gateway.budgets.spent(key), "0.25");
    // The client leaves.
    await (await handle(new Request("http://x/chat"))).body?.cancel();
    await settled(gateway, key);
    const denied = await handle(new Request("http://x/chat"));
    assert.deepEqual([denied.status, denied.headers.get("retry-after") !== null], [429, true]);
    assert.match(await denied.text(), /"type":"limit"/);
    assert.equal(await (await handle(new Request("http://x/free"))).text(), "Hello");
    const failing = admitted(gateway, { accounts: () => other }, () => Promise.reject(new Error("mine")));
    const other = await account(gateway, "a", MONTH);
    await assert.rejects(failing(new Request("http://x/chat")), /mine/);
    await settled(gateway, other);
  });
});

test("middleware of Hono", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", RPM, MONTH);
    const app = new Hono<{ Variables: { admission: Admission } }>();
    app.use(honoAdmission<HonoContext>(gateway, { accounts: () => key, estimates: { usd: 1 } }) as never);
    app.get("/chat", (c) => {
      c.get("admission").use({ usd: "0.125" });
      return c.text("Hello");
    });
    const response = await app.request("/chat");
    assert.deepEqual([response.status, await response.text()], [200, "Hello"]);
    assert.equal(response.headers.get("ratelimit-policy"), '"rpm";q=2;w=60');
    await settled(gateway, key);
    assert.equal(await gateway.budgets.spent(key), "0.125");
    await (await app.request("/chat")).text();
    const denied = await app.request("/chat");
    assert.deepEqual([denied.status, denied.headers.get("ratelimit")?.includes("r=0")], [429, true]);
  });
});

const USAGE: LanguageModelV4Usage = {
  inputTokens: { total: 7, noCache: 7, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 5, text: 5, reasoning: 0 },
};
const PROMPT = { prompt: [] };

function stream(...parts: LanguageModelV4StreamPart[]): ReadableStream<LanguageModelV4StreamPart> {
  return new ReadableStream({
    start(controller) {
      for (const part of parts) controller.enqueue(part);
      controller.close();
    },
  });
}

test("models of the Vercel AI SDK", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(
      gateway,
      "a",
      { ...RPM, limit: 4 },
      { name: "tpm", kind: "window", limit: 1_000, per_ms: 60_000, meter: "tokens" },
    );
    const { wrapGenerate, wrapStream } = admissionMiddleware(gateway, {
      accounts: () => key,
      estimates: { tokens: 100 },
    });
    assert.ok(wrapGenerate && wrapStream);
    const model = { modelId: "small" } as LanguageModelV4;
    const finish = { unified: "stop", raw: "stop" } as const;
    const doGenerate = () => Promise.resolve({ content: [], finishReason: finish, usage: USAGE, warnings: [] });
    const parts: LanguageModelV4StreamPart[] = [
      { type: "text-delta", id: "1", delta: "Hello" },
      { type: "finish", finishReason: finish, usage: USAGE },
    ];
    const doStream = () => Promise.resolve({ stream: stream(...parts) });
    const call = { doGenerate, doStream, params: PROMPT, model };
    assert.equal((await wrapGenerate(call)).usage, USAGE);
    const used = async (): Promise<unknown> => {
      const { rows } = await gateway.admit(key, {}, { rows: "DETAIL" }).then(async (one) => (await one.undo(), one));
      return rows.find(({ policy }) => policy === "tpm")?.used;
    };
    assert.equal(await used(), 12);
    const seen: string[] = [];
    for await (const part of (await wrapStream(call)).stream) seen.push(part.type);
    assert.deepEqual(seen, ["text-delta", "finish"]);
    await settled(gateway, key);
    assert.equal(await used(), 24);
    await assert.rejects(
      async () => await wrapGenerate({ ...call, doGenerate: () => Promise.reject(new Error("down")) }),
      /down/,
    );
    await (await wrapStream(call)).stream.cancel();
    await settled(gateway, key);
    await assert.rejects(async () => await wrapGenerate(call), Denied);
    const free = admissionMiddleware(gateway, { accounts: () => null });
    assert.equal((await free.wrapGenerate?.(call))?.usage, USAGE);
  });
});

test("an answer whose provider counts no tokens is an answer", async () => {
  await withGateway(server, async (gateway) => {
    const key = await account(gateway, "a", MONTH);
    const { wrapGenerate } = admissionMiddleware(gateway, { accounts: () => key, estimates: { usd: 1 } });
    assert.ok(wrapGenerate);
    const usage = { ...USAGE, inputTokens: { ...USAGE.inputTokens, total: NaN } };
    const finishReason = { unified: "stop", raw: "stop" } as const;
    const doGenerate = () => Promise.resolve({ content: [], finishReason, usage, warnings: [] });
    const doStream = () => Promise.reject(new Error("never called"));
    const model = { modelId: "small" } as LanguageModelV4;
    assert.equal((await wrapGenerate({ doGenerate, doStream, params: PROMPT, model })).usage, usage);
    assert.equal(await gateway.budgets.spent(key), "1");
  });
});

/** What would go to an exporter. */
class Exported {
  readonly spans: { readonly name: string; readonly attributes: Attributes; ended: boolean }[] = [];
  readonly values: { readonly name: string; readonly value: number; readonly attributes: Attributes }[] = [];
  readonly gauges = new Map<string, () => { readonly value: number; readonly attributes: Attributes }[]>();

  get tracer(): Tracer {
    return {
      startSpan: (name: string, options: { readonly attributes: Attributes }): Span => {
        const span = { name, attributes: { ...options.attributes }, ended: false };
        this.spans.push(span);
        const made = {
          setAttribute: (key: string, value: string) => ((span.attributes[key] = value), made),
          setStatus: () => made,
          end: () => (span.ended = true),
        };
        return made as unknown as Span;
      },
    } as unknown as Tracer;
  }

  get meter(): Meter {
    const instrument = (name: string): object => ({
      add: (value: number, attributes: Attributes) => this.values.push({ name, value, attributes }),
      record: (value: number, attributes: Attributes) => this.values.push({ name, value, attributes }),
    });
    return {
      createCounter: instrument,
      createHistogram: instrument,
      createObservableGauge: (name: string) => ({
        addCallback: (callback: (result: { observe(value: number, attributes: Attributes): void }) => void) => {
          this.gauges.set(name, () => {
            const found: { readonly value: number; readonly attributes: Attributes }[] = [];
            callback({ observe: (value, attributes) => found.push({ value, attributes }) });
            return found;
          });
        },
      }),
    } as unknown as Meter;
  }
}

test("spans and metrics", async () => {
  const exported = new Exported();
  const secret = "secret-account";
  const own = await Server.start();
  const client = own.client();
  const lines = new Lines();
  const telemetry = new OpenTelemetry(exported);
  const gateway = new Gateway(client, { ...PATIENT, logger: lines, telemetry, failures: 1 });
  await gateway.commands.policyPut(secret, JSON.stringify({ policies: [MONTH] }));
  const attributes = { "gen_ai.request.model": "small" };
  const admission = await gateway.admit(secret, { usd: 1 }, { attributes });
  await admission.settle({ input_tokens: 7, output_tokens: 2.5 });
  await assert.rejects(gateway.allow(secret, 1));
  await own.stop();
  await gateway.allow(`${secret}-w`, 1);
  assert.ok(exported.spans.every(({ ended }) => ended));
  const admit = exported.spans.find(({ name }) => name === "GW.ADMIT");
  const port = own.port;
  assert.deepEqual(admit?.attributes, {
    "db.system.name": "redis",
    "db.operation.name": "GW.ADMIT",
    "server.address": "127.0.0.1",
    "server.port": port,
  });
  assert.equal(exported.spans.at(-1)?.attributes["error.type"], "connection");
  const names = new Set(exported.values.map(({ name }) => name));
  for (const name of ["db.client.operation.duration", "gen_ai.client.token.usage", "redis_gateway.decisions"]) {
    assert.ok(names.has(name), name);
  }
  const tokens = exported.values.filter(({ name }) => name === "gen_ai.client.token.usage");
  assert.deepEqual(
    tokens.map(({ value }) => value),
    [7, 3],
  );
  assert.deepEqual(tokens[0]?.attributes, { "gen_ai.token.type": "input", ...attributes });
  assert.equal(exported.gauges.get("redis_gateway.circuit.open")?.()[0]?.value, 1);
  assert.ok((exported.gauges.get("redis_gateway.away.seconds")?.()[0]?.value ?? 0) > 0);
  assert.equal(exported.gauges.get("redis_gateway.kept.waiting")?.()[0]?.value, 0);
  assert.ok(!JSON.stringify([exported.spans, exported.values, lines.lines, gateway.figures()]).includes("secret"));
  await gateway.close();
  client.disconnect();
  await own.close();
});

test("tokens of several attempts are told once", async () => {
  // The accounts' admission tells of those of all attempts. A target that is called without accounts tells of its own.
  const exported = new Exported();
  const tokens = (): readonly number[] =>
    exported.values.filter(({ name }) => name === "gen_ai.client.token.usage").map(({ value }) => value);
  await withGateway(
    server,
    async (gateway) => {
      const key = await account(gateway, "{told}", MONTH);
      const targets = [await account(gateway, "{told}", RPM), await account(gateway, "{told}", RPM)];
      const request = await gateway.request(key, targets);
      const uses = [3, 4];
      await request.run((attempt) => {
        const used = uses.shift();
        attempt.use({ input_tokens: used });
        return used === 3 ? Promise.reject(new CallFailed("busy")) : Promise.resolve();
      });
      await request.settle();
      assert.deepEqual(tokens(), [7]);
      await (await gateway.route(targets)).settle({ input_tokens: 5 });
      assert.deepEqual(tokens(), [7, 5]);
    },
    { telemetry: new OpenTelemetry(exported) },
  );
});

/** OpenTelemetry's own SDK: the metrics that it would export now. */
function collecting(): { readonly meter: Meter; readonly collect: () => Promise<MetricData[]> } {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 2 ** 31 - 1 });
  const meter = new MeterProvider({ readers: [reader] }).getMeter("redis-gateway");
  return {
    meter,
    collect: async () => {
      const { resourceMetrics } = await reader.collect();
      return resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics);
    },
  };
}

test("histograms have the buckets of the conventions", async () => {
  const { meter, collect } = collecting();
  const boundaries: Record<string, unknown> = {};
  await withGateway(
    server,
    async (gateway) => {
      const key = await account(gateway, "a", MONTH);
      await (await gateway.admit(key, { usd: 1 })).settle({ input_tokens: 7 });
      for (const { descriptor, dataPoints } of await collect()) {
        const value = dataPoints[0]?.value;
        if (typeof value === "object" && "buckets" in value) boundaries[descriptor.name] = value.buckets.boundaries;
      }
    },
    { telemetry: new OpenTelemetry({ meter }) },
  );
  assert.deepEqual(boundaries, {
    "db.client.operation.duration": [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
    "gen_ai.client.token.usage": [
      1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864,
    ],
  });
});

test("gateways of a process share gauges", async () => {
  // OpenTelemetry keeps one value for each set of attributes: none of the gateways must be missing in it.
  const { meter, collect } = collecting();
  const gauge = async (name: string, label: string): Promise<Map<unknown, unknown>> => {
    const found = (await collect()).find(({ descriptor }) => descriptor.name === `redis_gateway.${name}`);
    return new Map(found?.dataPoints.map(({ attributes, value }) => [attributes[label], value]));
  };
  const own = await Server.start();
  const settings = { ...PATIENT, logger: new Lines(), failures: 1, pauseMs: 3_600_000, kept: { everyMs: 3_600_000 } };
  const clients = [server.client(), own.client(), own.client()] as const;
  const [one, two, three] = [
    new Gateway(clients[0], { ...settings, telemetry: new OpenTelemetry({ meter }) }),
    new Gateway(clients[1], { ...settings, telemetry: new OpenTelemetry({ meter }) }),
    new Gateway(clients[2], { ...settings, telemetry: new OpenTelemetry({ meter, name: "three" }) }),
  ] as const;
  const [a, b] = [one.logs("log:a", { everyMs: 3_600_000 }), one.logs("log:b", { everyMs: 3_600_000 })];
  for (const logs of [a, b, b]) logs.push({});
  assert.deepEqual(await gauge("log.buffered", "gateway"), new Map([[undefined, 3]]));
  assert.equal((await one.allow("shared", 9)).outcome, "admitted");
  await own.stop();
  for (const away of [two, three, three]) assert.equal(await away.budgets.charge("l", 1), "kept");
  const kept = await gauge("kept.waiting", "gateway");
  assert.deepEqual([kept.get(undefined), kept.get("three")], [1, 2]);
  const open = await gauge("circuit.open", "server.port");
  assert.deepEqual([open.get(server.port), open.get(own.port)], [0, 1]);
  await three.close(100);
  assert.deepEqual(
    await gauge("kept.waiting", "gateway"),
    new Map([
      [undefined, 1],
      ["three", 0],
    ]),
  );
  assert.equal(a.size, 1);
  await a.close();
  assert.deepEqual(await gauge("log.buffered", "gateway"), new Map([[undefined, 2]]));
  await Promise.all([one.close(), two.close(100)]);
  for (const client of clients) client.disconnect();
  await own.close();
});

test("figures without OpenTelemetry", async () => {
  await withGateway(server, async (gateway) => {
    await gateway.allow("figures", 1);
    await gateway.allow("figures", 1);
    assert.deepEqual(gateway.figures(), {
      "decisions{family=limits,outcome=admitted,reason=none}": 1,
      "decisions{family=limits,outcome=denied,reason=limit}": 1,
    });
  });
});

test("measuring fails no request", async () => {
  const broken = (): never => {
    throw new Error("broken");
  };
  const meter = { createCounter: broken, createHistogram: () => ({ record: broken }), createObservableGauge: broken };
  const telemetry = new OpenTelemetry({ meter: meter as unknown as Meter });
  await withGateway(server, async (gateway) => assert.equal((await gateway.allow("broken", 10)).outcome, "admitted"), {
    telemetry,
  });
});

test("health", async () => {
  await withGateway(server, async (gateway) => {
    const logs = gateway.logs("health", { everyMs: 60_000 });
    logs.push({});
    const health = await gateway.health();
    assert.deepEqual(
      { ...health, tookMs: 0 },
      { ok: true, reason: "", tookMs: 0, circuitsOpen: 0, kept: 0, logRecords: 1, logDropped: 0 },
    );
  });
  const plain = await Server.start([], "plain");
  await withGateway(plain, async (gateway) => assert.equal((await gateway.health()).reason, "ModuleMissing"));
  await plain.close();
});
