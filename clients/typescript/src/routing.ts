// One of several deployments of a model, and the next one if it fails.

import { addAmounts, isAboveZero, type Amount, type Amounts, type Decimal, type Used } from "./amounts.js";
import { Admission, answered, type Admitter, type AdmitOptions } from "./admission.js";
import { Charge, type Group } from "./charge.js";
import { requests, type Pick, type Routed } from "./commands/index.js";
import type { Ask, Core } from "./core.js";
import { CallFailed, Denied, type Settlement } from "./decisions.js";
import { GatewayError, LeaseEnded, NoAccount } from "./errors.js";
import { Unavailable } from "./failures.js";
import type { Keeper } from "./keeper.js";
import { share } from "./local.js";
import { windowMs, type Away } from "./settings.js";
import { nameOf, wholeMs } from "./tasks.js";
import { nameOfKey, type Request, type Text } from "./wire.js";

/**
 * Which errors say that the target has failed, besides CallFailed: a function of the error. It returns whether it does; or
 * a CallFailed, which may tell for how long the provider wants no further call.
 */
export type Failures = (error: unknown) => CallFailed | boolean | null | undefined;

const MOST_TARGETS = 64;
const MOST_SETTLED = 16;

/**
 * A call of one target. `attempt.run(work)` settles it at the end; a CallFailed that is thrown in it, or one of the
 * `failures`, is counted against the target. Any other error ends it as broken off. If the target is known to have answered
 * by then, because a piece of its stream was passed on or `use` has told an amount above 0, that counts as a success. If
 * not, it says nothing about the target: it neither closes nor opens a breaker, the limits on the target's requests get
 * this one back, and other meters keep their estimates. In both cases it says nothing about how long the target takes.
 */
export class Attempt extends Admission {
  /** It was settled, and not as a failure. */
  succeeded = false;
  /** With what it has failed. */
  error: unknown;
  #startedAt = performance.now();
  readonly #failures: Failures | undefined;

  /** Made by `Gateway.route` and `RoutedRequest.attempts`. */
  constructor(charge: Charge, failures: Failures | undefined) {
    super(charge);
    this.#failures = failures;
  }

  /** The target to call; empty if none has room. */
  get target(): string {
    return this.charge.target ?? "";
  }

  /** The call begins now: `took` is counted from here. */
  started(): void {
    this.#startedAt = performance.now();
  }

  /** What was told by `use`, in all. */
  get used(): Amounts {
    return this.charge.used;
  }

  /** What it has used, as the server charges it. */
  get spent(): Amounts {
    const told = Object.keys(this.used).length > 0;
    return this.succeeded || told ? { ...this.estimates, ...this.used } : {};
  }

  /** Calls the target, and settles the attempt as the call went. The error goes on. */
  async run<T>(work: (attempt: this) => Promise<T>): Promise<T> {
    let result: T;
    try {
      result = await work(this);
    } catch (error) {
      await this.brokenBy(error);
      throw error;
    }
    await this.settle();
    return result;
  }

