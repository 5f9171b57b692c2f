// What the server must be told sooner or later: settlements and charges that are kept while it is away.

import { randomUUID } from "node:crypto";
import { KeptFile } from "./keptFile.js";
import type { Kept } from "./settings.js";
import type { Logger } from "./tasks.js";
import { textArgument, textOf, type Argument, type Request } from "./wire.js";

// For so long what was sent may still be on its way to a server that has frozen.
const GRACE_MS = 5_000;

/** What the disk has of a delivery. */
interface Line {
  readonly id: string;
  readonly words: readonly string[];
  readonly fallback: readonly (readonly string[])[];
  readonly firstSent: number | null;
  readonly early: boolean;
  readonly againUntil: number;
}

/** A call that can be repeated, and what is sent instead if the server does not know what it is about. */
export class Delivery {
  /** When it may have arrived for the first time, unix milliseconds; null if it certainly has not. */
  firstSent: number | null = null;
  /** What it is about may still be on its way to the server. Then UNKNOWN is no answer yet. */
  early = false;
  /** The end of that, unix milliseconds: some time after the first answer. 0 before that answer. */
  againUntil = 0;
  /** What the disk knows of it that may change; null if it is not there. */
  stored: string | null = null;

  /** `fallback`: charges that are sent if the reply is UNKNOWN or NOHOLD, each with an id of its own. */
  constructor(
    readonly words: readonly Argument[],
    readonly fallback: readonly (readonly Argument[])[] = [],
    readonly id: string = randomUUID(),
  ) {}

  get command(): string {
    return String(this.words[0]);
  }

  get isSettlement(): boolean {
    return ["GW.SETTLE", "GW.COMMIT", "GW.CANCEL"].includes(this.command);
  }

  get request(): Request<unknown> {
    return { args: this.words, decode: (reply) => reply, repeatable: true };
  }

  mayHaveArrived(at: number): void {
    this.firstSent ??= at;
  }

  /**
   * Called if the reply is UNKNOWN: whether that is no answer yet. A server that was frozen may read this before what was
   * sent earlier on another connection, so the time counts from its first answer.
   */
  askAgain(): boolean {
    if (this.early && this.againUntil === 0) this.againUntil = Date.now() + GRACE_MS;
    return this.early && this.againUntil > Date.now();
  }

  charges(): Delivery[] {
    return this.fallback.map((words) => new Delivery(words));
  }

  line(): string {
    const { id, firstSent, early, againUntil } = this;
    const line: Line = {
      id,
      words: texts(this.words),
      fallback: this.fallback.map(texts),
      firstSent,
      early,
      againUntil,
    };
    return JSON.stringify(line);
  }

  static of(line: Line): Delivery {
    const words = line.words.map(textArgument);
    const made = new Delivery(
      words,
      line.fallback.map((charge) => charge.map(textArgument)),
      line.id,
    );
    made.firstSent = line.firstSent;
    made.early = line.early;
    made.againUntil = line.againUntil;
    return made;
  }
}

function texts(words: readonly Argument[]): string[] {
  return words.map((word) => (typeof word === "string" ? word : textOf(word)));
}

/**
 * A bounded queue, in memory and, if there is a directory, on the disk. If the disk does not take something, it is kept
 * in memory, and nothing is raised: a request does not fail because the disk is full.
 */
export class KeptDeliveries {
  readonly #kept = new Map<string, Delivery>();
  readonly #file: KeptFile | undefined;
  #sending = 0;
  #failing = false;
  dropped = 0;
  /** What was too old when its file was taken over. */
  givenUp = 0;

  constructor(
    private readonly settings: Kept,
    private readonly logger: Logger,
  ) {
    if (settings.directory !== undefined) {
      this.#file = new KeptFile(settings.directory, () => this.#storeAll());
    }
  }

  get size(): number {
    return this.#kept.size;
  }

  /** It may have arrived, and the server may have forgotten that: to send it again could charge it twice. */
  tooOld({ firstSent, isSettlement }: Delivery): boolean {
    const within = isSettlement ? this.settings.settleWithinMs : this.settings.chargeWithinMs;
    return firstSent !== null && Date.now() - firstSent > within;
  }

  /**
   * Whether UNKNOWN certainly means that it was never settled. A busy account forgets what was settled before an hour
   * has passed.
   */
  mayBook({ firstSent }: Delivery): boolean {
    return firstSent === null || Date.now() - firstSent <= this.settings.bookWithinMs;
  }

  /** Whether there was room. */
  add(delivery: Delivery): boolean {
    if (this.#kept.size >= this.settings.count && !this.#kept.has(delivery.id)) {
      this.dropped += 1;
      return false;
    }
    this.#kept.set(delivery.id, delivery);
    this.#store(delivery);
    return true;
  }

  first(count: number): Delivery[] {
    const found: Delivery[] = [];
    for (const delivery of this.#kept.values()) {
      if (found.length === count) break;
      found.push(delivery);
    }
    return found;
  }

