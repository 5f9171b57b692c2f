// The right to fill a cache entry: asked for under a name of its own, used, or given up.

import { requests, type CacheAnswer } from "./commands/index.js";
import type { Core } from "./core.js";
import { GatewayError } from "./errors.js";
import { Unavailable } from "./failures.js";
import { nameOf, wholeMs } from "./tasks.js";
import type { Labels } from "./telemetry.js";
import type { Request } from "./wire.js";

export interface FillOptions {
  readonly leaseMs: number;
  readonly waitMs: number;
}

export class Fill {
  /** What the server says; undefined if it is away, or says that it cannot be asked for this key. */
  answer: CacheAnswer | undefined;
  /** That of the fill lease; 0 without one. */
  token = 0;
  // No reply has come: the server may have given the fill lease.
  #asked = false;
  #answered = false;
  #abandoned = false;
  // Under the same name a lease whose reply was lost can be had again.
  readonly #holder: string = crypto.randomUUID();

  constructor(
    private readonly core: Core,
    private readonly key: string,
    private readonly options: FillOptions,
    private readonly count: (result: string, labels?: Labels) => void,
  ) {}

  /** Asks for the value, or for the right to compute it, until then. An error of the cache is a miss. */
  async ask(end: number): Promise<void> {
    try {
      await this.#askUntil(end);
    } finally {
      this.#answered = true;
    }
    if (this.#abandoned) await this.giveUp();
  }

  /** Whoever asks has left: the reply may bring a lease, which nobody else can give up. */
  abandon(): void {
    this.#abandoned = true;
    if (this.#answered) this.core.tasks.start(async () => await this.giveUp());
  }

  /** Whether the server has given the right to store a value. */
  async mayStore(): Promise<boolean> {
    if (this.answer === undefined && this.#asked && !(await this.#tryAgain())) {
      this.core.tasks.start(async () => await this.#releaseLater());
      return false;
    }
    return this.token > 0 || (this.answer !== undefined && this.answer.state !== "PENDING");
  }

  /** The next one who waits computes. */
  async giveUp(): Promise<void> {
    if (this.token === 0 && !this.#asked) return;
    if (await this.#released()) return;
    this.count("not_released");
    this.core.tasks.start(async () => await this.#releaseLater());
  }

  async #askUntil(end: number): Promise<void> {
    this.#asked = true;
    let answer: CacheAnswer;
    try {
      answer = await this.#ask(0);
      for (let left = end - performance.now(); answer.state === "PENDING" && !this.#abandoned && left > 0;) {
        answer = await this.#ask(Math.min(left, this.core.longestWaitMs));
        left = end - performance.now();
      }
    } catch (error) {
      if (error instanceof Unavailable) {
        this.#asked = error.sent;
        this.count("away", { reason: error.reason });
      } else if (error instanceof GatewayError) {
        this.#asked = false;
        this.count("error");
        this.core.logger.warn(`the cache refuses to answer: ${nameOf(error)}`);
      } else {
        throw error;
      }
      return;
    }
    this.#asked = false;
    this.answer = answer;
    this.token = answer.token;
    this.count(answer.state.toLowerCase());
  }

  async #ask(waitMs: number): Promise<CacheAnswer> {
    const leaseMs = wholeMs(this.options.leaseMs);
    const asked = (waitMs: number | undefined): Request<CacheAnswer> =>
      requests.cacheLease(this.key, { leaseMs, holder: this.#holder, waitMs });
    return await this.core.waitOrRun(asked, waitMs);
  }

  /** The reply was lost. Whether it is known now whether there is a lease. */
  async #tryAgain(): Promise<boolean> {
    try {
      this.token = (await this.#ask(0)).token;
    } catch (error) {
      if (!(error instanceof GatewayError)) return false;
      this.token = 0;
    }
    this.#asked = false;
    return true;
  }

  /** Whether the server has taken it. A token that was used meanwhile releases nothing. */
  async #released(): Promise<boolean> {
    if (this.#asked && !(await this.#tryAgain())) return false;
    if (this.token === 0) return true;
    try {
      await this.core.run(requests.cacheRelease(this.key, this.token));
    } catch (error) {
      if (error instanceof Unavailable) return false;
      this.core.logger.warn(`a fill lease could not be given up: ${nameOf(error)}`);
    }
    return true;
  }

  /** The server is away. If it is back before the lease has ended by itself, it is told. */
  async #releaseLater(): Promise<void> {
    const end = performance.now() + this.options.leaseMs;
    while (performance.now() < end) {
      if (await this.core.closing.wait(this.core.settings.kept.everyMs, { background: true })) return;
      if (await this.#released()) return;
    }
  }
}
