// An admission from the question to the settlement, whatever happens in between.

import type { Amounts, Used } from "./amounts.js";
import { Charge, type Call } from "./charge.js";
import { requests, type Admission as Answer, type AdmissionRow, type Rows } from "./commands/index.js";
import type { Ask, Core } from "./core.js";
import { Denied, type Outcome, type Settlement } from "./decisions.js";
import { LeaseEnded, NoAccount, GatewayError } from "./errors.js";
import { Unavailable } from "./failures.js";
import { admissionHeaders, type AdmissionHeaderOptions } from "./headers.js";
import type { Keeper } from "./keeper.js";
import { share } from "./local.js";
import { windowMs } from "./settings.js";
import { passedOn, readable, type Source } from "./streams.js";
import { nameOf, unlessAborted, wholeMs } from "./tasks.js";
import { nameOfKey, type Request, type Text } from "./wire.js";

/**
 * For an account that does not exist: its policies as the document of GW.POLICYPUT, and after how long without requests
 * it expires (default: never). Null if the account shall not be made.
 */
export type Plan = (account: string) => { readonly document: string; readonly idleMs?: number | undefined } | null;

/** Finds in a piece of a stream what was used so far. */
export type Usage<T> = (piece: T) => Used | null | undefined;

const MOST_ACCOUNTS = 16;

// An admission that nobody has any more is settled at its estimates.
const forgotten = new FinalizationRegistry<Charge>((charge) => charge.forgotten("admissions_leaked"));

/**
 * A request that was admitted, denied, or, while the server is away, let through as degraded.
 *
 * Declare it with `await using`, or call `settle` in a `finally`: it is settled at the end, exactly once, however that
 * comes. Meters whose use is not told by `use` keep their estimates.
 */
export class Admission {
  /** Why: empty if it was admitted; `limit`, `local_limit`, `no_account`; or why the server is away, such as `timeout`. */
  reason = "";
  /** How long a denied request has to wait, in milliseconds; -1 if waiting does not help. */
  retryAfterMs = 0;
  rows: readonly AdmissionRow[] = [];
  /** A piece of its `stream` was passed on. */
  began = false;
  protected readonly charge: Charge;

  /** Made by `Gateway.admit`. */
  constructor(charge: Charge) {
    this.charge = charge;
    forgotten.register(this, charge);
  }

  get outcome(): Outcome {
    return this.charge.outcome;
  }

  /** Whether the request may go on. */
  get ok(): boolean {
    return this.charge.ok;
  }

  get leaseId(): string {
    return this.charge.leaseId;
  }

  get accounts(): readonly string[] {
    return this.charge.groups.flatMap(({ accounts }) => accounts);
  }

  get estimates(): Amounts {
    return this.charge.estimates;
  }

  /** The lease has ended although it was kept alive: the server has lost it, or the hard cap has come. */
  get lost(): boolean {
    return this.charge.lost;
  }

  /** How it has ended, once it has. */
  get settlement(): Settlement | null {
    return this.charge.settlement;
  }

  /** The rows of the policies that do not allow it. */
  get refusals(): readonly AdmissionRow[] {
    return this.rows.filter(({ allowed }) => !allowed);
  }

  /** The HTTP status: 200, 429 if a limit refuses, 403 without an account, 503 if the server is away. */
  get status(): number {
    if (this.ok) return 200;
    if (this.reason === "limit" || this.reason === "local_limit") return 429;
    return this.reason === "no_account" ? 403 : 503;
  }

  /**
   * The HTTP headers of the response: `Retry-After`, IETF's `RateLimit` and `RateLimit-Policy`, OpenAI's and Anthropic's.
   * They need `rows: "DETAIL"`, which is the default.
   */
  headers(options: AdmissionHeaderOptions = {}): Record<string, string> {
    return admissionHeaders(
      { admitted: this.ok, retryAfterMs: this.retryAfterMs, rows: this.rows },
      Date.now(),
      options,
    );
  }

  throwIfDenied(): void {
    if (!this.ok) throw new Denied(this.reason, this.retryAfterMs, this.headers(), this.status);
  }

  // What was used.

  /**
   * Tells what the request has used so far, in all: `use({ tokens: 1312, usd: "0.0175" })`. Later amounts replace earlier
   * ones; null and undefined tell nothing.
   *
   * @throws RangeError if one is not an amount from 0; then none of them is taken
   */
  use(amounts: Used): void {
    this.charge.use(amounts);
  }

  /** The model was not asked, or refused: the request counts, but has used nothing. */
  unused(): void {
    this.charge.unused();
  }

  // The end.

  /**
   * Ends the admission. Only the first call does something; the others reply how that went, or null while it is under
   * way. If the server refuses it, that is thrown, and it can be settled again.
   */
  async settle(amounts: Used = {}): Promise<Settlement | null> {
    this.use(amounts);
    return await this.end(this.charge.used, null);
  }

