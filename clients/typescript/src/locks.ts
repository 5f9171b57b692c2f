// Slots and locks: taken, renewed in the background, and released safely.

import { requests, type Slot as Answer } from "./commands/index.js";
import type { Core } from "./core.js";
import { LockLost, type Outcome } from "./decisions.js";
import { Unavailable } from "./failures.js";
import type { Keeper, Lease } from "./keeper.js";
import { share } from "./local.js";
import { Event, sleep, unlessAborted, wholeMs } from "./tasks.js";
import { nameOfKey, type Request, type Text } from "./wire.js";

export interface SlotOptions {
  /** It is free by itself after this time, in milliseconds, unless it is renewed. Default: 30,000. */
  readonly ttlMs?: number | undefined;
  /** The longest wait for it, in milliseconds, first come, first served. Default: 0. */
  readonly waitMs?: number | undefined;
  /** Renew it every third of its time until it is released. Default: true. */
  readonly renew?: boolean | undefined;
  /** If it is aborted before the answer has come, nothing stays taken. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * One of the slots of a key, or no slot. With one slot in all it is a lock. Declare it with `await using`, or call
 * `release` in a `finally`. It is renewed every third of its time until then.
 */
export class Slot implements Lease {
  /** The name under which it is taken, new for each. */
  readonly holder: string = crypto.randomUUID();
  readonly keepUntil = Infinity;
  outcome: Outcome = "denied";
  reason = "";
  inUse = 0;
  retryAfterMs = 0;
  /** Larger than those of all grants before it; 0 without a slot, and while the server is away. */
  fencingToken = 0;
  #ended = false;
  #askedAt = 0;
  #liveUntil = 0;
  #isLost = false;
  /** Lost, or released. */
  readonly #changed = new Event();
  #controller: AbortController | undefined;

  /** Made by `Gateway.slot` and `Gateway.lock`. */
  constructor(
    private readonly core: Core,
    private readonly keeper: Keeper,
    readonly key: Text,
    readonly max: number,
    readonly ttlMs: number,
  ) {}

  /** Whether there was a slot. */
  get ok(): boolean {
    return this.outcome !== "denied";
  }

  /** It is not known any more that the slot is still taken: somebody else may have it. */
  get lost(): boolean {
    return this.#isLost || (this.outcome === "admitted" && performance.now() > this.#liveUntil);
  }

  /** Throws LockLost if the slot was lost, or never taken. */
  check(): void {
    if (!this.ok || this.lost) throw new LockLost(this.reason === "" ? "lost" : this.reason);
  }

