// What all parts of a gateway share: the way to the server, what runs in the background, what is counted and kept.

import type { Circuit } from "./circuit.js";
import type { Settlement } from "./decisions.js";
import { Delivery, KeptDeliveries } from "./deliveries.js";
import type { Driver } from "./drivers/driver.js";
import { NoHold } from "./errors.js";
import { notNow, Unavailable } from "./failures.js";
import { LocalSlots, LocalWindows } from "./local.js";
import type { Settings } from "./settings.js";
import { bounded, Event, nameOf, sleep, Tasks, TimedOut, wholeMs, type Logger } from "./tasks.js";
import { serverLabels, type Telemetry } from "./telemetry.js";
import { Transport } from "./transport.js";
import { text, type Request } from "./wire.js";

/** Sends a request, and returns its typed reply, or rejects. */
export type Ask = <T>(request: Request<T>) => Promise<T>;

const OUTCOMES: ReadonlyMap<string, Settlement> = new Map([
  ["SETTLED", "settled"],
  ["LATE", "late"],
  ["REPEATED", "repeated"],
]);
/** The most commands that are sent together: few enough to hold up no other command of the server for long. */
export const BATCH = 100;
/** Their most bytes: few enough to arrive within the time-out over a slow network. A longer one is sent alone. */
export const BATCH_BYTES = 512 * 1024;
// What other processes have left is looked for this often.
const ADOPT_MS = 60_000;
const BACKGROUND_TIMEOUT_MS = 2_000;
// For a command that looks at every key of a server.
const SCAN_TIMEOUT_MS = 60_000;

/** An admission that has not ended. */
export interface Unsettled {
  /** Keeps its settlement, unless it has ended meanwhile. `figure`: what counts it. */
  forgotten(figure: string): void;
  /** Keeps what undoes it, unless it has ended meanwhile. */
  giveBack(): void;
}

export class Core {
  readonly tasks: Tasks;
  readonly transport: Transport;
  /**
   * For what no request waits for and may be large, such as log records and what is kept: a few connections of its own
   * with a time-out of seconds. How it goes says nothing about the request path, so it does not open that circuit, and an
   * open circuit does not hold it up.
   */
  readonly background: Transport;
  readonly windows = new LocalWindows();
  readonly slots = new LocalSlots();
  readonly kept: KeptDeliveries;
  /** Admissions that have not ended. */
  readonly living = new Set<Unsettled>();
  /** Those whose question has no answer yet. */
  readonly asking = new Set<Unsettled>();
  /** Deliveries on their way, and those that come after them. */
  readonly #underWay = new Set<Delivery>();
  readonly closing = new Event();
  closed = false;
  readonly #unwatch: readonly (() => void)[];
  #adoptAt: number;
  #sending = false;