  /** Ends the admission as if it had never been: nothing is charged, and limits get back what it took. */
  async undo(): Promise<Settlement | null> {
    return await this.end(this.charge.zeros, null);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.settle();
  }

  /**
   * Passes a model's answer on, piece by piece, and settles when it ends, breaks off, or nobody wants more of it, also if
   * nobody wants any of it. If the model fails before its first piece, nothing was used.
   *
   * @param usage finds in a piece what was used so far
   */
  stream<T>(source: Source<T>, usage?: Usage<T>): AsyncIterableIterator<T> {
    return passedOn(source, {
      piece: (piece) => {
        this.began = true;
        const used = usage?.(piece);
        if (used) this.use(used);
      },
      failed: async (error) => await this.streamFailed(error),
      ended: async (complete) => {
        await (complete ? this.settle() : this.brokenOff());
      },
    });
  }

  /** The same for a `ReadableStream`, such as the body of a response: it is settled if its reader cancels it, too. */
  readable<T>(source: Source<T>, usage?: Usage<T>): ReadableStream<T> {
    return readable(this.stream(source, usage));
  }

  protected async end(used: Amounts, call: Call | null): Promise<Settlement | null> {
    return await this.charge.end(used, call);
  }

  protected async streamFailed(_error: unknown): Promise<void> {
    if (!this.began && Object.keys(this.charge.used).length === 0) this.unused();
    await Promise.resolve();
  }

  /** Ends it in the middle of the call. */
  protected async brokenOff(): Promise<Settlement | null> {
    return await this.settle();
  }
}

export interface AdmitOptions {
  /** For how many milliseconds the admission lives without a sign of life. It is kept alive until it ends. */
  readonly ttlMs?: number | undefined;
  /** The name of this attempt, new for each. Made here if it is not given. */
  readonly leaseId?: string | undefined;
  /** Which policies' rows to reply. `DETAIL`, the default, has what `headers()` needs; `REFUSED` is cheaper. */
  readonly rows?: Rows | undefined;
  /** Deny if one of the accounts does not exist. If `plans` of the gateway knows a plan for it, it is made. */
  readonly require?: boolean | undefined;
  /** Default: true. */
  readonly keepAlive?: boolean | undefined;
  /** Attributes for OpenTelemetry's token metrics, such as `gen_ai.request.model`. */
  readonly attributes?: Readonly<Record<string, string>> | undefined;
  /** If it is aborted before the answer has come, whatever the answer admits is undone. */
  readonly signal?: AbortSignal | undefined;
}

/** An admission that is asked for. */
export interface Asked {
  readonly admission: Admission;
  readonly charge: Charge;
  readonly options: AdmitOptions;
}

/** Asks to the end, also if whoever asks has left, by the signal or an error: then what the answers bring is given back. */
export async function answered(
  core: Core,
  signal: AbortSignal | undefined,
  charges: readonly Charge[],
  ask: () => Promise<void>,
): Promise<void> {
  signal?.throwIfAborted();
  const left = (): void => {
    for (const charge of charges) charge.abandon();
  };
  for (const charge of charges) core.asking.add(charge);
  try {
    await unlessAborted(signal, core.tasks.track(ask()), left);
  } catch (error) {
    left();
    throw error;
  }
}

export class Admitter {
  constructor(
    private readonly core: Core,
    private readonly keeper: Keeper,
    private readonly plans: Plan | undefined,
  ) {}

  prepare(accounts: Text | readonly Text[], estimates: Amounts, options: AdmitOptions): Asked {
    const several = typeof accounts === "string" || accounts instanceof Uint8Array ? [accounts] : accounts;
    if (several.length === 0) throw new RangeError("accounts: at least one");
    const { ttlMs = this.core.settings.leaseTtlMs, leaseId = crypto.randomUUID(), attributes = {} } = options;
    const charge = new Charge(this.core, this.keeper, leaseId, { ...estimates }, ttlMs, attributes);
    charge.groups = this.#grouped(several.map(nameOfKey));
    return { admission: new Admission(charge), charge, options };
  }

  async admit(asked: Asked): Promise<Admission> {
    const { admission, charge, options } = asked;
    await answered(this.core, options.signal, [charge], async () => await this.ask(asked, this.core.ask));
    this.decided(asked);
    return admission;
  }

  /** It is known how it is decided: that is counted, and the lease is kept alive. */
  decided({ admission, charge, options }: Asked): void {
    this.core.telemetry.decided("admission", admission.outcome, admission.reason);
    if ((options.keepAlive ?? true) && charge.holds) this.keeper.add(charge);
  }

