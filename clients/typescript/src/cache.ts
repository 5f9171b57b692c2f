// The response cache: one computation for all who ask for the same, in this process and in all others.

import { Buffer } from "node:buffer";
import type { Amount } from "./amounts.js";
import { cacheKey } from "./cacheKey.js";
import { requests, type CacheFigures } from "./commands/index.js";
import { BATCH, BATCH_BYTES, type Ask, type Core } from "./core.js";
import { GatewayError } from "./errors.js";
import { Unavailable } from "./failures.js";
import { Fill, type FillOptions } from "./fill.js";
import { bounded, nameOf, Places, TimedOut, unlessAborted, wholeMs } from "./tasks.js";
import type { Labels } from "./telemetry.js";
import { bytesOf, type Request } from "./wire.js";

/** How values become bytes, and bytes values. */
export interface Codec<T> {
  encode(value: T): Uint8Array | string;
  decode(bytes: Buffer): T;
}

export interface CacheOptions {
  /** Who may see the answers: a team, a customer. Two tenants never share one. No colon. */
  readonly tenant?: string | undefined;
  /**
   * For how many milliseconds an answer is fresh. Default: what the server's `gw.cache-ttl` says of the category, else an
   * hour.
   */
  readonly ttlMs?: number | undefined;
  /**
   * For how many milliseconds after that it is served while it is refreshed. Default: what the server's `gw.cache-stale`
   * says of the category, else 0.
   */
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
export type Flight = Promise<Buffer | undefined>;

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
  readonly #pxMs: number | undefined;
  readonly #staleMs: number | undefined;
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
    this.#pxMs = options.ttlMs === undefined ? undefined : wholeMs(options.ttlMs);
    this.#staleMs = options.staleMs === undefined ? undefined : Math.round(options.staleMs);
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
        this.count("wait_timeout");
        return await compute(signal);
      }
      const found = this.coalesced(encoded);
      if (found !== undefined) return found.value;
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
    const fill = this.fill(key);
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
    return new Fill(this.core, key, this.#fill, (result, labels) => this.count(result, labels));
  }

  count(result: string, labels: Labels = {}): void {
    this.core.telemetry.count("cache", { category: this.category, result, ...labels });
  }

  /** The answer of another caller's computation, as an object of this caller's own; undefined if it has none. */
  coalesced(encoded: Buffer | undefined): { readonly value: T } | undefined {
    const found = this.decoded(encoded ?? null);
    if (found !== undefined) this.count("coalesced");
    return found;
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
        this.count("refresh_failed");
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
    const stored = encoded !== undefined && (await this.#stored(this.#setting(key, encoded, fill.token, options)));
    if (!stored) await fill.giveUp();
  }

  /** Undefined if it cannot be encoded. */
  encoded(value: T): Buffer | undefined {
    try {
      return this.#bytes(value);
    } catch (error) {
      this.count("not_encoded");
      this.core.logger.error(`an answer cannot be cached: ${nameOf(error)}`);
      return undefined;
    }
  }

  #bytes(value: T): Buffer {
    const made = this.codec.encode(value);
    return typeof made === "string" ? bytesOf(made) : Buffer.from(made);
  }

  #setting(key: string, encoded: Buffer, token: number, { tags, saved }: EntryOptions): Request<boolean> {
    return requests.cacheSet(key, encoded, {
      pxMs: this.#pxMs,
      staleMs: this.#staleMs,
      tags: tags !== undefined && tags.length > 0 ? tags : undefined,
      saved,
      token: token > 0 ? token : undefined,
    });
  }

  /** Whether it could be stored. */
  async #stored(asked: Request<boolean>, ask: Ask = this.core.ask): Promise<boolean> {
    try {
      await ask(asked);
      return true;
    } catch (error) {
      if (!(error instanceof Unavailable || error instanceof GatewayError)) throw error;
      this.count("not_stored");
      return false;
    }
  }

  /** Undefined if there is none, or if it is of another form than this program's, such as that of an older version. */
  decoded(value: Buffer | null): { readonly value: T } | undefined {
    if (value === null) return undefined;
    try {
      return { value: this.codec.decode(value) };
    } catch (error) {
      this.count("not_decoded");
      this.core.logger.warn(`a cached answer cannot be read: ${nameOf(error)}`);
      return undefined;
    }
  }

  // Entries.

  /** The cached answer, fresh or stale; undefined if there is none. It computes nothing and asks for no lease. */
  async get(request: unknown): Promise<T | undefined> {
    return (await this.getMany([request]))[0];
  }

  /**
   * What `get` returns for each of them, in their order. A hundred are asked for in one round trip to each server. A value
   * is one that `codec` makes, so an entry that has `undefined` in it cannot be told from none.
   */
  async getMany(askedFor: Iterable<unknown>): Promise<(T | undefined)[]> {
    const asked = Array.from(askedFor, (request) => requests.cacheGet(this.key(request)));
    const found: (T | undefined)[] = [];
    for (let at = 0; at < asked.length; at += BATCH) {
      const batch = asked.slice(at, at + BATCH);
      const answers = await this.core.together(batch);
      for (const [place, request] of batch.entries()) {
        found.push(await this.#got(request, answers[place] ?? this.core.ask));
      }
    }
    return found;
  }

  async #got(request: Request<Buffer | null>, ask: Ask): Promise<T | undefined> {
    let value: Buffer | null;
    try {
      value = await ask(request);
    } catch (error) {
      if (error instanceof Unavailable) {
        this.count("away", { reason: error.reason });
      } else if (error instanceof GatewayError) {
        this.count("error");
        this.core.logger.warn(`the cache refuses to answer: ${nameOf(error)}`);
      } else {
        throw error;
      }
      return undefined;
    }
    const found = this.decoded(value);
    this.count(found === undefined ? "miss" : "hit");
    return found?.value;
  }

  /**
   * Stores an answer. If the server is away or refuses, it is not stored, and that is counted. Throws what `encode` throws.
   */
  async set(request: unknown, value: T, options: EntryOptions = {}): Promise<void> {
    await this.setMany([[request, value]], options);
  }

  /**
   * Does for each request and its answer what `set` does, all with the same tags: a hundred, or what has 512 KiB, are stored
   * in one round trip to each server. If `encode` throws, none is stored.
   */
  async setMany(entries: Iterable<readonly [request: unknown, value: T]>, options: EntryOptions = {}): Promise<void> {
    const pairs = Array.from(entries, ([request, value]) => [this.key(request), this.#bytes(value)] as const);
    let batch: Request<boolean>[] = [];
    let bytes = 0;
    for (const [key, encoded] of pairs) {
      if (batch.length === BATCH || (batch.length > 0 && bytes + encoded.length > BATCH_BYTES)) {
        await this.#storeBatch(batch);
        [batch, bytes] = [[], 0];
      }
      batch.push(this.#setting(key, encoded, 0, options));
      bytes += encoded.length;
    }
    if (batch.length > 0) await this.#storeBatch(batch);
  }

  async #storeBatch(batch: readonly Request<boolean>[]): Promise<void> {
    const answers = await this.core.together(batch);
    for (const [place, request] of batch.entries()) await this.#stored(request, answers[place]);
  }

  /** Whether there was an entry. Rejects with Unavailable if the server is away. */
  async delete(request: unknown): Promise<boolean> {
    return (await this.core.run(requests.cacheDel(this.key(request)))) > 0;
  }

  /**
   * Clears the category, of all tenants, on every primary of a cluster. Returns how many entries there were. A server has 2
   * seconds: if one is away, it rejects with Unavailable, and the others are cleared.
   */
  async clear(): Promise<number> {
    return sum(await this.core.background.everywhere(requests.cacheClearCategory(this.category)));
  }

  /** Hits, misses and what was saved, of each server. */
  async figures(): Promise<CacheFigures[]> {
    const found = await this.core.transport.everywhere(requests.cacheStatsCategory(this.category));
    return found.filter((figures) => figures !== null);
  }
}

export function sum(counts: readonly number[]): number {
  return counts.reduce((one, other) => one + other, 0);
}

function nothing(): void {
  // There is nothing to be done.
}