  constructor(
    driver: Driver,
    readonly settings: Settings,
    readonly telemetry: Telemetry,
    readonly logger: Logger,
  ) {
    this.tasks = new Tasks(logger);
    this.transport = new Transport(driver, settings, this.tasks, telemetry, logger);
    // Its calls are few, so they need no circuit: each of them tries.
    const background: Settings = {
      ...settings,
      timeoutMs: Math.max(settings.timeoutMs, BACKGROUND_TIMEOUT_MS),
      connections: 2,
      waitingConnections: 1,
      waitingTimeoutMs: Math.max(settings.waitingTimeoutMs, SCAN_TIMEOUT_MS),
      failures: Infinity,
    };
    this.background = new Transport(driver, background, this.tasks, telemetry, logger);
    this.kept = new KeptDeliveries(settings.kept, logger);
    this.#adoptAt = settings.kept.directory === undefined ? Infinity : -Infinity;
    const servers = (read: (circuit: Circuit) => number) => () =>
      this.transport.servers().map(({ circuit, address }) => ({ value: read(circuit), labels: serverLabels(address) }));
    this.#unwatch = [
      telemetry.watch("kept.waiting", () => [{ value: this.kept.size, labels: {} }]),
      telemetry.watch(
        "circuit.open",
        servers((circuit) => Number(circuit.isOpen)),
      ),
      telemetry.watch(
        "away.seconds",
        servers((circuit) => circuit.awayMs / 1000),
      ),
    ];
  }

  async run<T>(request: Request<T>): Promise<T> {
    if (performance.now() >= this.#adoptAt) this.adopt();
    return await this.transport.call(request);
  }

  readonly ask: Ask = async (request) => await this.run(request);

  /**
   * Asks with a wait in the server of so many milliseconds. Asks without one if it is 0, if the server ends the wait early,
   * or if all connections on which calls wait are taken: who wants to wait on asks now and then.
   */
  async waitOrRun<T>(asked: (waitMs: number | undefined) => Request<T>, waitMs: number): Promise<T> {
    if (waitMs > 0) {
      try {
        return await this.transport.wait(asked(wholeMs(waitMs)));
      } catch (error) {
        const reason = error instanceof Unavailable ? error.reason : "";
        if (reason !== "connections" && reason !== "unblocked") throw error;
        await sleep(Math.min(waitMs, 100));
      }
    }
    return await this.run(asked(undefined));
  }

  /** The longest wait of one call in the server: the time-out of its connection tells in time that the server is away. */
  get longestWaitMs(): number {
    const { waitingTimeoutMs } = this.settings;
    // The server looks ten times a second whose wait is over.
    return Math.min(0.8 * waitingTimeoutMs, waitingTimeoutMs - 250);
  }

  /** Sends them in one round trip to each server. What each has brought is had by asking it. */
  async together(requests: readonly Request<unknown>[]): Promise<Ask[]> {
    if (performance.now() >= this.#adoptAt) this.adopt();
    let replies: readonly unknown[];
    try {
      replies = await this.transport.many(requests);
    } catch (error) {
      replies = requests.map(() => error);
    }
    return replies.map((reply): Ask => async (request) => {
      await Promise.resolve();
      if (reply instanceof Error) throw reply;
      return request.decode(reply);
    });
  }

  /** Takes over what processes that are gone have left to be sent. */
  adopt(): void {
    this.#adoptAt = performance.now() + ADOPT_MS;
    const before = this.kept.givenUp;
    const found = this.kept.adopt();
    const old = this.kept.givenUp - before;
    if (old > 0) {
      this.telemetry.count("kept_given_up", {}, old);
      this.logger.error(`${String(old)} settlements and charges were given up: they were left too long ago`);
    }
    if (found > 0) this.startSending();
  }

  /** The gateway closes, or the program ends: whoever has them cannot settle them any more. */
  settleLiving(): void {
    for (const admission of [...this.living]) admission.forgotten("admissions_closed");
  }

  /** The program ends: no reply comes any more, so whatever has none is kept. */
  keepAll(): void {
    this.settleLiving();
    for (const admission of [...this.asking]) admission.giveBack();
    this.#keepUnderWay();
  }

  #keepUnderWay(): void {
    for (const delivery of this.#underWay) {
      delivery.mayHaveArrived(Date.now());
      this.keep(delivery);
    }
  }

  // Deliveries: what must arrive.

  /** Tells the server at once, or keeps it for later if the server is away. */
  async deliver(delivery: Delivery): Promise<Settlement> {
    this.#underWay.add(delivery);
    try {
      return await this.#deliver(delivery);
    } finally {
      this.#underWay.delete(delivery);
    }
  }

  async #deliver(delivery: Delivery): Promise<Settlement> {
    if (this.kept.tooOld(delivery)) return this.#giveUp(delivery);
    // The server is away, so there is no need to try.
    const away = this.transport.servers();
    if (this.kept.size > 0 && away.length > 0 && away.every(({ circuit }) => circuit.isOpen))
      return this.keep(delivery);
    const began = Date.now();
    let reply: string;
    try {
      reply = outcomeOf(await this.run(delivery.request));
    } catch (error) {
      if (error instanceof Unavailable && error.sent) delivery.mayHaveArrived(began);
      if (notNow(error)) return this.keep(delivery);
      if (!(error instanceof NoHold)) throw error;
      reply = "UNKNOWN";
    }
    if (reply !== "UNKNOWN") return OUTCOMES.get(reply) ?? "settled";
    if (this.#askAgain(delivery)) {
      delivery.mayHaveArrived(Date.now());
      return this.keep(delivery);
    }
    if (delivery.fallback.length === 0) return "unknown";
    if (!this.kept.mayBook(delivery)) return this.#giveUp(delivery);
    this.telemetry.count("settlements_unknown");
    const charged = await this.deliverAll(delivery.charges());
    return charged === "kept" || charged === "given_up" ? "kept" : "charged";
  }

  /**
   * Tells the server that a slot or a batch has ended. Undefined if it is away: then it is told when it is back. By then it
   * may have ended by itself, and what is told later concerns nobody else's.
   */
  async tell(asked: Request<boolean>): Promise<boolean | undefined> {
    const began = Date.now();
    try {
      return await this.run(asked);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      this.tellLater(asked, error.sent ? began : null);
      return undefined;
    }
  }

  /** `firstSent`: when it may have arrived for the first time, unix milliseconds. */
  tellLater(asked: Request<boolean>, firstSent: number | null = null): void {
    const delivery = new Delivery(asked.args);
    delivery.firstSent = firstSent;
    this.keep(delivery);
  }

  /**
   * The outcome of the first one, unless another was kept. An error of one holds up no other: it is thrown at the end.
   */
  async deliverAll(deliveries: readonly Delivery[]): Promise<Settlement> {
    const outcomes: Settlement[] = [];
    let failed: unknown;
    for (const delivery of deliveries) this.#underWay.add(delivery);
    for (const delivery of deliveries) {
      try {
        outcomes.push(await this.deliver(delivery));
      } catch (error) {
        failed ??= error;
      }
    }
    if (failed !== undefined) throw failed as Error;
    return outcomes.find((outcome) => outcome === "kept" || outcome === "given_up") ?? outcomes[0] ?? "nothing";
  }

  /** Keeps it, and sees to it that it is sent. */
  keep(delivery: Delivery): Settlement {
    if (!this.kept.add(delivery)) {
      this.telemetry.count("kept_dropped");
      return "given_up";
    }
    this.telemetry.count("kept");
    this.startSending();
    return "kept";
  }

  startSending(): void {
    if (this.#sending || this.closed) return;
    this.#sending = true;
    this.tasks.start(async () => await this.#sendUntilEmpty());
  }

  /** Tries once to send what is kept, and returns how much was taken. */
  async sendKept(): Promise<number> {
    if (performance.now() >= this.#adoptAt) this.adopt();
    // A process that is killed meanwhile leaves the first without the second.
    this.kept.sending(true);
    try {
      return await this.#sendBatches();
    } finally {
      this.kept.sending(false);
    }
  }

  async close(ms: number): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.closing.set();
    for (const stop of this.#unwatch) stop();
    const end = performance.now() + ms;
    // What is kept gets the rest of the time: enough for a server that does not answer to be waited for.
    await this.tasks.finish(Math.max(ms - BACKGROUND_TIMEOUT_MS, ms / 2));
    this.settleLiving();
    const sent = this.#sendLast();
    try {
      await bounded(Math.max(0, end - performance.now()), sent);
    } catch (error) {
      if (!(error instanceof TimedOut)) this.logger.error(`what is kept was not sent: ${nameOf(error)}`);
    }
    this.transport.close();
    this.background.close();
    // What has no reply yet fails now, and is marked as what may have arrived.
    await bounded(BACKGROUND_TIMEOUT_MS, sent).catch(() => undefined);
    this.#keepUnderWay();
    if (this.kept.size > 0) this.logger.warn(`${String(this.kept.size)} settlements and charges were not sent`);
    this.kept.close();
  }

  async #sendLast(): Promise<void> {
    // The second time for charges that take the place of settlements that nobody knows.
    if (this.kept.size > 0 && (await this.sendKept()) > 0 && this.kept.size > 0) await this.sendKept();
  }

  /** Whether UNKNOWN is no answer yet. At the end only a next process has time for another one. */
  #askAgain(delivery: Delivery): boolean {
    return delivery.askAgain() && (!this.closed || this.settings.kept.directory !== undefined);
  }

  /** It may have arrived, and the server may have forgotten that: to send it again could charge it twice. */
  #giveUp(delivery: Delivery): Settlement {
    this.kept.done(delivery);
    this.telemetry.count("kept_given_up");
    this.logger.error(`${delivery.command} was given up: the server was away for too long`);
    return "given_up";
  }

  async #sendUntilEmpty(): Promise<void> {
    try {
      while (!this.closed && this.kept.size > 0) {
        const pauseMs = this.settings.kept.everyMs * (0.75 + 0.5 * Math.random());
        if (await this.closing.wait(pauseMs, { background: true })) return;
        try {
          await this.sendKept();
        } catch (error) {
          // What is kept must not stay here for ever because of one mistake.
          this.logger.error(`kept settlements and charges were not sent: ${nameOf(error)}`);
        }
      }
    } finally {
      this.#sending = false;
    }
  }

  async #sendBatches(): Promise<number> {
    let taken = 0;
    // The nodes that do not answer, or refuse whatever comes: each is waited for once. Empty: the server.
    const silent = new Set<string>();
    const nodeOf = ({ words }: Delivery): string => this.background.nodeOf(words);
    for (let left = this.kept.size; left > 0 && !silent.has("");) {
      const found = this.kept.first(Math.min(BATCH, left));
      if (found.length === 0) break;
      left -= found.length;
      const batch: Delivery[] = [];
      for (const one of found) {
        if (this.kept.tooOld(one)) this.#giveUp(one);
        else if (silent.has(nodeOf(one))) this.kept.later(one);
        else batch.push(one);
      }
      if (batch.length === 0) {
        // There may be many, and others get their turn.
        await new Promise(setImmediate);
        continue;
      }
      const replies = await this.#sent(batch);
      const away = batch.filter((_, at) => notNow(replies[at]));
      taken += batch.length - away.length;
      for (const [at, one] of batch.entries()) {
        const reply = replies[at];
        if (away.length === batch.length || (reply instanceof Unavailable && reply.down)) silent.add(nodeOf(one));
      }
    }
    return taken;
  }

  async #sent(batch: readonly Delivery[]): Promise<unknown[]> {
    const began = Date.now();
    let replies: unknown[];
    try {
      replies = await this.background.many(batch.map(({ request }) => request));
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      replies = batch.map(() => error);
    }
    for (const [at, delivery] of batch.entries()) {
      const reply = replies[at];
      if (reply instanceof Unavailable && reply.sent) delivery.mayHaveArrived(began);
      if (!notNow(reply)) this.#taken(delivery, reply);
      else if (this.kept.tooOld(delivery)) this.#giveUp(delivery);
      else this.kept.later(delivery);
    }
    return replies;
  }

  #taken(delivery: Delivery, reply: unknown): void {
    if (reply instanceof Error && !(reply instanceof NoHold)) {
      this.kept.done(delivery);
      this.telemetry.count("kept_refused");
      this.logger.error(`${delivery.command} was refused: ${nameOf(reply)}`);
    } else if (!(reply instanceof NoHold) && outcomeOf(reply) !== "UNKNOWN") {
      this.kept.done(delivery);
      this.telemetry.count("kept_sent");
    } else if (this.#askAgain(delivery)) {
      delivery.mayHaveArrived(Date.now());
      this.kept.later(delivery);
    } else if (delivery.fallback.length > 0 && !this.kept.mayBook(delivery)) {
      this.#giveUp(delivery);
    } else {
      if (delivery.fallback.length > 0) this.telemetry.count("settlements_unknown");
      this.kept.done(delivery, delivery.charges());
    }
  }
}

/** The word of a settlement's reply; empty for other replies. */
function outcomeOf(reply: unknown): string {
  return typeof reply === "string" || reply instanceof Uint8Array ? text(reply) : "";
}
