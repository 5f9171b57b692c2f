export {
  addAmounts,
  compareAmounts,
  formatAmount,
  parseAmount,
  type Amount,
  type Amounts,
  type Decimal,
  type Used,
} from "./amounts.js";
export { cacheKey, canonical, NotCanonical, parseRequest, type CacheKeyParts } from "./cacheKey.js";
export * from "./commands/index.js";
export * from "./errors.js";
export {
  admissionHeaders,
  verdictHeaders,
  type AdmissionHeaderOptions,
  type HeaderFamily,
  type HeaderOptions,
} from "./headers.js";
export { bytesOf, textOf, UnexpectedReply, type Argument, type Request, type Text } from "./wire.js";
export { Admission, type AdmitOptions, type Plan, type Usage } from "./admission.js";
export { LogBatch, type LeaseOptions } from "./batches.js";
export {
  Cache,
  json,
  type CacheOptions,
  type Codec,
  type Compute,
  type ComputeOptions,
  type EntryOptions,
} from "./cache.js";
export {
  CallFailed,
  Denied,
  LimitDecision,
  LockLost,
  type BudgetDecision,
  type Health,
  type Outcome as DecisionOutcome,
  type Settlement,
} from "./decisions.js";
export type { Address, Connection, Driver, Nodes } from "./drivers/driver.js";
export type { GatewayClient, IoredisClient, NodeRedisClient } from "./drivers/index.js";
export { Unavailable } from "./failures.js";
export { Gateway, type GatewayOptions } from "./gateway.js";
export {
  Budgets,
  Hold,
  type BudgetList,
  type ChargeOptions,
  type LimitOptions,
  type ReserveOptions as HoldOptions,
} from "./limits.js";
export { Slot, type SlotOptions } from "./locks.js";
export { Logs, type LogsOptions } from "./logs.js";
export { Attempt, RoutedRequest, type Failures, type RequestOptions } from "./routing.js";
export type { Away, Kept, Local, Mode, Settings, SettingsInput } from "./settings.js";
export { StreamCache } from "./streamCache.js";
export type { Source } from "./streams.js";
export type { Logger } from "./tasks.js";
export { Telemetry, type Gauge, type Labels, type Reading } from "./telemetry.js";
/** The types of the low level, also those whose names the classes here have. */
export type * as low from "./commands/types.js";
