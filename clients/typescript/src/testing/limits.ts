// Windows, buckets, slots. Units are counted in 10^-12.

/** Whether it is allowed, and in how many milliseconds it would be; -1 if never. */
export type Asked = readonly [allowed: boolean, retryAfterMs: number];

/** Exact, in whole milliseconds: what was taken at t counts up to and including t + length - 1. */
export class Window {
  #taken: { readonly at: number; readonly units: bigint }[] = [];

  get used(): bigint {
    return this.#taken.reduce((sum, { units }) => sum + units, 0n);
  }

  ask(now: number, limit: bigint, length: number, cost: bigint, fixed: boolean): Asked {
    if (!fixed) this.#taken = this.#taken.filter(({ at }) => now < at + length);
    else if (this.#taken.length > 0 && now >= this.#began + length) this.#taken = [];
    let used = this.used;
    if (used + cost <= limit) return [true, 0];
    if (cost > limit) return [false, -1];
    for (const { at, units } of this.#taken) {
      used -= units;
      if (used + cost <= limit) return [false, at + length - now];
    }
    return [false, -1];
  }

  take(now: number, units: bigint, fixed: boolean): void {
    if (units !== 0n) this.#taken.push({ at: fixed && this.#taken.length > 0 ? this.#began : now, units });
    this.#taken.sort((one, other) => one.at - other.at);
  }

  resetAfter(now: number, length: number): number {
    return Math.max(0, ...this.#taken.filter(({ units }) => units !== 0n).map(({ at }) => at + length - now));
  }

  get #began(): number {
    return Math.min(...this.#taken.map(({ at }) => at));
  }
}

/** Its level is in parts of a unit of which `rate` flow in each millisecond. */
export class Bucket {
  constructor(
    public at: number,
    public level: bigint,
  ) {}

  flow(now: number, rate: bigint, full: bigint): void {
    const level = this.level + rate * BigInt(now - this.at);
    this.level = level < full ? level : full;
    this.at = now;
  }

  ask(rate: bigint, full: bigint, cost: bigint): Asked {
    if (cost <= this.level) return [true, 0];
    return cost > full ? [false, -1] : [false, over(cost - this.level, rate)];
  }

  take(cost: bigint, full: bigint): void {
    const level = this.level - cost;
    this.level = level < full ? level : full;
  }

  resetAfter(rate: bigint, full: bigint): number {
    return over(full - this.level, rate);
  }
}

/** The quotient, rounded up. */
function over(value: bigint, rate: bigint): number {
  return value <= 0n ? 0 : Number((value + rate - 1n) / rate);
}

export class Slots {
  readonly #holders = new Map<string, { readonly end: number; readonly token: number }>();
  #lastToken = 0;

  acquire(now: number, most: number, holder: string, ttl: number): number[] {
    this.#prune(now);
    const { size } = this.#holders;
    const known = this.#holders.get(holder);
    if (known === undefined && size >= most) {
      const ends = Array.from(this.#holders.values(), ({ end }) => end).sort((one, other) => one - other);
      return [0, size, most, most === 0 ? -1 : (ends[size - most] ?? now) - now, 0];
    }
    const token = known?.token ?? Math.max(this.#lastToken + 1, now * 1024);
    this.#lastToken = Math.max(this.#lastToken, token);
    this.#holders.set(holder, { end: now + ttl, token });
    return [1, this.#holders.size, most, 0, token];
  }

  renew(now: number, holder: string, ttl: number): number {
    this.#prune(now);
    const known = this.#holders.get(holder);
    if (known !== undefined) this.#holders.set(holder, { ...known, end: now + ttl });
    return Number(known !== undefined);
  }

  release(now: number, holder: string): number {
    this.#prune(now);
    return Number(this.#holders.delete(holder));
  }

  #prune(now: number): void {
    for (const [holder, { end }] of this.#holders) if (end <= now) this.#holders.delete(holder);
  }
}
