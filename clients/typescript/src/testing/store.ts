// Cache entries and log queues of the fake.

import { refused } from "./words.js";

export class Entry {
  freshUntil: number;
  until: number;

  constructor(
    readonly value: Buffer,
    readonly at: number,
    private readonly freshMs: number,
    private readonly staleMs: number,
    readonly category: string,
    readonly tags: readonly string[],
  ) {
    this.freshUntil = at + freshMs;
    this.until = this.freshUntil + staleMs;
  }

  touch(now: number): void {
    if (now >= this.freshUntil) return;
    this.freshUntil = now + this.freshMs;
    this.until = this.freshUntil + this.staleMs;
  }
}

interface FillLease {
  readonly token: number;
  readonly end: number;
  readonly holder: string;
}

/** Who computes which key. */
export class FillLeases {
  readonly #leases = new Map<string, FillLease>();
  /** The last token before each clear. */
  readonly #cleared = new Map<string, number>();
  lastToken = 1_000_000;

  /** The token, 0 if another call has the lease; and how long the lease lasts. */
  ask(key: string, now: number, length: number, holder: string): readonly [number, number] {
    let lease = this.#live(key, now);
    if (lease !== undefined && !(holder !== "" && lease.holder === holder)) return [0, lease.end - now];
    if (lease === undefined) {
      this.lastToken += 1;
      lease = { token: this.lastToken, end: now + length, holder };
      this.#leases.set(key, lease);
    }
    return [lease.token, lease.end - now];
  }

  end(key: string, token: number, now: number): boolean {
    return this.#live(key, now)?.token === token && this.#leases.delete(key);
  }

  forget(key: string): void {
    this.#leases.delete(key);
  }

  clear(what: string): void {
    this.#cleared.set(what, this.lastToken);
  }

  /** Whether nothing that the value belongs to was cleared since the token was given. */
  mayStore(token: number, names: readonly string[]): boolean {
    return names.every((name) => (this.#cleared.get(name) ?? 0) < token);
  }

  #live(key: string, now: number): FillLease | undefined {
    const lease = this.#leases.get(key);
    return lease !== undefined && lease.end > now ? lease : undefined;
  }
}

export class Queue {
  readonly records: Buffer[] = [];
  readonly #ids = new Set<string>();

  push(records: readonly Buffer[], most: number, bytes: number, reject: boolean, id: string): number[] {
    if (id !== "" && this.#ids.has(id)) return [this.records.length, 0];
    const size = (some: readonly Buffer[]): number => some.reduce((sum, { length }) => sum + length, 0);
    const tooMuch = (some: readonly Buffer[]): boolean => some.length > most || size(some) > bytes;
    if (reject && tooMuch([...this.records, ...records])) {
      throw refused("the queue is full: nothing was stored", "QUEUEFULL");
    }
    this.records.push(...records);
    let dropped = 0;
    for (; tooMuch(this.records); dropped++) this.records.shift();
    if (id !== "") this.#ids.add(id);
    return [this.records.length, dropped];
  }
}
