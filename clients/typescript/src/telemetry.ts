// Counts what is decided and how it went. Nothing here has a key, a prompt, an answer or a credential in it.

import type { Used } from "./amounts.js";

/** What a count is about, such as `{ family: "admission", outcome: "denied" }`. */
export type Labels = Readonly<Record<string, string>>;

/** A figure that is read when it is asked for, such as the length of a queue. */
export type Gauge = () => readonly Reading[];

export interface Reading {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
}

/** Of `host:port`, or of the path of a socket, by OpenTelemetry's conventions. */
export function serverLabels(server: string): Reading["labels"] {
  const colon = server.lastIndexOf(":");
  const port = Number(server.slice(colon + 1));
  if (colon < 0 || !Number.isInteger(port)) return server === "" ? {} : { "server.address": server };
  return { "server.address": server.slice(0, colon), "server.port": port };
}

/** Figures of one gateway. `OpenTelemetry` of `redis-gateway/otel` sends them on. */
export class Telemetry {
  readonly #counts = new Map<string, number>();

  count(name: string, labels: Labels = {}, amount = 1): void {
    const told = Object.entries(labels).map(([label, value]) => `${label}=${value}`);
    const key = told.length > 0 ? `${name}{${told.join(",")}}` : name;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + amount);
  }

  decided(family: string, outcome: string, reason: string): void {
    this.count("decisions", { family, outcome, reason: reason === "" ? "none" : reason });
  }

  /** What a settled request has used. */
  // eslint-disable-next-line @typescript-eslint/no-empty-function -- for those that send it on
  used(_amounts: Used, _attributes: Labels): void {}

  /** Reads the gauge from now on, until what is returned is called. */
  watch(_name: string, _gauge: Gauge): () => void {
    return () => undefined;
  }

  /** A call to the server. `operation` is the command's name, or PIPELINE. */
  async call<T>(_operation: string, _server: string, work: () => Promise<T>): Promise<T> {
    return await work();
  }

  /** Each count by its name and labels, as in `decisions{family=admission,outcome=denied,reason=limit}`. */
  figures(): Record<string, number> {
    return Object.fromEntries([...this.#counts].sort(([one], [other]) => (one < other ? -1 : 1)));
  }
}
