// Reading a command's words, and writing its errors.

import { formatAmount, parseAmount } from "../amounts.js";
import { errorWith, type GatewayError } from "../errors.js";
import { bytesOf, textOf, type Argument } from "../wire.js";

/** The fake does not have this command, or this option of it. Use a real server for this test. */
export class NotInFake extends Error {
  override readonly name: string = "NotInFake";
}

/** 10^-12, in which amounts are counted; and a whole unit, and a billionth. */
export const UNIT = 10n ** 12n;
export const NANO = 10n ** 3n;
export const LONGEST = 31_622_400_000;
const MOST = 2 ** 53;

export function refused(text: string, code = "ERR"): GatewayError {
  return errorWith(code, text);
}

export function wholeOf(word: string, name: string, least: number, most = MOST): number {
  const value = Number(word);
  if (/^-?[0-9]+$/.test(word) && value >= least && value <= most) return value;
  throw refused(`not an integer from ${String(least)} to ${String(most)}: ${name}`);
}

export function amountOf(word: string, name: string, negative = false): bigint {
  let made: bigint;
  try {
    made = parseAmount(word);
  } catch (error) {
    throw refused(`${(error as Error).message}: ${name}`);
  }
  if (made < 0n && !negative) throw refused(`negative amount: ${name}`);
  return made;
}

/** Rounded up to a whole number of steps. */
export function up(value: bigint, step: bigint): bigint {
  const rest = ((value % step) + step) % step;
  return rest === 0n ? value : value - rest + step;
}

export function told(value: bigint, decimal: boolean): number | string {
  return decimal ? formatAmount(value) : Number(value / UNIT);
}

/** The words of a call after its name, taken from the left. */
export class Words {
  #at = 0;
  readonly #words: readonly Argument[];

  constructor(words: readonly Argument[]) {
    this.#words = words;
  }

  get left(): boolean {
    return this.#at < this.#words.length;
  }

  /** The next word in upper case; empty at the end. */
  get next(): string {
    const word = this.#words[this.#at];
    return word === undefined ? "" : String(word).toUpperCase();
  }

  bytes(name = "value"): Buffer {
    const word = this.#words[this.#at];
    if (word === undefined) throw refused(`missing value: ${name}`);
    this.#at += 1;
    return typeof word === "string" ? bytesOf(word) : word;
  }

  take(name = "value"): string {
    return textOf(this.bytes(name));
  }

  /** An option word. */
  option(): string {
    return this.take().toUpperCase();
  }

  rest(): Buffer[] {
    const found: Buffer[] = [];
    while (this.left) found.push(this.bytes());
    return found;
  }

  named(option: string, most: number): string {
    const found = this.bytes(option);
    if (found.length < 1 || found.length > most) throw refused(`not a name of 1 to ${String(most)} bytes: ${option}`);
    return textOf(found);
  }

  integer(option: string, least: number, most = MOST): number {
    return wholeOf(this.take(option), option, least, most);
  }

  amount(name: string, negative = false): bigint {
    return amountOf(this.take(name), name, negative);
  }

  /** A key, and further ones after WITH and their number. */
  keys(most: number): string[] {
    const found = [this.take("account")];
    if (this.next === "WITH") {
      this.take();
      for (let left = this.integer("numkeys", 1, most); left > 0; left--) found.push(this.take("account"));
    }
    return found;
  }
}

export function unknown(option: string): GatewayError {
  return refused(`unknown option: ${option}`);
}
