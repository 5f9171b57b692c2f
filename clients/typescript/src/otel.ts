// Sends figures, spans and durations to OpenTelemetry. Its API package is all that this needs.

import {
  metrics,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Counter,
  type Histogram,
  type Meter,
  type Tracer,
} from "@opentelemetry/api";
import type { Used } from "./amounts.js";
import { Unavailable } from "./failures.js";
import { nameOf } from "./tasks.js";
import { Telemetry, type Gauge, type Labels } from "./telemetry.js";

const NAME = "redis-gateway";
const TOKENS = [
  ["input_tokens", "input"],
  ["output_tokens", "output"],
] as const;

/** Figures of one gateway that go to OpenTelemetry's global providers, or to those that are given. */
export class OpenTelemetry extends Telemetry {
  readonly #meter: Meter;
  readonly #tracer: Tracer;
  readonly #counters = new Map<string, Counter>();
  readonly #duration: Histogram;
  readonly #tokens: Histogram;

  constructor(options: { readonly meter?: Meter | undefined; readonly tracer?: Tracer | undefined } = {}) {
    super();
    this.#meter = options.meter ?? metrics.getMeter(NAME);
    this.#tracer = options.tracer ?? trace.getTracer(NAME);
    const description = "How long the server took to answer.";
    this.#duration = this.#meter.createHistogram("db.client.operation.duration", { unit: "s", description });
    const tokens = { unit: "{token}", description: "Tokens that requests have used." };
    this.#tokens = this.#meter.createHistogram("gen_ai.client.token.usage", tokens);
  }

  override count(name: string, labels: Labels = {}, amount = 1): void {
    super.count(name, labels, amount);
    quietly(() => {
      const counter = this.#counters.get(name) ?? this.#meter.createCounter(`redis_gateway.${name}`);
      this.#counters.set(name, counter);
      counter.add(amount, labels);
    });
  }

  override used(amounts: Used, attributes: Labels): void {
    for (const [meter, type] of TOKENS) {
      const amount = amounts[meter];
      // Meters may count parts of a token, which the conventions do not.
      if (amount !== undefined && amount !== null) {
        quietly(() => this.#tokens.record(Math.round(Number(amount)), { "gen_ai.token.type": type, ...attributes }));
      }
    }
  }

  override watch(name: string, gauge: Gauge): void {
    quietly(() => {
      this.#meter.createObservableGauge(`redis_gateway.${name}`).addCallback((result) => {
        for (const { value, labels } of gauge()) result.observe(value, labels);
      });
    });
  }

  override async call<T>(operation: string, server: string, work: () => Promise<T>): Promise<T> {
    const attributes: Attributes = { "db.system.name": "redis", "db.operation.name": operation, ...addressOf(server) };
    const span = this.#tracer.startSpan(operation, { kind: SpanKind.CLIENT, attributes });
    const began = performance.now();
    try {
      return await work();
    } catch (error) {
      // Never the error's text, which may have keys in it.
      attributes["error.type"] = error instanceof Unavailable ? error.reason : nameOf(error);
      span.setAttribute("error.type", attributes["error.type"]);
      span.setStatus({ code: SpanStatusCode.ERROR });
      throw error;
    } finally {
      span.end();
      quietly(() => this.#duration.record((performance.now() - began) / 1_000, attributes));
    }
  }
}

function addressOf(server: string): Attributes {
  const colon = server.lastIndexOf(":");
  const port = Number(server.slice(colon + 1));
  if (colon < 0 || !Number.isInteger(port)) return server === "" ? {} : { "server.address": server };
  return { "server.address": server.slice(0, colon), "server.port": port };
}

/** What is measured must not fail because of how it is measured. */
function quietly(work: () => void): void {
  try {
    work();
  } catch {
    // A figure that is missing is no reason to refuse a request.
  }
}
