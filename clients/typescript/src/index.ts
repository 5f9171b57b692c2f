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