  /** Waits until the slot is lost or released, for so long at most, and tells whether it is lost. */
  async untilLost(ms = Infinity): Promise<boolean> {
    const end = performance.now() + ms;
    while (!this.lost) {
      if (this.#ended) return false;
      const now = performance.now();
      if (now >= end) return false;
      // Without a reply of the server nobody sets the event: the time for which it is held ends by itself. A moment more,
      // so that the time has passed for certain.
      const until = Math.min(end, this.outcome === "admitted" ? this.#liveUntil : Infinity);
      await this.#changed.wait(until - now + 1, { background: true });
    }
    return true;
  }

  /** Aborted when the slot is lost, and from the beginning if there was none: for the work that it guards. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = (this.#controller = new AbortController());
      if (!this.ok) controller.abort(new LockLost(this.reason));
      else
        void this.untilLost().then((lost) => {
          if (lost && !this.#ended) controller.abort(new LockLost("lost"));
        });
    }
    return this.#controller.signal;
  }

  /** Gives it back. Whether it was still taken, as far as is known. */
  async release(): Promise<boolean> {
    if (this.#ended || !this.ok) return false;
    this.leave();
    if (this.outcome === "degraded") {
      this.core.slots.free(nameOfKey(this.key), this.holder);
      return true;
    }
    return await this.core.tasks.track(this.#release());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  async #release(): Promise<boolean> {
    const lost = this.lost;
    return (await this.core.tell(requests.release(this.key, this.holder))) ?? !lost;
  }

  // For those that take and renew it.

  get ended(): boolean {
    return this.#ended;
  }

  /** Nobody wants it any more. */
  leave(): void {
    this.#ended = true;
    this.#changed.set();
    this.keeper.remove(this);
  }

  keepRelease(): void {
    this.core.tellLater(requests.release(this.key, this.holder));
  }

  liveSince(at: number): void {
    this.#liveUntil = at + this.ttlMs;
  }

  keepAliveRequests(): Request<boolean>[] {
    if (this.#ended) return [];
    this.#askedAt = performance.now();
    return [requests.renew(this.key, this.holder, { ttlMs: wholeMs(this.ttlMs) })];
  }

  keptAlive(live: boolean): void {
    if (live) {
      this.liveSince(this.#askedAt);
    } else if (!this.#ended) {
      this.#isLost = true;
      this.#changed.set();
      this.core.telemetry.count("locks_lost");
    }
  }
}

export class Locks {
  constructor(
    private readonly core: Core,
    private readonly keeper: Keeper,
  ) {}

  async acquire(key: Text, most: number, lock: boolean, options: SlotOptions): Promise<Slot> {
    const { ttlMs = 30_000, waitMs = 0, renew = true, signal } = options;
    signal?.throwIfAborted();
    const slot = new Slot(this.core, this.keeper, key, most, ttlMs);
    // Whoever leaves while it is asked for must not keep it.
    const left = (): void => {
      slot.leave();
      slot.keepRelease();
      if (slot.outcome === "degraded") this.core.slots.free(nameOfKey(key), slot.holder);
    };
    await unlessAborted(signal, this.core.tasks.track(this.#ask(slot, waitMs, lock)), left);
    this.core.telemetry.decided(lock ? "locks" : "slots", slot.outcome, slot.reason);
    if (renew && slot.outcome === "admitted") this.keeper.add(slot);
    return slot;
  }

  async #ask(slot: Slot, waitMs: number, lock: boolean): Promise<void> {
    const end = performance.now() + waitMs;
    for (;;) {
      const askedAt = performance.now();
      const left = end - askedAt;
      let answer: Answer;
      try {
        answer = await this.#once(slot, Math.min(left, this.core.longestWaitMs));
      } catch (error) {
        if (!(error instanceof Unavailable)) {
          slot.keepRelease();
          throw error;
        }
        const goesOn = !slot.ended && !this.core.closed;
        if (left > 0 && !error.down && error.reason !== "connections" && goesOn) {
          await sleep(Math.min(left, 50));
          continue;
        }
        this.#decideAlone(slot, lock, error);
        return;
      }
      slot.inUse = answer.inUse;
      slot.retryAfterMs = answer.retryAfterMs;
      slot.fencingToken = answer.fencingToken;
      if (answer.acquired) {
        slot.liveSince(askedAt);
        // Of a grant after a wait it is not known when it came: from now on the time is.
        if (left > 0 && !(await this.#renewed(slot))) continue;
        slot.outcome = "admitted";
        slot.reason = "";
        // Whoever asked has left meanwhile.
        if (slot.ended) slot.keepRelease();
        return;
      }
      slot.reason = "limit";
      if (left <= 0 || answer.retryAfterMs < 0 || slot.ended || this.core.closed) return;
    }
  }

  /** Whether it is still held, as far as is known. */
  async #renewed(slot: Slot): Promise<boolean> {
    const askedAt = performance.now();
    try {
      const held = await this.core.run(requests.renew(slot.key, slot.holder, { ttlMs: wholeMs(slot.ttlMs) }));
      slot.liveSince(askedAt);
      return held;
    } catch (error) {
      if (error instanceof Unavailable) return true;
      throw error;
    }
  }

  async #once(slot: Slot, waitMs: number): Promise<Answer> {
    const ttlMs = wholeMs(slot.ttlMs);
    const asked = (blockMs: number | undefined): Request<Answer> =>
      requests.acquire(slot.key, slot.max, slot.holder, { ttlMs, blockMs });
    return await this.core.waitOrRun(asked, waitMs);
  }

  #decideAlone(slot: Slot, lock: boolean, error: Unavailable): void {
    const mode = lock ? "closed" : this.core.settings.away.slots;
    slot.reason = error.reason;
    if (error.sent) slot.keepRelease();
    if (mode === "open") {
      slot.outcome = "degraded";
    } else if (mode === "local") {
      const own = share(slot.max, this.core.settings.instances);
      const taken = this.core.slots.take(nameOfKey(slot.key), own, slot.holder, slot.ttlMs);
      slot.inUse = taken.count;
      slot.retryAfterMs = taken.retryAfterMs;
      slot.outcome = taken.allowed ? "degraded" : "denied";
      slot.reason = taken.allowed ? error.reason : "local_limit";
    } else {
      slot.retryAfterMs = wholeMs(this.core.settings.pauseMs);
    }
  }
}
