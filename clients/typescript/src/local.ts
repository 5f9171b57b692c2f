// Limits of this process's own, for the time in which the server is away.

// Of the keys that were used last.
const KEYS = 10_000;
// A window is counted in so many parts: what was taken in a part leaves the window with its end, late rather than early.
const PARTS = 64;

/** Whether it is allowed, what is left (of slots: what is taken), and in how many milliseconds it is (-1: never). */
export interface Taken {
  readonly allowed: boolean;
  readonly count: number;
  readonly retryAfterMs: number;
}

/** This process's part of a limit: at least 1 of a limit above 0, since to refuse everything is what `closed` is for. */
export function share(limit: number, instances: number): number {
  return Math.max(Math.floor(limit / instances), Math.min(limit, 1));
}

/** Sliding windows by key. */
export class LocalWindows {
  readonly #keys = new Map<string, { at: number; units: number }[]>();

  constructor(private readonly clock: () => number = () => performance.now()) {}

  take(key: string, limit: number, windowMs: number, cost: number, peek = false): Taken {
    const part = windowMs / PARTS;
    const now = this.clock();
    // What was taken in a part leaves a window after the part's end.
    const leaves = (at: number): number => (at + 1 + PARTS) * part;
    const taken = (this.#keys.get(key) ?? []).filter(({ at }) => leaves(at) > now);
    let used = taken.reduce((sum, { units }) => sum + units, 0);
    const allowed = used + cost <= limit;
    if (allowed && !peek && cost > 0) {
      const at = Math.floor(now / part);
      const last = taken.at(-1);
      if (last?.at === at) last.units += cost;
      else taken.push({ at, units: cost });
      used += cost;
    }
    // The key that was used last is the last one.
    this.#keys.delete(key);
    if (taken.length > 0) this.#keys.set(key, taken);
    const [oldest] = this.#keys.keys();
    if (this.#keys.size > KEYS && oldest !== undefined) this.#keys.delete(oldest);
    let over = allowed ? 0 : used + cost - limit;
    const frees = allowed ? undefined : taken.find(({ units }) => (over -= units) <= 0);
    const retryAfterMs = allowed ? 0 : frees === undefined ? -1 : Math.max(1, Math.ceil(leaves(frees.at) - now));
    return { allowed, count: Math.max(0, limit - used), retryAfterMs };
  }
}

/** Slots by key, each taken by a holder until it is released or its time is up. */
export class LocalSlots {
  readonly #keys = new Map<string, Map<string, number>>();

  constructor(private readonly clock: () => number = () => performance.now()) {}

  take(key: string, most: number, holder: string, ttlMs: number): Taken {
    const now = this.clock();
    const holders = new Map(Array.from(this.#keys.get(key) ?? []).filter(([, end]) => end > now));
    const allowed = holders.has(holder) || holders.size < most;
    if (allowed) holders.set(holder, now + ttlMs);
    if (holders.size > 0) this.#keys.set(key, holders);
    else this.#keys.delete(key);
    const first = Math.min(...holders.values());
    const retryAfterMs = allowed ? 0 : holders.size === 0 ? -1 : Math.max(1, Math.ceil(first - now));
    return { allowed, count: holders.size, retryAfterMs };
  }

  free(key: string, holder: string): void {
    const holders = this.#keys.get(key);
    holders?.delete(holder);
    if (holders?.size === 0) this.#keys.delete(key);
  }
}