  override async settle(amounts: Used = {}): Promise<Settlement | null> {
    this.use(amounts);
    if (!this.charge.ending) this.succeeded = true;
    return await this.end(this.charge.used, { failed: false, tookMs: performance.now() - this.#startedAt });
  }

  /** Ends the attempt as a failure of the target. `retryAfterMs`: for so long the provider wants no further call. */
  async failed(options: { readonly retryAfterMs?: number | undefined } = {}): Promise<Settlement | null> {
    const told = Object.keys(this.used).length > 0;
    return await this.end(told ? this.used : this.charge.zeros, { failed: true, cooldownMs: options.retryAfterMs });
  }

  /** Ends the attempt because of an error: as a failure if the target is to blame, and else as broken off. */
  async brokenBy(error: unknown): Promise<void> {
    const failure = this.failure(error);
    if (failure === undefined) {
      await this.brokenOff();
      return;
    }
    this.error = error;
    await this.failed(failure);
  }

  /** Undefined if the target is not to blame. */
  failure(error: unknown): CallFailed | undefined {
    if (error instanceof CallFailed) return error;
    try {
      const found = this.#failures?.(error);
      return found instanceof CallFailed
        ? found
        : found === true
          ? new CallFailed("the call failed", { cause: error })
          : undefined;
    } catch (failed) {
      // The attempt has to be settled all the same.
      this.charge.core.logger.error(`the function \`failures\` has failed: ${nameOf(failed)}`);
      return undefined;
    }
  }

  protected override async streamFailed(error: unknown): Promise<void> {
    if (this.failure(error) === undefined) await super.streamFailed(error);
    else await this.brokenBy(error);
  }

  protected override async brokenOff(): Promise<Settlement | null> {
    if (!this.charge.ending) this.succeeded = true;
    const { used } = this.charge;
    const hasAnswered = this.began || Object.values(used).some(isAboveZero);
    // A settlement of no requests is the one that is neither a success nor a failure. How long the call would have taken
    // is not known.
    return await this.end(hasAnswered ? used : { requests: 0, ...used }, { failed: false });
  }
}

export interface RouteOptions extends Choice {
  readonly ttlMs?: number | undefined;
  readonly leaseId?: string | undefined;
  readonly keepAlive?: boolean | undefined;
  /** If it is aborted before the answer has come, whatever the answer admits is undone. */
  readonly signal?: AbortSignal | undefined;
}

interface Choice {
  /** Which of the targets that have room is picked. Default of `route`: FIRST; of `request`: FAST. */
  readonly pick?: Pick | undefined;
  /** Which errors say that the target has failed, besides CallFailed. */
  readonly failures?: Failures | undefined;
}

/** A target that is asked for. */
interface Asked {
  readonly attempt: Attempt;
  readonly charge: Charge;
  readonly targets: readonly string[];
  readonly pick: Pick;
  readonly keepAlive: boolean;
}

export class Router {
  constructor(
    private readonly core: Core,
    private readonly keeper: Keeper,
  ) {}

  /** `attributes`: of its tokens. Null: the accounts' admission of the same request tells of them. */
  async route(
    targets: readonly Text[],
    estimates: Amounts,
    options: RouteOptions,
    attributes: Charge["attributes"],
  ): Promise<Attempt> {
    const asked = this.#prepare(targets.map(nameOfKey), estimates, options, options.pick ?? "FIRST", attributes);
    const { admission } = this.core.settings.away;
    await answered(this.core, options.signal, [asked.charge], async () => {
      await this.#ask(asked, admission, this.core.ask);
    });
    return this.#decided(asked);
  }

  #prepare(
    targets: readonly string[],
    estimates: Amounts,
    options: RouteOptions,
    pick: Pick,
    attributes: Charge["attributes"],
  ): Asked {
    if (targets.length === 0) throw new RangeError("targets: at least one");
    const { ttlMs = this.core.settings.leaseTtlMs, leaseId = crypto.randomUUID(), keepAlive = true } = options;
    const charge = new Charge(this.core, this.keeper, leaseId, { ...estimates }, ttlMs, attributes);
    return { attempt: new Attempt(charge, options.failures), charge, targets, pick, keepAlive };
  }

  #decided({ attempt, charge, keepAlive }: Asked): Attempt {
    attempt.started();
    this.core.telemetry.decided("route", attempt.outcome, attempt.reason);
    if (keepAlive && charge.holds) this.keeper.add(charge);
    return attempt;
  }

