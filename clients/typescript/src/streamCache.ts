// A cache of streams: stored when they are complete, and replayed piece by piece.

import type { Buffer } from "node:buffer";
import type { Cache, EntryOptions, Flight } from "./cache.js";
import type { Core } from "./core.js";
import { iteratorOf, passedOn, type Source } from "./streams.js";
import { bounded, TimedOut } from "./tasks.js";

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
      let found: { readonly value: readonly T[] } | undefined;
      try {
        found = this.entries.coalesced(await bounded(Math.max(0, end - performance.now()), flight));
      } catch (error) {
        if (!(error instanceof TimedOut)) throw error;
        this.entries.count("wait_timeout");
        yield* pieces(compute());
        return;
      }
      if (found !== undefined) {
        yield* found.value;
        return;
      }
    }
    let land: (encoded: Buffer | undefined) => void = () => undefined;
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
