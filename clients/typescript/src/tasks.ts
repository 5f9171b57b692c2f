// Waiting, and what runs in the background.

/** Where a few lines go: `console`, or a logger of the application. */
export interface Logger {
  warn(message: string): void;
  error(message: string): void;
}

/** Nothing came in time. */
export class TimedOut extends Error {
  override readonly name: string = "TimedOut";
}

export async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

// A time is measured in so many parts.
const PARTS = 20;
// The longest that a timer can wait.
const LONGEST_MS = 2 ** 31 - 1;

/**
 * Calls back when this time has passed, and returns what prevents that.
 *
 * It is measured in parts, between which the event loop reads what has arrived. A part counts as two at most, however long
 * something else has held up the loop: so whatever waits has some turns of the loop to come true, and that a reply lies
 * unread is no time-out.
 */
function whenPassed(ms: number, late: () => void): () => void {
  const part = Math.min(ms / PARTS, LONGEST_MS);
  let left = ms;
  let last = performance.now();
  let reading: NodeJS.Immediate | undefined;
  const timer = setTimeout(function ended(): void {
    const now = performance.now();
    left -= Math.min(now - last, 2 * part);
    last = now;
    if (left > 0) timer.refresh();
    // Timers come before sockets in a turn of the loop: what has arrived is read once more.
    else reading = setImmediate(late);
  }, part);
  return () => {
    clearTimeout(timer);
    clearImmediate(reading);
  };
}

/** The result, or TimedOut if that takes longer. What has arrived by then counts, also if nobody had time to read it. */
export async function bounded<T>(ms: number, work: Promise<T>): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const stop = whenPassed(ms, () => reject(new TimedOut(`nothing within ${String(ms)} ms`)));
    work.then(stop, stop);
    work.then(resolve, reject);
  });
}

/** Something that happens once, until it is cleared. */
export class Event {
  #set = false;
  #waiting = new Set<(set: boolean) => void>();

  set(): void {
    this.#set = true;
    for (const wake of this.#waiting) wake(true);
    this.#waiting.clear();
  }

  clear(): void {
    this.#set = false;
  }

  get isSet(): boolean {
    return this.#set;
  }

  /** Whether it was set in this time. `background`: the program may end meanwhile. */
  async wait(ms: number, options: { readonly background?: boolean } = {}): Promise<boolean> {
    if (this.#set) return true;
    return await new Promise((resolve) => {
      const wake = (set: boolean): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve(set);
      };
      const timer = setTimeout(wake, Math.min(Math.max(0, ms), LONGEST_MS), false);
      if (options.background === true) timer.unref();
      this.#waiting.add(wake);
    });
  }
}

/** A number of places of which each is taken by one at a time. */
export class Places {
  #free: number;
  readonly #waiting: ((taken: boolean) => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Whether a place was had in this time. */
  async take(ms: number): Promise<boolean> {
    if (this.#free > 0) {
      this.#free -= 1;
      return true;
    }
    return await new Promise((resolve) => {
      const wake = (taken: boolean): void => {
        stop();
        resolve(taken);
      };
      const stop = whenPassed(ms, () => {
        this.#waiting.splice(this.#waiting.indexOf(wake), 1);
        resolve(false);
      });
      this.#waiting.push(wake);
    });
  }

  free(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next(true);
  }
}

/** What runs in the background. */
export class Tasks {
  readonly #running = new Set<Promise<unknown>>();

  constructor(private readonly logger: Logger) {}

  /** Runs it; if it fails, that is logged. */
  start(work: () => Promise<unknown>): void {
    this.track(work()).catch((error: unknown) => {
      this.logger.error(`a background task failed: ${nameOf(error)}`);
    });
  }

  /** So that `finish` waits for it. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    const ended = (): unknown => this.#running.delete(work);
    work.then(ended, ended);
    return work;
  }

  /** Waits for all that runs, for so long at most. */
  async finish(ms: number): Promise<void> {
    if (this.#running.size === 0) return;
    await bounded(ms, Promise.allSettled(this.#running)).catch(() => undefined);
  }
}

/** The result, or the signal's reason as soon as it is aborted; then `left` is called. */
export async function unlessAborted<T>(
  signal: AbortSignal | undefined,
  work: Promise<T>,
  left: () => void,
): Promise<T> {
  if (signal === undefined) return await work;
  return await new Promise<T>((resolve, reject) => {
    const abort = (): void => {
      left();
      reject(signal.reason as Error);
    };
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    const done = (): void => signal.removeEventListener("abort", abort);
    work.finally(done).then(resolve, reject);
  });
}

/** What is said of an error in logs and figures: never its text, which may have keys in it. */
export function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}

/** At least 1: the server refuses 0. */
export function wholeMs(ms: number): number {
  return Math.max(1, Math.round(ms));
}