  /** One for each slot. */
  questions({ charge, options }: Asked): Request<Answer>[] {
    return charge.groups.map(({ accounts }) => this.#question(accounts, charge, options));
  }

  /** Accounts that can be named in one call, in their order. */
  #grouped(accounts: readonly string[]): Charge["groups"] {
    const made: { place: number; accounts: string[]; state: "not" }[] = [];
    for (const account of accounts) {
      const place = this.core.transport.placeOf(account);
      const own = made.findLast((group) => group.place === place);
      if (own !== undefined && own.accounts.length < MOST_ACCOUNTS) own.accounts.push(account);
      else made.push({ place, accounts: [account], state: "not" });
    }
    return made;
  }

  async ask(asked: Asked, ask: Ask): Promise<void> {
    try {
      await this.#askEachSlot(asked, ask);
    } finally {
      asked.charge.nowAnswered();
    }
  }

  async #askEachSlot({ admission, charge, options }: Asked, ask: Ask): Promise<void> {
    const deny = async (reason: string, retryAfterMs: number): Promise<void> => {
      admission.reason = reason;
      admission.retryAfterMs = retryAfterMs;
      await this.#undo(charge);
    };
    for (const group of charge.groups) {
      let answer: Answer;
      group.state = "maybe";
      try {
        answer = await this.#askSlot(this.#question(group.accounts, charge, options), group.accounts.length, ask);
      } catch (error) {
        if (error instanceof Unavailable) {
          if (!error.sent) group.state = "not";
          await this.#decideAlone(admission, charge, error);
          return;
        }
        if (error instanceof GatewayError) group.state = "not";
        if (error instanceof NoAccount) {
          await deny("no_account", -1);
          return;
        }
        await this.#undo(charge);
        throw error;
      }
      admission.rows = [...admission.rows, ...answer.rows];
      if (!answer.admitted) {
        group.state = "not";
        await deny("limit", answer.retryAfterMs);
        return;
      }
      group.state = "live";
    }
    charge.outcome = "admitted";
  }

  #question(accounts: readonly string[], charge: Charge, options: AdmitOptions): Request<Answer> {
    return requests.admit(accounts, {
      leaseId: charge.leaseId,
      ttlMs: wholeMs(charge.ttlMs),
      amounts: charge.estimates,
      require: options.require,
      rows: options.rows ?? "DETAIL",
    });
  }

  async #askSlot(asked: Request<Answer>, accounts: number, ask: Ask): Promise<Answer> {
    for (let made = 0; ; made++) {
      try {
        return await ask(asked);
      } catch (error) {
        // An answer was lost for so long that the lease has ended meanwhile.
        if (error instanceof LeaseEnded) throw new Unavailable("timeout", { sent: true, cause: error });
        if (!(error instanceof NoAccount) || made === accounts || !(await this.#make(error.account))) throw error;
      }
    }
  }

  /** Makes an account from its plan, unless another gateway is quicker. */
  async #make(account: string): Promise<boolean> {
    const plan = this.plans?.(account) ?? null;
    if (plan === null) return false;
    const idleMs = plan.idleMs === undefined ? undefined : wholeMs(plan.idleMs);
    await this.core.run(requests.policyPut(account, plan.document, { nx: true, idleMs }));
    return true;
  }

  /** The server is away. */
  async #decideAlone(admission: Admission, charge: Charge, error: Unavailable): Promise<void> {
    const away = this.core.settings.away.admission;
    admission.reason = error.reason;
    if (typeof away === "object") {
      const limit = share(away.requests, this.core.settings.instances);
      const taken = this.core.windows.take(`admission ${admission.accounts[0] ?? ""}`, limit, windowMs(away), 1);
      if (taken.allowed) {
        charge.outcome = "degraded";
        return;
      }
      admission.reason = "local_limit";
      admission.retryAfterMs = taken.retryAfterMs;
    } else if (away === "open") {
      charge.outcome = "degraded";
      return;
    } else {
      admission.retryAfterMs = wholeMs(this.core.settings.pauseMs);
    }
    await this.#undo(charge);
  }

  /** Gives back what the slots before have admitted, and what may have been admitted. */
  async #undo(charge: Charge): Promise<void> {
    const groups = charge.groups.filter(({ state }) => state !== "not");
    const deliveries = charge.deliveries(charge.zeros, null).filter(({ command }) => command === "GW.SETTLE");
    const known = deliveries.filter((_, at) => groups[at]?.state === "live");
    for (const delivery of deliveries) if (!known.includes(delivery)) this.core.keep(delivery);
    for (const group of groups) group.state = "not";
    try {
      await this.core.deliverAll(known);
    } catch (error) {
      this.core.logger.error(`what other slots have admitted was not undone: ${nameOf(error)}`);
      throw error;
    }
  }
}
