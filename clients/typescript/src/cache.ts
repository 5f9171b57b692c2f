// The response cache: one computation for all who ask for the same, in this process and in all others.

import { Buffer } from "node:buffer";
import type { Amount } from "./amounts.js";
import { cacheKey } from "./cacheKey.js";
import { requests, type CacheFigures } from "./commands/index.js";
import type { Core } from "./core.js";
import { GatewayError } from "./errors.js";
import { Unavailable } from "./failures.js";
import { Fill, type FillOptions } from "./fill.js";
import { iteratorOf, passedOn, type Source } from "./streams.js";
import { bounded, nameOf, Places, TimedOut, unlessAborted, wholeMs } from "./tasks.js";
import { bytesOf } from "./wire.js";

/** How values become bytes, and bytes values. */
export interface Codec<T> {
  encode(value: T): Uint8Array | string;
  decode(bytes: Buffer): T;
}

export interface CacheOptions {
  /** Who may see the answers: a team, a customer. Two tenants never share one. No colon. */
  readonly tenant?: string | undefined;
  /** For how many milliseconds an answer is fresh. Default: an hour. */
  readonly ttlMs?: number | undefined;
  /** For how many milliseconds after that it is served while it is refreshed. Default: 0. */
  readonly staleMs?: number | undefined;
  /** Longer than a computation may take, in milliseconds. Default: 2 minutes. */
  readonly leaseMs?: number | undefined;
  /** The longest wait for the computation of another, in milliseconds. Then it computes by itself. Default: a minute. */
  readonly waitMs?: number | undefined;
  /** Members of requests that do not change the answer, such as `stream` and `user`. */
  readonly ignore?: readonly string[] | undefined;
  /** So many are computed at a time while the cache is away. Default: 64. */
  readonly computing?: number | undefined;
}

export interface EntryOptions {
  /** Names under which entries are cleared. */
  readonly tags?: readonly string[] | undefined;
  /** What each hit saves, such as the price of the call. */
  readonly saved?: Amount | undefined;
}

export interface ComputeOptions extends EntryOptions {
  /** If it is aborted, whoever waits next computes. It is given to `compute`, too. */
  readonly signal?: AbortSignal | undefined;
}

/** JSON, which keeps `null` apart from a miss. It has no `undefined`. */
export function json<T>(): Codec<T> {
  return { encode: jsonOf, decode: (bytes) => JSON.parse(bytes.toString("utf8")) as T };
}

function jsonOf(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new TypeError("not a JSON value");
  return text;
}

/**
 * A computation that others in this process wait for. It yields the answer as it is stored, of which each of them makes an
 * object of its own; or nothing, if it has failed or cannot be encoded.
 */
type Flight = Promise<Buffer | undefined>;

interface Led<T> {
  readonly value: T;
  readonly encoded: Buffer | undefined;
}

/** Computes a value. The signal is that of `getOrCompute`. */
export type Compute<T> = (signal: AbortSignal | undefined) => Promise<T>;

export class Cache<T> {
  readonly tenant: string | undefined;
  readonly #flights = new Map<string, Flight>();
  readonly #computing: Places;
  readonly #ttlMs: number;
  readonly #staleMs: number;
  readonly #ignore: readonly string[];
  readonly #fill: FillOptions;

  /** Made by `Gateway.cache`. */
  constructor(
    private readonly core: Core,
    readonly category: string,
    private readonly codec: Codec<T>,
    options: CacheOptions,
  ) {
    this.tenant = options.tenant;
    this.#ttlMs = options.ttlMs ?? 3_600_000;
    this.#staleMs = options.staleMs ?? 0;
    this.#ignore = options.ignore ?? [];
    this.#fill = { leaseMs: options.leaseMs ?? 120_000, waitMs: options.waitMs ?? 60_000 };
    this.#computing = new Places(options.computing ?? 64);
  }

  /** The key of a request: the same in all languages, and never that of another tenant. */
  key(request: unknown): string {
    return cacheKey(this.category, request, { tenant: this.tenant, ignore: this.#ignore });
  }

  /**
   * The cached answer to a request, or else the computed one, which is stored.
   *
   * Of all who ask for it at the same time, one computes, and the others get its answer, each as an object of its own. If
   * it fails, or its answer cannot be encoded, the next one computes. A stale answer is returned at once, and refreshed in
   * the background. While the server is away, it computes.
   */
  async getOrCompute(request: unknown, compute: Compute<T>, options: ComputeOptions = {}): Promise<T> {
    const key = this.key(request);
    const end = performance.now() + this.#fill.waitMs;
    const { signal } = options;
    signal?.throwIfAborted();
    for (;;) {
      const flight = this.#flights.get(key);
      if (flight === undefined) return await this.#fly(key, async () => await this.#lead(key, compute, options, end));
      let encoded: Buffer | undefined;
      try {
        encoded = await unlessAborted(signal, bounded(Math.max(0, end - performance.now()), flight), nothing);
      } catch (error) {
        if (!(error instanceof TimedOut)) throw error;
        this.core.telemetry.count("cache", { result: "wait_timeout" });
        return await compute(signal);
      }
      const found = this.decoded(encoded ?? null);
      if (found !== undefined) {
        this.core.telemetry.count("cache", { result: "coalesced" });
        return found.value;
      }
    }
  }

  async #fly(key: string, lead: () => Promise<Led<T>>): Promise<T> {
    const led = lead();
    this.#flights.set(
      key,
      led.then(
        ({ encoded }) => encoded,
        () => undefined,
      ),
    );
    try {
      return (await led).value;
    } finally {
      this.#flights.delete(key);
    }
  }