  /** Whether some of them are under way: if the process ends meanwhile, they may have arrived. */
  sending(now: boolean): void {
    const before = this.#sending;
    this.#sending = Math.max(0, before + (now ? 1 : -1));
    if (this.#file?.isOpen === true && before > 0 !== this.#sending > 0) this.#write(sendingLine(now));
  }

  /** Takes it out. What comes instead is there before it is gone. */
  done(delivery: Delivery, instead: readonly Delivery[] = []): void {
    for (const other of instead) {
      this.#kept.set(other.id, other);
      this.#store(other);
    }
    if (this.#kept.delete(delivery.id) && delivery.stored !== null) this.#write(JSON.stringify({ done: delivery.id }));
    this.#shrink();
  }

  /** To the end of the queue, with what is known of it now. */
  later(delivery: Delivery): void {
    if (!this.#kept.delete(delivery.id)) return;
    this.#kept.set(delivery.id, delivery);
    this.#store(delivery);
    this.#shrink();
  }

  /** Takes over what processes that are gone have left, and returns how much it was. */
  adopt(): number {
    let found = 0;
    for (const left of this.#file?.left() ?? []) {
      const deliveries = deliveriesOf(left.lines);
      const over: string[] = [];
      for (const delivery of deliveries) {
        if (this.tooOld(delivery)) this.givenUp += 1;
        else if (this.#takeOver(delivery)) found += 1;
        else continue;
        over.push(delivery.id);
      }
      // There was no room for the others, in memory or on the disk: they stay where they are.
      left.done(over.length === deliveries.length ? "all" : over.map((id) => JSON.stringify({ done: id })));
    }
    return found;
  }

  /** What is left stays on the disk for the next process. */
  close(): void {
    this.#file?.close(this.#kept.size === 0);
  }

  #takeOver(delivery: Delivery): boolean {
    if (this.#kept.has(delivery.id)) return true;
    if (this.#kept.size >= this.settings.count) return false;
    this.#kept.set(delivery.id, delivery);
    if (this.#store(delivery)) return true;
    this.#kept.delete(delivery.id);
    return false;
  }

  #store(delivery: Delivery): boolean {
    if (this.#file === undefined) return false;
    const state = stateOf(delivery);
    if (delivery.stored !== state && this.#write(delivery.line())) delivery.stored = state;
    return delivery.stored === state;
  }

  /** Into another file, since somebody has taken this one over. Whoever sends something first, it arrives once. */
  #storeAll(): void {
    for (const delivery of this.#kept.values()) {
      delivery.stored = null;
      this.#store(delivery);
    }
    if (this.#sending > 0 && this.#kept.size > 0) this.#write(sendingLine(true));
  }

  #write(line: string): boolean {
    const file = this.#file;
    if (file === undefined) return false;
    try {
      file.append(line);
    } catch (error) {
      if (!this.#failing) {
        const code = (error as NodeJS.ErrnoException).code ?? "unknown";
        this.logger.error(`settlements and charges are kept in memory only: ${code}`);
      }
      this.#failing = true;
      return false;
    }
    this.#failing = false;
    return true;
  }

  #shrink(): void {
    const file = this.#file;
    if (file?.isOpen !== true || (this.#kept.size > 0 && file.lines <= Math.max(10_000, 10 * this.#kept.size))) return;
    const kept = [...this.#kept.values()];
    const lines = kept.map((delivery) => delivery.line());
    try {
      file.rewrite(this.#sending > 0 && kept.length > 0 ? [...lines, sendingLine(true)] : lines);
      for (const delivery of kept) delivery.stored = stateOf(delivery);
    } catch {
      // The old file is as good, only longer. It is tried again after the next change.
    }
  }
}

/** When it began counts, not when the file was written: others may take the file over and leave it again. */
function sendingLine(now: boolean): string {
  return JSON.stringify({ sending: now ? Date.now() : false });
}

function stateOf({ firstSent, againUntil }: Delivery): string {
  return `${String(firstSent)} ${String(againUntil)}`;
}

/** What a file has, and has not been done with. */
function deliveriesOf(lines: readonly string[]): Delivery[] {
  const found = new Map<string, Delivery>();
  let sending: number | false = false;
  for (const line of lines) {
    let made: (Partial<Line> & { readonly done?: unknown; readonly sending?: unknown }) | null;
    try {
      made = JSON.parse(line) as typeof made;
    } catch {
      continue; // Half a line: the process was killed, or the disk was full. What follows is whole.
    }
    if (typeof made !== "object" || made === null) continue;
    if (typeof made.done === "string") found.delete(made.done);
    else if (made.sending !== undefined) sending = typeof made.sending === "number" ? made.sending : false;
    else if (typeof made.id === "string" && Array.isArray(made.words)) found.set(made.id, Delivery.of(made as Line));
  }
  // They may have been under way when their process ended.
  if (sending !== false) for (const delivery of found.values()) delivery.mayHaveArrived(sending);
  return [...found.values()];
}
