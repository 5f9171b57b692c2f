// Amounts: decimals that are exact to 12 places, from -10^18 to 10^18. They are added as integers of 10^-12.

/** An exact decimal as a plain text, such as `0.0175`: no exponent, no zeros at the end. */
export type Decimal = string;

/** An amount of money or of any meter. A number is sent as its shortest text that reads as the same number. */
export type Amount = Decimal | number | bigint;

/** Amounts by meter. */
export type Amounts = Readonly<Record<string, Amount>>;

/** What was used: of a meter that is `null` or `undefined`, nothing is told. */
export type Used = Readonly<Record<string, Amount | null | undefined>>;

const PLACES = 12;
const UNIT = 10n ** BigInt(PLACES);
const MOST = 10n ** 18n * UNIT;
const LONGEST = 2048;
const TEXT = /^([+-]?)(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))(?:[eE]([+-]?[0-9]+))?$/;

/**
 * What the server takes a text for, in units of 10^-12.
 *
 * @throws RangeError with the words of the server's error
 */
export function parseAmount(amount: Amount): bigint {
  const text = String(amount);
  if (text.length > LONGEST) throw new RangeError("amount too long");
  const found = TEXT.exec(text);
  if (found === null) throw new RangeError("not an amount");
  const whole = found[2] ?? "";
  const fraction = found[3] ?? found[4] ?? "";
  const digits = (whole + fraction).replace(/^0+/, "");
  if (digits === "") return 0n;
  // The place of the first digit decides whether it is far out of range or far too small, before any arithmetic.
  const exponent = BigInt(found[5] ?? "0") - BigInt(fraction.length);
  const first = exponent + BigInt(digits.length - 1);
  if (first > 18n) throw new RangeError("amount out of range");
  if (first < -14n) return 0n;
  const units = scaled(BigInt(digits), Number(exponent) + PLACES);
  if (units > MOST) throw new RangeError("amount out of range");
  return found[1] === "-" ? -units : units;
}

/** `digits * 10^power`, rounded half to even. */
function scaled(digits: bigint, power: number): bigint {
  if (power >= 0) return digits * 10n ** BigInt(power);
  const divisor = 10n ** BigInt(-power);
  const quotient = digits / divisor;
  const twice = (digits % divisor) * 2n;
  const up = twice > divisor || (twice === divisor && quotient % 2n === 1n);
  return up ? quotient + 1n : quotient;
}

/** Units of 10^-12 as a plain decimal, as the server writes it. */
export function formatAmount(units: bigint): Decimal {
  const sign = units < 0n ? "-" : "";
  const positive = units < 0n ? -units : units;
  const fraction = (positive % UNIT).toString().padStart(PLACES, "0").replace(/0+$/, "");
  return `${sign}${(positive / UNIT).toString()}${fraction === "" ? "" : `.${fraction}`}`;
}

/** The exact sum. */
export function addAmounts(...amounts: readonly Amount[]): Decimal {
  return formatAmount(amounts.reduce((sum: bigint, amount) => sum + parseAmount(amount), 0n));
}

/** Below 0, 0, or above 0, as the first is less than, equal to, or more than the second. */
export function compareAmounts(one: Amount, other: Amount): number {
  const difference = parseAmount(one) - parseAmount(other);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

export function isAboveZero(amount: Amount): boolean {
  return parseAmount(amount) > 0n;
}

/** Throws RangeError if the server would refuse it as what was used. A settlement is too late to find that out. */
export function checkedAmount(name: string, amount: Amount): Amount {
  let allowed = typeof amount === "string" || typeof amount === "number" || typeof amount === "bigint";
  try {
    allowed &&= parseAmount(amount) >= 0n;
  } catch {
    allowed = false;
  }
  if (!allowed) throw new RangeError(`${name}: an amount from 0 to 10^18`);
  return amount;
}
