// What is to be paid for a request: what its accounts were charged, what it has used, and how that is told to the server.
//
// It knows nothing of the admission that the application has: if that is forgotten, this settles it.

import { checkedAmount, isAboveZero, type Amount, type Amounts, type Used } from "./amounts.js";
import { requests } from "./commands/index.js";
import type { Core, Unsettled } from "./core.js";
import type { Outcome, Settlement } from "./decisions.js";
import { Delivery } from "./deliveries.js";
import type { Keeper, Lease } from "./keeper.js";
import { wholeMs } from "./tasks.js";
import type { Request } from "./wire.js";

export const MONEY = "usd";

/** Accounts of one slot, and what is known of the admission there. */
export interface Group {
  readonly accounts: string[];
  state: "not" | "maybe" | "live";
}

/** How the call of a target went. */
export interface Call {
  readonly failed: boolean;
  readonly cooldownMs?: number | undefined;
  readonly tookMs?: number | undefined;
}

export class Charge implements Unsettled, Lease {
  groups: Group[] = [];
  outcome: Outcome = "denied";
  used: Record<string, Amount> = {};
  /** Of a target: only it is booked to if no account knows the lease. */
  target: string | undefined;
  ending = false;
  /** Nobody is asked any more. */
  answered = false;
  /** The lease has ended although it was kept alive: the server has lost it, or the hard cap has come. */
  lost = false;
  settlement: Settlement | null = null;
  readonly keepUntil: number;
  readonly admittedAt = Date.now();
  #abandoned = false;

  constructor(
    readonly core: Core,
    private readonly keeper: Keeper,
    readonly leaseId: string,
    readonly estimates: Amounts,
    readonly ttlMs: number,
    /** Null: the accounts' admission of the same request tells of its tokens. */
    readonly attributes: Readonly<Record<string, string>> | null,
  ) {
    this.keepUntil = performance.now() + core.settings.leaseCapMs;
  }

  get ok(): boolean {
    return this.outcome !== "denied";
  }

  /** Whether the server has admitted it, or may have: also one that is degraded. */
  get holds(): boolean {
    return this.ok && this.groups.some(({ state }) => state !== "not");
  }

  /** Throws RangeError if one is not an amount from 0, and then takes none of them. */
  use(amounts: Used): void {
    const told = Object.entries(amounts).flatMap(([meter, amount]) =>
      amount === null || amount === undefined ? [] : [[meter, checkedAmount(meter, amount)] as const],
    );
    for (const [meter, amount] of told) this.used[meter] = amount;
  }

  unused(): void {
    for (const meter of Object.keys(this.estimates)) this.used[meter] = 0;
  }

  /** All amounts 0, and the request itself, too: as if it had never been. */
  get zeros(): Record<string, Amount> {
    return { requests: 0, ...Object.fromEntries(Object.keys(this.estimates).map((meter) => [meter, 0])) };
  }

  // The end.

  /** Ends it. Only the first call does something; the others reply how that went, or null while it is under way. */
  async end(used: Amounts, call: Call | null): Promise<Settlement | null> {
    if (this.ending) return this.settlement;
    this.#end();
    return await this.core.tasks.track(this.#settle({ ...used }, call));
  }

  #end(): void {
    this.ending = true;
    this.core.living.delete(this);
    this.keeper.remove(this);
  }

  async #settle(used: Amounts, call: Call | null): Promise<Settlement> {
    try {
      this.settlement = await this.core.deliverAll(this.deliveries(used, call));
    } catch (error) {
      // An error reply has changed nothing: it can be settled again.
      this.ending = false;
      this.core.living.add(this);
      throw error;
    }
    this.core.telemetry.count("settlements", { outcome: this.settlement });
    if (this.attributes !== null) this.core.telemetry.used(used, this.attributes);
    return this.settlement;
  }

  /** What the server has to be told. */
  deliveries(used: Amounts, call: Call | null): Delivery[] {
    if (this.outcome === "denied" && this.groups.every(({ state }) => state === "not")) return [];
    return this.groups.flatMap((group) => {
      const charges = this.#charges(group, used);
      // The server has certainly not heard of it.
      if (group.state === "not") return charges.map((charge) => new Delivery(charge));
      const failed = call?.failed === true;
      const cooldownMs = failed && (call.cooldownMs ?? 0) > 0 ? wholeMs(call.cooldownMs ?? 0) : undefined;
      const tookMs = call?.tookMs === undefined ? undefined : Math.round(call.tookMs);
      const settle = requests.settle(group.accounts, {
        leaseId: this.leaseId,
        amounts: used,
        failed,
        cooldownMs,
        tookMs,
      });
      const delivery = new Delivery(settle.args, charges);
      // If the question is still on its way, it is admitted later: it has to be settled then, and not charged now.
      delivery.early = group.state === "maybe";
      return [delivery];
    });
  }

  /** What is booked to the accounts of a group if the server does not know the lease. */
  #charges(group: Group, used: Amounts): (readonly (string | Buffer)[])[] {
    const money = used[MONEY] ?? this.estimates[MONEY];
    if (money === undefined || !isAboveZero(money)) return [];
    const billed = group.accounts.filter((account) => this.target === undefined || account === this.target);
    return billed.map((account) => requests.addCost(account, money, { atMs: this.admittedAt, id: this.leaseId }).args);
  }

  /** Nobody can settle it any more: it is settled at what is known. */
  forgotten(figure: string): void {
    if (!this.answered) return this.abandon();
    if (this.ending) return;
    this.#end();
    if (!this.ok) return;
    this.core.telemetry.count(figure);
    if (figure === "admissions_leaked") {
      this.core.logger.error("an admission was never settled: it is settled at its estimates");
    }
    const kept = this.deliveries(this.used, null).map((delivery) => this.core.keep(delivery));
    this.settlement = kept.includes("given_up") ? "given_up" : "kept";
  }

  // What happens while it is asked for.

  /** Whoever asked has left before the answer: what it brings is given back. */
  abandon(): void {
    this.#abandoned = true;
    if (this.answered) this.giveBack();
  }

  nowAnswered(): void {
    this.answered = true;
    this.core.asking.delete(this);
    if (this.#abandoned) this.giveBack();
    else if (this.ok) this.core.living.add(this);
  }

  /** Undoes it in the background. */
  giveBack(): void {
    if (this.ending) return;
    this.#end();
    for (const delivery of this.deliveries(this.zeros, null)) this.core.keep(delivery);
  }

  // What keeps it alive.

  keepAliveRequests(): Request<number>[] {
    if (this.ending) return [];
    const held = this.groups.filter(({ state }) => state !== "not");
    const options = { leaseId: this.leaseId, ttlMs: wholeMs(this.ttlMs) };
    return held.map(({ accounts }) => requests.keepAlive(accounts, options));
  }

  keptAlive(live: boolean): void {
    // One that is degraded may go on without a lease.
    if (live || this.ending || this.outcome !== "admitted") return;
    this.lost = true;
    this.core.telemetry.count("leases_lost");
  }
}
