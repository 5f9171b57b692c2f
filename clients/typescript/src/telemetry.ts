// Counts what is decided and how it went. Nothing here has a key, a prompt, an answer or a credential in it.

import type { Used } from "./amounts.js";

/** What a count is about, such as `{ family: "admission", outcome: "denied" }`. */
export type Labels = Readonly<Record<string, string>>;

/** A figure that is read when it is asked for, such as the length of a queue. */
export type Gauge = () => readonly { readonly value: number; readonly labels: Labels }[];

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

  // eslint-disable-next-line @typescript-eslint/no-empty-function -- for those that send it on
  watch(_name: string, _gauge: Gauge): void {}

  /** A call to the server. `operation` is the command's name, or PIPELINE. */
  async call<T>(_operation: string, _server: string, work: () => Promise<T>): Promise<T> {
    return await work();
  }

  /** Each count by its name and labels, as in `decisions{family=admission,outcome=denied,reason=limit}`. */
  figures(): Record<string, number> {
    return Object.fromEntries([...this.#counts].sort(([one], [other]) => (one < other ? -1 : 1)));
  }
}
