// Streams that are passed on, with something to be done at their end however it comes.

/** A stream of pieces: an async iterable, such as a `ReadableStream`. */
export type Source<T> = AsyncIterable<T> | ReadableStream<T>;

export interface Watch<T> {
  /** A piece is about to be passed on. */
  piece(piece: T): void;
  /** The source has failed. */
  failed(error: unknown): Promise<void>;
  /** Once, at the end. `complete`: all pieces were passed on. */
  ended(complete: boolean): Promise<void>;
}

/**
 * Passes the pieces on. Unlike a generator it also ends properly if it is closed before its first piece was asked for.
 */
export function passedOn<T>(source: Source<T>, watch: Watch<T>): AsyncIterableIterator<T> {
  let pieces: AsyncIterator<T> | undefined;
  let over = false;
  // It cannot be read at all, such as a stream that somebody else reads.
  let unusable = false;
  const begin = (): AsyncIterator<T> => {
    try {
      return (pieces ??= iteratorOf(source));
    } catch (error) {
      unusable = true;
      throw error;
    }
  };
  const leave = async (complete: boolean): Promise<void> => {
    over = true;
    await watch.ended(complete);
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next(): Promise<IteratorResult<T>> {
      if (over) return { done: true, value: undefined };
      let found: IteratorResult<T>;
      try {
        found = await begin().next();
        if (found.done !== true) watch.piece(found.value);
      } catch (error) {
        if (!isOver()) {
          over = true;
          try {
            await watch.failed(error);
          } finally {
            await closed();
          }
        }
        throw error;
      }
      if (found.done === true && !isOver()) await leave(true);
      return found;
    },
    async return(value?: unknown): Promise<IteratorResult<T>> {
      if (!over) {
        over = true;
        await closed();
      }
      return { done: true, value };
    },
  };

  /** The source may hang for as long as it likes: the end does not wait for it. */
  async function closed(): Promise<void> {
    const closing = (async () => {
      if (!unusable) await begin().return?.();
    })();
    closing.catch(() => undefined);
    await watch.ended(false);
    await closing;
  }

  // Whoever reads may leave while a piece is waited for.
  function isOver(): boolean {
    return over;
  }
}

export function iteratorOf<T>(source: Source<T>): AsyncIterator<T> {
  return source[Symbol.asyncIterator]();
}

/** A `ReadableStream` of the pieces, which closes them if its reader cancels it. */
export function readable<T>(pieces: AsyncIterator<T>): ReadableStream<T> {
  return new ReadableStream<T>(
    {
      async pull(controller) {
        const found = await pieces.next();
        if (found.done === true) controller.close();
        else controller.enqueue(found.value);
      },
      async cancel() {
        await pieces.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}