  async #ask(asked: Asked, away: Away["admission"], ask: Ask): Promise<void> {
    try {
      await this.#askSlots(asked, away, ask);
    } finally {
      asked.charge.nowAnswered();
    }
  }

  /**
   * Asks for the accounts' admission and for the first target: in one round trip, if one server has all of them. No
   * `first`: the accounts refuse, or their server has not all targets, which are asked for later then.
   */
  async request(
    admitter: Admitter,
    accounts: Text | readonly Text[],
    targets: readonly string[],
    estimates: Amounts,
    options: RequestOptions,
  ): Promise<{ readonly admission: Admission; readonly first?: Attempt }> {
    const { pick = "FAST", failures, ttlMs, attributes, signal } = options;
    const payers = admitter.prepare(accounts, estimates, { ttlMs, attributes, signal });
    const asked = this.#prepare(targets, estimates, { failures, ttlMs }, pick, null);
    const { admission } = payers;
    const questions = [
      ...admitter.questions(payers),
      ...this.#grouped(targets).map((group) => this.#question(asked, group)),
    ];
    if (questions.length !== 2 || !this.core.transport.haveOneNode(questions)) {
      await admitter.admit(payers);
      return { admission };
    }
    await answered(this.core, signal, [payers.charge, asked.charge], async () => {
      const [admitted = this.core.ask, routed = this.core.ask] = await this.core.together(questions);
      try {
        await admitter.ask(payers, admitted);
      } finally {
        // A target that was picked for accounts that refuse is free again at once.
        await this.#ask(asked, admission.ok ? this.core.settings.away.admission : "closed", routed);
        if (asked.attempt.ok && !admission.ok) await asked.attempt.undo();
      }
    });
    admitter.decided(payers);
    return admission.ok ? { admission, first: this.#decided(asked) } : { admission };
  }

  /**
   * Targets that can be named in one call. Those of different slots cannot be compared: the first that admits it is taken.
   */
  #grouped(targets: readonly string[]): string[][] {
    const groups: { readonly place: number; readonly targets: string[] }[] = [];
    for (const target of targets) {
      const place = this.core.transport.placeOf(target);
      const own = groups.findLast((group) => group.place === place);
      if (own !== undefined && own.targets.length < MOST_TARGETS) own.targets.push(target);
      else groups.push({ place, targets: [target] });
    }
    return groups.map((group) => group.targets);
  }

  #question({ charge, pick }: Asked, targets: readonly string[]): Request<Routed> {
    const { leaseId, estimates: amounts } = charge;
    return requests.route(targets, { leaseId, ttlMs: wholeMs(charge.ttlMs), amounts, pick, rows: "REFUSED" });
  }

  async #askSlots(asked: Asked, away: Away["admission"], ask: Ask): Promise<void> {
    const { attempt, charge, targets } = asked;
    const waits: number[] = [];
    let missing = 0;
    const groups = this.#grouped(targets);
    for (const group of groups) {
      // Whoever leaves meanwhile gives back whichever target has been charged.
      charge.groups = parts(group, MOST_SETTLED).map((accounts): Group => ({ accounts, state: "maybe" }));
      try {
        const routed = await ask(this.#question(asked, group));
        if (routed.target !== null) {
          charge.target = routed.target;
          charge.groups = [{ accounts: [routed.target], state: "live" }];
          charge.outcome = "admitted";
          return;
        }
        attempt.rows = [...attempt.rows, ...routed.rows];
        waits.push(routed.retryAfterMs);
        charge.groups = [];
      } catch (error) {
        if (error instanceof Unavailable) {
          this.#decideAlone(asked, away, error);
          return;
        }
        if (error instanceof LeaseEnded) {
          this.#decideAlone(asked, away, new Unavailable("timeout", { sent: true }));
          return;
        }
        if (error instanceof GatewayError) charge.groups = [];
        if (!(error instanceof NoAccount)) throw error;
        missing += 1;
      }
    }
    const known = waits.filter((wait) => wait >= 0);
    attempt.reason = missing === groups.length ? "no_account" : "limit";
    attempt.retryAfterMs = known.length > 0 ? Math.min(...known) : -1;
  }

  #decideAlone({ attempt, charge, targets, pick }: Asked, away: Away["admission"], error: Unavailable): void {
    const { instances, pauseMs } = this.core.settings;
    attempt.reason = error.reason;
    if (!error.sent) charge.groups = [];
    const order = pick === "FIRST" ? targets : [...targets].sort(() => Math.random() - 0.5);
    if (away === "open") {
      charge.target = order[0];
    } else if (typeof away === "object") {
      const limit = share(away.requests, instances);
      const waits: number[] = [];
      for (const target of order) {
        const taken = this.core.windows.take(`route ${target}`, limit, windowMs(away), 1);
        if (taken.allowed) {
          charge.target = target;
          break;
        }
        waits.push(taken.retryAfterMs);
      }
      if (charge.target === undefined) {
        attempt.reason = "local_limit";
        attempt.retryAfterMs = Math.min(...waits);
      }
    } else {
      attempt.retryAfterMs = wholeMs(pauseMs);
    }
    const { target } = charge;
    if (target === undefined) {
      for (const delivery of charge.deliveries(charge.zeros, null)) this.core.keep(delivery);
      charge.groups = [];
      return;
    }
    charge.outcome = "degraded";
    if (!charge.groups.some(({ accounts }) => accounts.includes(target))) {
      charge.groups.push({ accounts: [target], state: "not" });
    }
  }
}

function parts(items: readonly string[], size: number): string[][] {
  const made: string[][] = [];
  for (let at = 0; at < items.length; at += size) made.push(items.slice(at, at + size));
  return made;
}

export interface RequestOptions extends Choice {
  /** The most targets that are tried. Default: 3. */
  readonly attempts?: number | undefined;
  /** No further target is tried after this time, in milliseconds. Default: no bound. */
  readonly withinMs?: number | undefined;
  readonly ttlMs?: AdmitOptions["ttlMs"];
  readonly attributes?: AdmitOptions["attributes"];
  readonly signal?: AbortSignal | undefined;
}

