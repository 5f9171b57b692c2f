// Batches of a log queue for whoever works on them: leased, renewed in the background, and acknowledged or given back.

import type { Buffer } from "node:buffer";
import { requests, type Batch } from "./commands/index.js";
import type { Core } from "./core.js";
import { Unavailable } from "./failures.js";
import type { Keeper, Lease } from "./keeper.js";
import { unlessAborted, wholeMs } from "./tasks.js";
import type { Request, Text } from "./wire.js";

export interface LeaseOptions {
  /** The most records of the batch. Default: 1. */
  readonly count?: number | undefined;
  /** For how many milliseconds the lease lives without a sign of life. Default: 30,000. */
  readonly ttlMs?: number | undefined;
  /** The longest wait for a record, in milliseconds. Default: 0. */
  readonly waitMs?: number | undefined;
  /** So many milliseconds after they were given back they can be delivered again. Default: 1,000. */
  readonly retryAfterMs?: number | undefined;
  /** Records that are not acknowledged after so many deliveries become a dead letter. Default: they never do. */
  readonly maxDeliveries?: number | undefined;
  /** If it is aborted before records have come, those that come all the same are given back. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Records that are leased to this program, or none. Declare it with `await using`: they are given back at the end of the
 * block, unless they were acknowledged. It is renewed every third of its time until then. With the number of its delivery it
 * says so of its own lease only: once that has ended, and the records were delivered to another program, nothing that is said
 * here concerns them.
 */
export class LogBatch implements Lease {
  readonly keepUntil = Infinity;
  /** Oldest first. */
  records: readonly Buffer[] = [];
  /** The same in every delivery. */
  batchId = "";
  /** The number of this delivery, 1 the first time; 0 without records. */
  delivery = 0;
  #ended = false;
  #askedAt = 0;
  #liveUntil = 0;
  #isLost = false;

  /** Made by `Gateway.lease`. */
  constructor(
    private readonly core: Core,
    private readonly keeper: Keeper,
    readonly key: Text,
    readonly ttlMs: number,
    private readonly retryAfterMs: number,
  ) {}

  /** Whether there were records. */
  get ok(): boolean {
    return this.records.length > 0;
  }

  /** It is not known any more that the records are still leased: they may be delivered to another program. */
  get lost(): boolean {
    return this.#isLost || (this.ok && performance.now() > this.#liveUntil);
  }

  /**
   * The work is done: the records are removed. Whether they were still leased, as far as is known. If the server is away, it
   * is told later.
   */
  async acknowledge(): Promise<boolean> {
    return await this.#end(requests.logAck(this.key, this.batchId, { delivery: this.delivery }));
  }

  /**
   * The records are delivered again after so many milliseconds, or become a dead letter if this was the last delivery.
   * Whether they were still leased, as far as is known.
   */
  async giveBack(retryAfterMs = this.retryAfterMs): Promise<boolean> {
    return await this.#end(this.#return(Math.round(retryAfterMs)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.giveBack();
  }

  async #end(asked: Request<boolean>): Promise<boolean> {
    if (this.#ended || !this.ok) return false;
    this.leave();
    const { lost } = this;
    return (await this.core.tasks.track(this.core.tell(asked))) ?? !lost;
  }

  #return(delayMs: number | undefined): Request<boolean> {
    return requests.logNack(this.key, this.batchId, { delayMs, delivery: this.delivery });
  }

  // For those that ask for it and renew it.

  get ended(): boolean {
    return this.#ended;
  }

  /** Nobody works on it any more. */
  leave(): void {
    this.#ended = true;
    this.keeper.remove(this);
  }

  /** Others may have it at once. */
  keepReturn(): void {
    if (this.batchId !== "") this.core.tellLater(this.#return(undefined));
  }

  liveSince(at: number): void {
    this.#liveUntil = at + this.ttlMs;
  }

  get extension(): Request<boolean> {
    return requests.logExtend(this.key, this.batchId, { leaseMs: wholeMs(this.ttlMs), delivery: this.delivery });
  }

  keepAliveRequests(): Request<boolean>[] {
    if (this.#ended) return [];
    this.#askedAt = performance.now();
    return [this.extension];
  }

  keptAlive(live: boolean): void {
    if (live) {
      this.liveSince(this.#askedAt);
    } else if (!this.#ended) {
      this.#isLost = true;
      this.core.telemetry.count("batches_lost");
    }
  }
}

export class Batches {
  constructor(
    private readonly core: Core,
    private readonly keeper: Keeper,
  ) {}

  async lease(key: Text, options: LeaseOptions): Promise<LogBatch> {
    const { ttlMs = 30_000, retryAfterMs = 1_000, signal } = options;
    signal?.throwIfAborted();
    const batch = new LogBatch(this.core, this.keeper, key, ttlMs, retryAfterMs);
    // Whoever leaves while it is asked for must not keep it.
    const left = (): void => {
      batch.leave();
      batch.keepReturn();
    };
    await unlessAborted(signal, this.core.tasks.track(this.#ask(batch, options)), left);
    if (batch.ok) this.keeper.add(batch);
    return batch;
  }

  async #ask(batch: LogBatch, options: LeaseOptions): Promise<void> {
    const end = performance.now() + (options.waitMs ?? 0);
    for (;;) {
      const askedAt = performance.now();
      const left = end - askedAt;
      const found = await this.#once(batch, options, Math.min(left, this.core.longestWaitMs));
      if (found !== null) {
        batch.batchId = found.batchId;
        batch.delivery = found.delivery;
        batch.liveSince(askedAt);
        // Of records after a wait it is not known when they came: from now on the time is.
        if (left <= 0 || (await this.#renewed(batch))) {
          // Whoever asked has left meanwhile.
          if (batch.ended) batch.keepReturn();
          else batch.records = found.records;
          return;
        }
      }
      if (left <= 0 || batch.ended || this.core.closed) return;
    }
  }

  /** Whether it is still leased, as far as is known. */
  async #renewed(batch: LogBatch): Promise<boolean> {
    const askedAt = performance.now();
    try {
      const live = await this.core.run(batch.extension);
      batch.liveSince(askedAt);
      return live;
    } catch (error) {
      if (error instanceof Unavailable) return true;
      throw error;
    }
  }

  async #once(batch: LogBatch, options: LeaseOptions, waitMs: number): Promise<Batch | null> {
    const { count = 1, maxDeliveries } = options;
    const asked = (blockMs: number | undefined): Request<Batch | null> =>
      requests.logLease(batch.key, { leaseMs: wholeMs(batch.ttlMs), count, blockMs, maxDeliveries });
    return await this.core.waitOrRun(asked, waitMs);
  }
}
