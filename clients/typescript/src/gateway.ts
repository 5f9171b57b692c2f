// The gateway's client.

import type { Amounts } from "./amounts.js";
import { Admitter, type Admission, type AdmitOptions, type Plan } from "./admission.js";
import { Batches, type LeaseOptions, type LogBatch } from "./batches.js";
import { Cache, json, sum, type CacheOptions, type Codec } from "./cache.js";
import { Commands, requests } from "./commands/index.js";
import { Core } from "./core.js";
import type { Health, LimitDecision } from "./decisions.js";
import { driverOf, type GatewayClient } from "./drivers/index.js";
import { GatewayError, NoPermission } from "./errors.js";
import { Unavailable } from "./failures.js";
import { Keeper } from "./keeper.js";
import { Budgets, Limits, type AllowOptions, type TokensOptions } from "./limits.js";
import { Locks, type Slot, type SlotOptions } from "./locks.js";
import { Logs, type LogsOptions } from "./logs.js";
import { RoutedRequest, Router, type Attempt, type RequestOptions, type RouteOptions } from "./routing.js";
import { StreamCache } from "./streamCache.js";
import { settingsOf, type Settings, type SettingsInput } from "./settings.js";
import { nameOf, type Logger } from "./tasks.js";
import { Telemetry } from "./telemetry.js";
import { nameOfKey, type Request, type Text } from "./wire.js";

export type GatewayOptions = SettingsInput & {
  /** Makes accounts that do not exist, for `admit` with `require`. */
  readonly plans?: Plan | undefined;
  /** Default: figures of its own. `new OpenTelemetry()` of `redis-gateway/otel` sends them on. */
  readonly telemetry?: Telemetry | undefined;
  /** Where it says that the server is away, and what it had to drop. Default: `console`. */
  readonly logger?: Logger | undefined;
};

/** Each command of the module, typed. They reject with Unavailable if the server is away. */
class GatewayCommands extends Commands {
  constructor(private readonly core: Core) {
    super(() => Promise.reject(new Error("not reached: run sends it")));
  }

  override async run<T>(request: Request<T>): Promise<T> {
    const waits = request.args.includes("BLOCK") || request.args.includes("WAIT");
    return waits ? await this.core.transport.wait(request) : await this.core.run(request);
  }
}

/**
 * Limits, budgets, admissions, cache and logs over the application's own client of ioredis or node-redis.
 *
 * It takes the client's address, credentials, TLS and protocol, and opens connections of its own with its own time-outs.
 * The client itself is neither changed nor closed. Declare it with `await using`, or call `close`: then log records and
 * kept charges are sent before the program ends.
 */
export class Gateway {
  readonly settings: Settings;
  readonly telemetry: Telemetry;
  /** Each command of the module, typed. */
  readonly commands: Commands;
  readonly budgets: Budgets;
  readonly #core: Core;
  readonly #admitter: Admitter;
  readonly #router: Router;
  readonly #limits: Limits;
  readonly #locks: Locks;
  readonly #batches: Batches;
  readonly #logs: Logs[] = [];
  readonly #atExit = (): void => this.#core.keepAll();
  #closing: Promise<void> | undefined;