  async #lead(key: string, compute: Compute<T>, options: ComputeOptions, end: number): Promise<Led<T>> {
    const { signal } = options;
    const fill = new Fill(this.core, key, this.#fill);
    await unlessAborted(signal, this.core.tasks.track(fill.ask(end)), () => fill.abandon());
    const stored = fill.answer?.value ?? undefined;
    const found = this.decoded(stored ?? null);
    if (found !== undefined) {
      if (fill.token > 0) this.refresh(key, async () => await compute(undefined), fill, options);
      return { value: found.value, encoded: stored };
    }
    let value: T;
    try {
      const computed = fill.answer === undefined ? this.#computeAlone(compute, signal, end) : compute(signal);
      value = await unlessAborted(signal, computed, nothing);
    } catch (error) {
      await this.core.tasks.track(fill.giveUp());
      throw error;
    }
    const encoded = this.encoded(value);
    await this.core.tasks.track(this.keep(key, encoded, fill, options));
    return { value, encoded };
  }

  /** Without the cache all misses come together: a bounded number is computed at a time. */
  async #computeAlone(compute: Compute<T>, signal: AbortSignal | undefined, end: number): Promise<T> {
    const placed = await this.#computing.take(Math.max(0, end - performance.now()));
    try {
      return await compute(signal);
    } finally {
      if (placed) this.#computing.free();
    }
  }

  // For streams, too.

  fill(key: string): Fill {
    return new Fill(this.core, key, this.#fill);
  }

  get waitMs(): number {
    return this.#fill.waitMs;
  }

  refresh(key: string, compute: () => Promise<T>, fill: Fill, options: EntryOptions): void {
    this.core.tasks.start(async () => {
      let value: T;
      try {
        value = await compute();
      } catch (error) {
        this.core.telemetry.count("cache", { result: "refresh_failed" });
        this.core.logger.warn(`a cached answer could not be refreshed: ${nameOf(error)}`);
        await fill.giveUp();
        return;
      }
      await this.#store(key, this.encoded(value), fill, options);
    });
  }

  /**
   * Stores it, if the server has given the right to. Whoever has computed a value gets it, also if it cannot be stored.
   */
  async keep(key: string, encoded: Buffer | undefined, fill: Fill, options: EntryOptions): Promise<void> {
    if (await fill.mayStore()) await this.#store(key, encoded, fill, options);
  }

  /** If it cannot be stored, the fill lease is given up: others must not wait until it ends by itself. */
  async #store(key: string, encoded: Buffer | undefined, fill: Fill, options: EntryOptions): Promise<void> {
    if (encoded === undefined || !(await this.#set(key, encoded, fill.token, options))) await fill.giveUp();
  }

  /** Undefined if it cannot be encoded. */
  encoded(value: T): Buffer | undefined {
    try {
      const made = this.codec.encode(value);
      return typeof made === "string" ? bytesOf(made) : Buffer.from(made);
    } catch (error) {
      this.core.telemetry.count("cache", { result: "not_encoded" });
      this.core.logger.error(`an answer cannot be cached: ${nameOf(error)}`);
      return undefined;
    }
  }

  /** Whether it could be stored. */
  async #set(key: string, encoded: Uint8Array | string, token: number, options: EntryOptions): Promise<boolean> {
    const tags = options.tags !== undefined && options.tags.length > 0 ? options.tags : undefined;
    const asked = requests.cacheSet(key, encoded, {
      pxMs: wholeMs(this.#ttlMs),
      staleMs: this.#staleMs > 0 ? wholeMs(this.#staleMs) : undefined,
      tags,
      saved: options.saved,
      token: token > 0 ? token : undefined,
    });
    try {
      await this.core.run(asked);
      return true;
    } catch (error) {
      if (!(error instanceof Unavailable || error instanceof GatewayError)) throw error;
      this.core.telemetry.count("cache", { result: "not_stored" });
      return false;
    }
  }

  /** Undefined if there is none, or if it is of another form than this program's, such as that of an older version. */
  decoded(value: Buffer | null): { readonly value: T } | undefined {
    if (value === null) return undefined;
    try {
      return { value: this.codec.decode(value) };
    } catch (error) {
      this.core.telemetry.count("cache", { result: "not_decoded" });
      this.core.logger.warn(`a cached answer cannot be read: ${nameOf(error)}`);
      return undefined;
    }
  }

  // Entries.

  /** The cached answer, fresh or stale; undefined if there is none. It computes nothing and asks for no lease. */
  async get(request: unknown): Promise<T | undefined> {
    const { telemetry, logger } = this.core;
    let value: Buffer | null;
    try {
      value = await this.core.run(requests.cacheGet(this.key(request)));
    } catch (error) {
      if (error instanceof Unavailable) {
        telemetry.count("cache", { result: "away", reason: error.reason });
      } else if (error instanceof GatewayError) {
        telemetry.count("cache", { result: "error" });
        logger.warn(`the cache refuses to answer: ${nameOf(error)}`);
      } else {
        throw error;
      }
      return undefined;
    }
    const found = this.decoded(value);
    telemetry.count("cache", { result: found === undefined ? "miss" : "hit" });
    return found?.value;
  }

  /**
   * Stores an answer. If the server is away or refuses, it is not stored, and that is counted. Throws what `encode` throws.
   */
  async set(request: unknown, value: T, options: EntryOptions = {}): Promise<void> {
    await this.#set(this.key(request), this.codec.encode(value), 0, options);
  }

  /** Whether there was an entry. Rejects with Unavailable if the server is away. */
  async delete(request: unknown): Promise<boolean> {
    return (await this.core.run(requests.cacheDel(this.key(request)))) > 0;
  }

  /** Clears all entries with the tag, of all categories. Rejects with Unavailable if a server is away. */
  async clearTag(tag: string): Promise<number> {
    return sum(await this.core.transport.everywhere(requests.cacheClearTag(tag)));
  }

  /** Clears the category, of all tenants. Rejects with Unavailable if a server is away. */
  async clear(): Promise<number> {
    return sum(await this.core.transport.everywhere(requests.cacheClearCategory(this.category)));
  }

  /** Hits, misses and what was saved, of each server. */
  async figures(): Promise<CacheFigures[]> {
    const found = await this.core.transport.everywhere(requests.cacheStatsCategory(this.category));
    return found.filter((figures) => figures !== null);
  }
}

/** A cache of answers that come in pieces. An answer is stored when it is complete, and replayed piece by piece. */
export class StreamCache<T> {
  readonly #flights = new Map<string, Flight>();

  /** Made by `Gateway.streamCache`. */
  constructor(
    private readonly core: Core,
    readonly entries: Cache<readonly T[]>,
  ) {}

  /**
   * The pieces of the cached answer, or else those that are computed, as they come.
   *
   * Who asks for the same meanwhile gets the pieces when the answer is complete. If it is broken off, the next one
   * computes.
   */
  async *stream(
    request: unknown,
    compute: () => Source<T>,
    options: EntryOptions = {},
  ): AsyncGenerator<T, void, undefined> {
    const key = this.entries.key(request);
    const end = performance.now() + this.entries.waitMs;
    for (let flight = this.#flights.get(key); flight !== undefined; flight = this.#flights.get(key)) {
      const left = Math.max(0, end - performance.now());
      const late = Symbol("late");
      const encoded = await bounded(left, flight).catch(() => late);
      if (typeof encoded === "symbol") {
        yield* pieces(compute());
        return;
      }
      const found = this.entries.decoded(encoded ?? null);
      if (found !== undefined) {
        yield* found.value;
        return;
      }
    }
    let land: (encoded: Buffer | undefined) => void = nothing;
    this.#flights.set(key, new Promise((resolve) => (land = resolve)));
    try {
      yield* this.#lead(key, compute, options, end, land);
    } finally {
      this.#flights.delete(key);
      land(undefined);
    }
  }

  async *#lead(
    key: string,
    compute: () => Source<T>,
    options: EntryOptions,
    end: number,
    land: (encoded: Buffer | undefined) => void,
  ): AsyncGenerator<T, void, undefined> {
    const fill = this.entries.fill(key);
    await this.core.tasks.track(fill.ask(end));
    const stored = fill.answer?.value ?? undefined;
    const found = this.entries.decoded(stored ?? null);
    if (found !== undefined) {
      if (fill.token > 0) this.entries.refresh(key, async () => await collected(compute()), fill, options);
      land(stored);
      yield* found.value;
      return;
    }
    const made: T[] = [];
    // Called when the first piece is asked for: if that fails, it ends like a stream that breaks off.
    const source = { [Symbol.asyncIterator]: () => iteratorOf(compute()) };
    const watched = passedOn(source, {
      piece: (piece) => void made.push(piece),
      failed: () => Promise.resolve(),
      ended: async (complete) => {
        if (!complete) await this.core.tasks.track(fill.giveUp());
      },
    });
    yield* watched;
    const encoded = this.entries.encoded(made);
    land(encoded);
    await this.core.tasks.track(this.entries.keep(key, encoded, fill, options));
  }
}

async function* pieces<T>(source: Source<T>): AsyncGenerator<T, void, undefined> {
  yield* { [Symbol.asyncIterator]: () => iteratorOf(source) };
}

async function collected<T>(source: Source<T>): Promise<T[]> {
  const made: T[] = [];
  for await (const piece of pieces(source)) made.push(piece);
  return made;
}

function sum(counts: readonly number[]): number {
  return counts.reduce((one, other) => one + other, 0);
}

function nothing(): void {
  // There is nothing to be done.
}
