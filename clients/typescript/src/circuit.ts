// Stops asking a server that does not answer, so that an outage costs each request nothing.

import type { Logger } from "./tasks.js";

/**
 * Closed while calls succeed. After so many failures in a row it is open: nothing is asked for a pause. Then one call at
 * a time tries, until one succeeds. Each change is logged once.
 */
export class Circuit {
  #failures = 0;
  #openedAt: number | null = null;
  #retryAt = 0;
  #awayMs = 0;

  constructor(
    readonly name: string,
    private readonly limit: number,
    private readonly pauseMs: number,
    private readonly logger: Logger,
    private readonly clock: () => number = () => performance.now(),
    private readonly jitter: () => number = Math.random,
  ) {}

  get isOpen(): boolean {
    return this.#openedAt !== null;
  }

  /** For how long it was open, in all. */
  get awayMs(): number {
    return this.#awayMs + (this.#openedAt === null ? 0 : this.clock() - this.#openedAt);
  }

  mayAsk(): boolean {
    if (this.#openedAt === null) return true;
    const now = this.clock();
    if (now < this.#retryAt) return false;
    // This call tries; nobody else does until it is known how that went, or another pause has passed.
    this.#retryAt = now + this.#nextPause();
    return true;
  }

  succeeded(): void {
    this.#failures = 0;
    if (this.#openedAt === null) return;
    const awayMs = this.clock() - this.#openedAt;
    this.#awayMs += awayMs;
    this.#openedAt = null;
    this.logger.warn(`${this.name} answers again, after ${(awayMs / 1000).toFixed(1)} s`);
  }

  failed(reason: string): void {
    this.#failures += 1;
    const now = this.clock();
    if (this.#openedAt === null && this.#failures < this.limit) return;
    this.#retryAt = now + this.#nextPause();
    if (this.#openedAt !== null) return;
    this.#openedAt = now;
    this.logger.warn(`${this.name} is away (${reason}): it is asked again from time to time`);
  }

  #nextPause(): number {
    // Processes that lost the server together do not come back to it together.
    return this.pauseMs * (0.75 + 0.5 * this.jitter());
  }
}