/**
 * A request that is paid by accounts and served by one of several targets. Declare it with `await using`. After the last
 * attempt has failed, `run` and `attempts` throw Denied, and the request costs its accounts nothing but what attempts told.
 */
export class RoutedRequest {
  readonly #attempts: Attempt[] = [];
  /** The first attempt, if its target was asked for together with the accounts, and until it is begun. */
  #first: Attempt | undefined;
  readonly #startedAt = performance.now();

  /** Made by `Gateway.request`. */
  constructor(
    private readonly router: Router,
    /** The accounts' admission. */
    readonly admission: Admission,
    first: Attempt | undefined,
    private readonly targets: readonly string[],
    private readonly options: RequestOptions,
  ) {
    this.#first = first;
  }

  get ok(): boolean {
    return this.admission.ok;
  }

  throwIfDenied(): void {
    this.admission.throwIfDenied();
  }

  /** Calls targets until one serves the request. An error that is no failure of a target is thrown. */
  async run<T>(work: (attempt: Attempt) => Promise<T>): Promise<T> {
    for await (const attempt of this.attempts()) {
      try {
        return await attempt.run(work);
      } catch (error) {
        // Once the client has a piece of an answer, no other target can go on with it.
        if (attempt.error !== error || attempt.began) throw error;
      }
    }
    throw new Error("not reached: attempts() ends with an error");
  }

  /** The targets to call, one after the other, until an attempt succeeds. Settle each, or use `attempt.run`. */
  async *attempts(): AsyncGenerator<Attempt, void, undefined> {
    this.throwIfDenied();
    const { attempts = 3, withinMs = Infinity } = this.options;
    let left = this.targets;
    let reason = "every_target_failed";
    let retryAfterMs = -1;
    for (let tried = 0; left.length > 0 && tried < attempts; tried++) {
      if (tried > 0 && performance.now() - this.#startedAt > withinMs) break;
      const attempt = await this.#next(left);
      if (!attempt.ok) {
        if (tried === 0) ({ reason, retryAfterMs } = attempt);
        break;
      }
      this.#attempts.push(attempt);
      yield attempt;
      await attempt.settle();
      if (attempt.succeeded) return;
      left = left.filter((target) => target !== attempt.target);
    }
    if (Object.keys(this.#used()).length === 0) await this.admission.undo();
    const status = reason === "limit" || reason === "local_limit" ? 429 : 503;
    const headers: Record<string, string> =
      retryAfterMs < 0 ? {} : { "Retry-After": String(Math.ceil(retryAfterMs / 1000)) };
    const last = this.#attempts.findLast(({ error }) => error !== undefined)?.error;
    throw new Denied(reason, retryAfterMs, headers, status, last);
  }

  async #next(targets: readonly string[]): Promise<Attempt> {
    const first = this.#first;
    this.#first = undefined;
    if (first !== undefined) {
      first.started();
      return first;
    }
    const { pick = "FAST", failures, ttlMs, signal } = this.options;
    // The accounts' admission tells of the tokens of all attempts.
    return await this.router.route(targets, this.admission.estimates, { pick, failures, ttlMs, signal }, null);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.settle();
  }

  /** Ends it: the accounts pay what all attempts have used together. */
  async settle(): Promise<void> {
    let failed: unknown;
    const endings = this.#attempts.map((attempt) => async () => await attempt.settle());
    const first = this.#first;
    this.#first = undefined;
    // Its target was not called.
    if (first !== undefined) endings.push(async () => await first.undo());
    for (const end of endings) {
      try {
        await end();
      } catch (error) {
        // The others and the accounts are settled all the same.
        failed ??= error;
      }
    }
    const nothing = this.#attempts.every(({ spent }) => Object.keys(spent).length === 0);
    if (this.#attempts.length > 0 && nothing) await this.admission.undo();
    else await this.admission.settle(this.#used());
    if (failed !== undefined) throw failed as Error;
  }

  /**
   * What all attempts have used together: it is the request's, too. A meter of which none of them has told anything keeps
   * the request's estimate.
   */
  #used(): Record<string, Decimal> {
    const told = new Set(this.#attempts.flatMap(({ used }) => Object.keys(used)));
    const amounts = (meter: string): Amount[] => this.#attempts.flatMap(({ spent }) => spent[meter] ?? []);
    return Object.fromEntries(Array.from(told, (meter) => [meter, addAmounts(...amounts(meter))]));
  }
}
