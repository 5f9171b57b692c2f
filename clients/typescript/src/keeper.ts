// Keeps leases alive while their requests run: one timer for all of them.

import type { Core } from "./core.js";
import { GatewayError } from "./errors.js";
import { notNow, Unavailable } from "./failures.js";
import { nameOf } from "./tasks.js";
import type { Request } from "./wire.js";

/** What is kept alive: an admission, or a lock. */
export interface Lease {
  readonly ttlMs: number;
  /** By `performance.now()`. */
  readonly keepUntil: number;
  /** Empty if it has ended. */
  keepAliveRequests(): Request<number | boolean>[];
  keptAlive(live: boolean): void;
}

const MOST = 100;

export class Keeper {
  /** When each has to be extended, by `performance.now()`. */
  readonly #due = new Map<Lease, number>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;

  constructor(private readonly core: Core) {}

  /** Extends it every third of its time, until it ends, or its hard cap comes. */
  add(lease: Lease): void {
    this.#later(lease, lease.ttlMs / 3);
  }

  remove(lease: Lease): void {
    this.#due.delete(lease);
  }

  #later(lease: Lease, ms: number): void {
    const at = performance.now() + ms;
    this.#due.set(lease, at);
    if (at >= this.#timerAt || this.core.closed) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.core.tasks.start(async () => await this.#run()), ms).unref();
  }

  async #run(): Promise<void> {
    this.#timerAt = Infinity;
    const now = performance.now();
    const due = Array.from(this.#due).filter(([, at]) => at <= now);
    const leases = due.map(([lease]) => lease);
    for (const lease of leases) this.#due.delete(lease);
    if (this.core.closed) return;
    for (let at = 0; at < leases.length; at += MOST) {
      const some = leases.slice(at, at + MOST);
      try {
        await this.#extend(some);
      } catch (error) {
        // The other leases are to live on.
        this.core.logger.error(`leases were not extended: ${nameOf(error)}`);
        for (const lease of some) this.#later(lease, 1_000);
      }
    }
    let next: readonly [Lease, number] | undefined;
    for (const one of this.#due) if (next === undefined || one[1] < next[1]) next = one;
    if (next !== undefined && next[1] < this.#timerAt) this.#later(next[0], Math.max(0, next[1] - performance.now()));
  }

  async #extend(leases: readonly Lease[]): Promise<void> {
    const now = performance.now();
    const asked: { lease: Lease; requests: Request<number | boolean>[] }[] = [];
    for (const lease of leases) {
      if (now >= lease.keepUntil) lease.keptAlive(false);
      else asked.push({ lease, requests: lease.keepAliveRequests() });
    }
    const sent = asked.flatMap(({ requests }) => requests);
    if (sent.length === 0) return;
    const replies = await this.#replies(sent);
    for (const { lease, requests } of asked) {
      const own = replies.splice(0, requests.length);
      if (requests.length === 0) continue;
      if (own.some(notNow)) {
        this.core.telemetry.count("keep_alive_failed");
        this.#later(lease, lease.ttlMs / 6);
      } else if (own.every((reply) => reply === 0 || reply instanceof GatewayError)) {
        lease.keptAlive(false);
      } else {
        lease.keptAlive(true);
        this.#later(lease, lease.ttlMs / 3);
      }
    }
  }

  async #replies(sent: readonly Request<unknown>[]): Promise<unknown[]> {
    try {
      return await this.core.transport.many(sent);
    } catch (error) {
      if (error instanceof Unavailable) return sent.map(() => error);
      throw error;
    }
  }
}
