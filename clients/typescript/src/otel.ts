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
import { serverLabels, Telemetry, type Gauge, type Labels, type Reading } from "./telemetry.js";

const NAME = "redis-gateway";
const TOKENS = [
  ["input_tokens", "input"],
  ["output_tokens", "output"],
] as const;

// The boundaries that the conventions advise. Those of OpenTelemetry itself are meant for milliseconds.
const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10];
const POWERS_OF_FOUR = Array.from({ length: 14 }, (_, power) => 4 ** power);

/**
 * A figure of all gateways of this process. OpenTelemetry has one instrument of a name, and one value of it for each set of
 * attributes: values with the same attributes are added. It also goes on telling the last value of a set that is not there
 * any more, such as that of a gateway that was closed or of a node that has left: so that is 0.
 */
class SharedGauge {
  readonly watched = new Set<Gauge>();
  readonly #told = new Map<string, Reading["labels"]>();

  read(): Reading[] {
    const sums = new Map<string, number>();
    for (const key of this.#told.keys()) sums.set(key, 0);
    for (const gauge of this.watched) {
      for (const { value, labels } of gauge()) {
        const key = JSON.stringify(Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1)));
        sums.set(key, (sums.get(key) ?? 0) + value);
        this.#told.set(key, labels);
      }
    }
    return Array.from(sums, ([key, value]) => ({ value, labels: this.#told.get(key) ?? {} }));
  }
}

/** Of each meter its gauges, by name. */
const gauges = new WeakMap<Meter, Map<string, SharedGauge>>();

export interface OpenTelemetryOptions {
  /** Default: that of the global provider. */
  readonly meter?: Meter | undefined;
  /** Default: that of the global provider. */
  readonly tracer?: Tracer | undefined;
  /**
   * Tells this gateway's counts and gauges from those of the process's other gateways: the attribute `gateway`. Without
   * names they are added.
   */
  readonly name?: string | undefined;
}

/** Figures of one gateway that go to OpenTelemetry's global providers, or to those that are given. */
export class OpenTelemetry extends Telemetry {
  readonly #attributes: Labels;
  readonly #meter: Meter;
  readonly #tracer: Tracer;
  readonly #counters = new Map<string, Counter>();
  readonly #duration: Histogram;
  readonly #tokens: Histogram;

  constructor(options: OpenTelemetryOptions = {}) {
    super();
    this.#attributes = options.name === undefined ? {} : { gateway: options.name };
    this.#meter = options.meter ?? metrics.getMeter(NAME);
    this.#tracer = options.tracer ?? trace.getTracer(NAME);
    this.#duration = this.#meter.createHistogram("db.client.operation.duration", {
      unit: "s",
      description: "How long the server took to answer.",
      advice: { explicitBucketBoundaries: SECONDS },
    });
    this.#tokens = this.#meter.createHistogram("gen_ai.client.token.usage", {
      unit: "{token}",
      description: "Tokens that requests have used.",
      advice: { explicitBucketBoundaries: POWERS_OF_FOUR },
    });
  }

  override count(name: string, labels: Labels = {}, amount = 1): void {
    super.count(name, labels, amount);
    quietly(() => {
      const counter = this.#counters.get(name) ?? this.#meter.createCounter(`redis_gateway.${name}`);
      this.#counters.set(name, counter);
      counter.add(amount, { ...labels, ...this.#attributes });
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

  override watch(name: string, gauge: Gauge): () => void {
    const named: Gauge = () =>
      gauge().map(({ value, labels }) => ({ value, labels: { ...labels, ...this.#attributes } }));
    const { watched } = this.#shared(name);
    watched.add(named);
    return () => watched.delete(named);
  }

  #shared(name: string): SharedGauge {
    const known = gauges.get(this.#meter) ?? new Map<string, SharedGauge>();
    gauges.set(this.#meter, known);
    const found = known.get(name);
    if (found !== undefined) return found;
    const made = new SharedGauge();
    quietly(() => {
      this.#meter.createObservableGauge(`redis_gateway.${name}`).addCallback((result) => {
        for (const { value, labels } of made.read()) result.observe(value, labels);
      });
      known.set(name, made);
    });
    return made;
  }

  override async call<T>(operation: string, server: string, work: () => Promise<T>): Promise<T> {
    const attributes: Attributes = {
      "db.system.name": "redis",
      "db.operation.name": operation,
      ...serverLabels(server),
    };
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

/** What is measured must not fail because of how it is measured. */
function quietly(work: () => void): void {
  try {
    work();
  } catch {
    // A figure that is missing is no reason to refuse a request.
  }
}