  constructor(client: GatewayClient, options: GatewayOptions = {}) {
    const { plans, telemetry = new Telemetry(), logger = console, ...settings } = options;
    this.settings = settingsOf(settings);
    this.telemetry = telemetry;
    this.#core = new Core(driverOf(client), this.settings, telemetry, logger);
    const keeper = new Keeper(this.#core);
    this.#admitter = new Admitter(this.#core, keeper, plans);
    this.#router = new Router(this.#core, keeper);
    this.#limits = new Limits(this.#core);
    this.#locks = new Locks(this.#core, keeper);
    this.#batches = new Batches(this.#core, keeper);
    this.commands = new GatewayCommands(this.#core);
    this.budgets = new Budgets(this.#core);
    // At its end a program cannot wait for a server any more, but it can write.
    if (this.settings.kept.directory !== undefined) process.on("exit", this.#atExit);
  }

  // Admissions.

  /**
   * Asks whether a request may go on, and charges its estimates to all accounts, or to none.
   *
   * @param accounts the keys of the accounts, such as the API key's and its team's; in a cluster they may be in several
   *   slots
   * @param estimates what the request will probably use, by meter; estimate high: the settlement gives back the rest
   */
  async admit(
    accounts: Text | readonly Text[],
    estimates: Amounts = {},
    options: AdmitOptions = {},
  ): Promise<Admission> {
    return await this.#admitter.admit(this.#admitter.prepare(accounts, estimates, options));
  }

  /** The same for programs without `await using`: the admission is settled when `work` has ended, however it ends. */
  async withAdmission<T>(
    accounts: Text | readonly Text[],
    estimates: Amounts,
    work: (admission: Admission) => Promise<T>,
    options: AdmitOptions = {},
  ): Promise<T> {
    const admission = await this.admit(accounts, estimates, options);
    try {
      return await work(admission);
    } finally {
      await admission.settle();
    }
  }

  /** Picks one of several targets that has room for a request, and charges the estimates to it. */
  async route(targets: readonly Text[], estimates: Amounts = {}, options: RouteOptions = {}): Promise<Attempt> {
    return await this.#router.route(targets, estimates, options, {});
  }

  /** Admits a request for its accounts; `run` of the result then goes from target to target until one serves it. */
  async request(
    accounts: Text | readonly Text[],
    targets: readonly Text[],
    estimates: Amounts = {},
    options: RequestOptions = {},
  ): Promise<RoutedRequest> {
    const names = targets.map(nameOfKey);
    const { admission, first } = await this.#router.request(this.#admitter, accounts, names, estimates, options);
    return new RoutedRequest(this.#router, admission, first, names, options);
  }

  // Limits, slots, locks.

  /** Whether `cost` units fit into the last `windowMs`. */
  async allow(key: Text, limit: number, options: AllowOptions = {}): Promise<LimitDecision> {
    return await this.#limits.allow(key, limit, options);
  }

  /** Whether a bucket has `cost` tokens: it holds `burst`, and gets `rate` tokens every `perMs`. */
  async tokens(key: Text, rate: number, burst: number, options: TokensOptions = {}): Promise<LimitDecision> {
    return await this.#limits.tokens(key, rate, burst, options);
  }

  /** Takes one of `slots` slots, waiting up to `waitMs` for one, first come, first served. */
  async slot(key: Text, slots: number, options: SlotOptions = {}): Promise<Slot> {
    return await this.#locks.acquire(key, slots, false, options);
  }

  /** Takes a lock, waiting up to `waitMs` for it. While the server is away nobody gets it. */
  async lock(key: Text, options: SlotOptions = {}): Promise<Slot> {
    return await this.#locks.acquire(key, 1, true, options);
  }

  // Cache and logs.

  /**
   * A cache of answers.
   *
   * @param category the kind of request, by which statistics and expiry go; the beginning of the keys
   * @param codec makes bytes of values; default: JSON
   */
  cache<T>(category: string, options: CacheOptions & { readonly codec?: Codec<T> | undefined } = {}): Cache<T> {
    return new Cache(this.#core, category, options.codec ?? json<T>(), options);
  }

  /** A cache of answers that come in pieces. The codec is that of the list of pieces. */
  streamCache<T>(
    category: string,
    options: CacheOptions & { readonly codec?: Codec<readonly T[]> | undefined } = {},
  ): StreamCache<T> {
    return new StreamCache(this.#core, this.cache<readonly T[]>(category, options));
  }

  /**
   * Clears all cache entries with the tag, of all categories, on every primary of a cluster. Returns how many there were. A
   * server has 2 seconds: if one is away, it rejects with Unavailable, and the others are cleared.
   */
  async clearTag(tag: string): Promise<number> {
    return sum(await this.#core.background.everywhere(requests.cacheClearTag(tag)));
  }

  /**
   * Clears all cache entries whose keys match, as in `SCAN … MATCH`, such as `chat:acme:*`, in the selected database, on
   * every primary of a cluster. Returns how many there were.
   *
   * It takes as long as a scan of all keys; a server has 60 seconds. If one is away, it rejects with Unavailable, and the
   * others are cleared; with the reason `timeout`, the scan goes on in that server. Prefer tags and categories.
   */
  async clearPattern(pattern: string): Promise<number> {
    return sum(await this.#core.background.everywhere(requests.cacheClearPattern(pattern), { waiting: true }));
  }

  /**
   * Clears all cache entries, in all databases, on every primary of a cluster; other keys stay. Returns how many there were. A
   * server has 2 seconds: if one is away, it rejects with Unavailable, and the others are cleared.
   */
  async clearAll(): Promise<number> {
    return sum(await this.#core.background.everywhere(requests.cacheClearAll()));
  }

  /** A buffer in front of the log queue `key`. */
  logs(key: Text, options: LogsOptions = {}): Logs {
    const made = new Logs(this.#core, key, options);
    this.#logs.push(made);
    return made;
  }

  /**
   * Leases the oldest records of a log queue, waiting up to `waitMs` for one. Acknowledge them when the work is done: at the
   * end of a block with `await using` they are given back if they are not, and delivered again.
   *
   * The lease is renewed in the background. If the program dies, the records are delivered again. They may be delivered
   * twice: make the work harmless to repeat. Rejects with Unavailable if the server is away.
   */
  async lease(key: Text, options: LeaseOptions = {}): Promise<LogBatch> {
    return await this.#batches.lease(key, options);
  }

  /**
   * The same for the whole of the work: the records are acknowledged when it has ended, or given back if it fails. Returns
   * what it returns, or undefined, without calling it, if there was no record in time.
   */
  async withLease<T>(
    key: Text,
    work: (batch: LogBatch) => Promise<T>,
    options: LeaseOptions = {},
  ): Promise<T | undefined> {
    await using batch = await this.lease(key, options);
    if (!batch.ok) return undefined;
    const result = await work(batch);
    await batch.acknowledge();
    return result;
  }

  // The whole.

  /** Whether the server answers, and has the module; how long that took, and what waits to be sent. */
  async health(): Promise<Health> {
    const began = performance.now();
    let reason = "";
    try {
      await this.#core.transport.everywhere(requests.stats());
    } catch (error) {
      if (error instanceof Unavailable) reason = error.reason;
      // It answers, and has the module; this user may not ask for its figures.
      else if (error instanceof GatewayError) reason = error instanceof NoPermission ? "" : nameOf(error);
      else throw error;
    }
    return {
      ok: reason === "",
      reason,
      tookMs: performance.now() - began,
      circuitsOpen: this.#core.transport.servers().filter(({ circuit }) => circuit.isOpen).length,
      kept: this.kept,
      logRecords: this.#logs.reduce((sum, logs) => sum + logs.size, 0),
      logDropped: this.#logs.reduce((sum, logs) => sum + logs.dropped, 0),
    };
  }

  /** What was decided and how it went, since the gateway was made. */
  figures(): Record<string, number> {
    return this.telemetry.figures();
  }

  /** Tries now to send what is kept, and returns how much the server has taken. It is sent in the background, too. */
  async sendKept(): Promise<number> {
    return await this.#core.sendKept();
  }

  /** How many settlements and charges the server has not taken yet. */
  get kept(): number {
    return this.#core.kept.size;
  }

  /**
   * Sends what there is to send, waits for what runs, and closes the connections. All of that takes so many milliseconds at
   * most, and what a call that is under way then takes: 2 seconds, if the server does not answer.
   */
  async close(ms = 5_000): Promise<void> {
    this.#closing ??= this.#close(ms);
    await this.#closing;
  }

  async #close(ms: number): Promise<void> {
    for (const logs of this.#logs) this.#core.tasks.start(async () => await logs.close());
    await this.#core.close(ms);
    process.off("exit", this.#atExit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
