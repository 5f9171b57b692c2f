// How a gateway behaves: its time-outs, and what it does while the server is away.

/** While the server is away: let everything pass, limit within this process, or refuse everything. */
export type Mode = "open" | "local" | "closed";

/**
 * A limit of this deployment's own for admissions while the server is away. Each of `Settings.instances` gets its share.
 */
export interface Local {
  /** Requests in `windowMs`, for each first account. */
  readonly requests: number;
  /** Milliseconds. Default: 60,000. */
  readonly windowMs?: number | undefined;
}

/** What is decided while the server is away, by family. */
export interface Away {
  /** `allow` and `tokens`. Local: the call's own limit, divided by `Settings.instances`. Default: local. */
  readonly limits: Mode;
  /**
   * `slot` with more than one slot. Local: the call's maximum, divided by `Settings.instances`. Locks are always closed.
   * Default: local.
   */
  readonly slots: Mode;
  /** `budgets.within` and `budgets.reserve`. Default: closed. */
  readonly budgets: "open" | "closed";
  /**
   * `admit` and `route`. Closed suits prepaid accounts. `{ requests: … }` limits requests in this process.
   * Default: closed.
   */
  readonly admission: "open" | "closed" | Local;
}

/** Settlements and charges that the server has not taken yet. They are sent again until it takes them, each once. */
export interface Kept {
  /** The most that are kept. Further ones are dropped, and counted. Default: 100,000. */
  readonly count: number;
  /** They survive the process in this directory. Without one they are kept in memory only. */
  readonly directory: string | undefined;
  /** Milliseconds between two tries. Default: 1,000. */
  readonly everyMs: number;
  /**
   * A settlement that may have arrived is given up after this time: the server forgets settled leases after an hour.
   * Default: 55 minutes.
   */
  readonly settleWithinMs: number;
  /** The same for charges: the server forgets their ids after `gw.idempotency-ms`, a day by default. Default: 22 hours. */
  readonly chargeWithinMs: number;
  /**
   * If the server does not know the admission of a settlement that may have arrived, its money is booked only within this
   * time. An account remembers the last 65,536 that it settled, for an hour at most: at more than 18 a second it forgets
   * sooner, and the money would be booked twice. The default, 10 minutes, suits up to 109 settlements a second for each
   * account; set it to 65,536 divided by your rate if that is higher.
   */
  readonly bookWithinMs: number;
}

export interface Settings {
  /** The longest wait for a reply on the request path, in milliseconds. Default: 50. */
  readonly timeoutMs: number;
  /** The longest wait for a connection, in milliseconds. Default: 100. */
  readonly connectTimeoutMs: number;
  /** The most connections to one server, besides those of `waitingConnections`. Calls share them. Default: 4. */
  readonly connections: number;
  /**
   * The most connections on which calls wait inside the server: for an answer that another is computing, or for a slot.
   * Default: 8.
   */
  readonly waitingConnections: number;
  /** The longest wait for a reply on these, in milliseconds. A longer wait is made of several calls. Default: 5,000. */
  readonly waitingTimeoutMs: number;
  /** So many failures in a row open the circuit: the server is not asked for `pauseMs`. Default: 5. */
  readonly failures: number;
  /** Milliseconds. Default: 1,000. */
  readonly pauseMs: number;
  /**
   * How many processes share the limits. Each gets its part of a local limit while the server is away. Default: 1.
   */
  readonly instances: number;
  /**
   * How long an admission's lease lives without a sign of life, in milliseconds. It is extended every third of this time.
   * Default: 30,000.
   */
  readonly leaseTtlMs: number;
  /** An admission is not extended beyond this time after it was admitted, in milliseconds. Default: 10 minutes. */
  readonly leaseCapMs: number;
  readonly away: Away;
  readonly kept: Kept;
}

type Some<T> = { readonly [K in keyof T]?: T[K] | undefined };

/** Settings that differ from the defaults. */
export type SettingsInput = Some<Omit<Settings, "away" | "kept">> & {
  readonly away?: Some<Away> | undefined;
  readonly kept?: Some<Kept> | undefined;
};

const AWAY: Away = { limits: "local", slots: "local", budgets: "closed", admission: "closed" };
const KEPT: Kept = {
  count: 100_000,
  directory: undefined,
  everyMs: 1_000,
  settleWithinMs: 3_300_000,
  chargeWithinMs: 80_000_000,
  bookWithinMs: 600_000,
};
const DEFAULTS: Settings = {
  timeoutMs: 50,
  connectTimeoutMs: 100,
  connections: 4,
  waitingConnections: 8,
  waitingTimeoutMs: 5_000,
  failures: 5,
  pauseMs: 1_000,
  instances: 1,
  leaseTtlMs: 30_000,
  leaseCapMs: 600_000,
  away: AWAY,
  kept: KEPT,
};
const MODES: readonly unknown[] = ["open", "local", "closed"];
const CHOICES: readonly unknown[] = ["open", "closed"];

/** All settings. Throws RangeError for those that cannot be. */
export function settingsOf(given: SettingsInput): Settings {
  const settings: Settings = {
    ...filled(DEFAULTS, given as Some<Settings>),
    away: filled(AWAY, given.away ?? {}),
    kept: filled(KEPT, given.kept ?? {}),
  };
  for (const name of ["timeoutMs", "connectTimeoutMs", "pauseMs", "leaseTtlMs", "leaseCapMs"] as const) {
    if (!(settings[name] > 0)) throw new RangeError(`${name}: above 0`);
  }
  for (const name of ["connections", "waitingConnections", "failures", "instances"] as const) {
    if (!(settings[name] >= 1)) throw new RangeError(`${name}: at least 1`);
  }
  if (!(settings.kept.everyMs > 0)) throw new RangeError("kept.everyMs: above 0");
  if (!(settings.waitingTimeoutMs >= 500)) throw new RangeError("waitingTimeoutMs: at least 500");
  const { limits, slots, budgets, admission } = settings.away;
  if (!MODES.includes(limits)) throw new RangeError("away.limits: open, local or closed");
  if (!MODES.includes(slots)) throw new RangeError("away.slots: open, local or closed");
  if (!CHOICES.includes(budgets)) throw new RangeError("away.budgets: open or closed");
  const local = typeof admission === "object" && admission.requests >= 0 && windowMs(admission) > 0;
  if (!local && !CHOICES.includes(admission))
    throw new RangeError("away.admission: open, closed or { requests, windowMs }");
  return settings;
}

export function windowMs(local: Local): number {
  return local.windowMs ?? 60_000;
}

/** The defaults with what is given and not undefined. */
function filled<T extends object>(defaults: T, given: Some<T>): T {
  const known = Object.keys(defaults) as (keyof T)[];
  return Object.fromEntries(known.map((name) => [name, given[name] ?? defaults[name]])) as T;
}
