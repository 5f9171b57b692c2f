// What all parts of a gateway share: the way to the server, what runs in the background, what is counted and kept.

import type { Settlement } from "./decisions.js";
import { KeptDeliveries, type Delivery } from "./deliveries.js";
import type { Driver } from "./drivers/driver.js";
import { NoHold } from "./errors.js";
import { notNow, Unavailable } from "./failures.js";
import { LocalSlots, LocalWindows } from "./local.js";
import type { Settings } from "./settings.js";
import { Event, nameOf, Tasks, type Logger } from "./tasks.js";
import type { Telemetry } from "./telemetry.js";
import { Transport } from "./transport.js";
import { text, type Request } from "./wire.js";

const OUTCOMES: ReadonlyMap<string, Settlement> = new Map([
  ["SETTLED", "settled"],
  ["LATE", "late"],
  ["REPEATED", "repeated"],
]);
const BATCH = 100;
// What other processes have left is looked for this often.
const ADOPT_MS = 60_000;
const BACKGROUND_TIMEOUT_MS = 3_000;

/** An admission that has not ended. */
export interface Unsettled {
  /** Keeps its settlement, unless it has ended meanwhile. `figure`: what counts it. */
  forgotten(figure: string): void;
}

export class Core {
  readonly tasks: Tasks;
  readonly transport: Transport;
  /**
   * For what nobody waits for and may be large, such as log records: a few connections of its own with a time-out of
   * seconds. How it goes says nothing about the request path, so it does not open that circuit.
   */
  readonly background: Transport;
  readonly windows = new LocalWindows();
  readonly slots = new LocalSlots();
  readonly kept: KeptDeliveries;
  /** Admissions that have not ended. */
  readonly living = new Set<Unsettled>();
  readonly closing = new Event();
  closed = false;
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
      failures: Infinity,
    };
    this.background = new Transport(driver, background, this.tasks, telemetry, logger);
    this.kept = new KeptDeliveries(settings.kept, logger);
    this.#adoptAt = settings.kept.directory === undefined ? Infinity : -Infinity;
    const servers = (read: (server: ReturnType<Transport["servers"]>[number]) => number) => () =>
      this.transport.servers().map((server) => ({ value: read(server), labels: { server: server.address } }));
    telemetry.watch("kept", () => [{ value: this.kept.size, labels: {} }]);
    telemetry.watch(
      "circuit.open",
      servers(({ circuit }) => Number(circuit.isOpen)),
    );
    telemetry.watch(
      "away.seconds",
      servers(({ circuit }) => circuit.awayMs / 1000),
    );
  }

  async run<T>(request: Request<T>): Promise<T> {
    if (performance.now() >= this.#adoptAt) this.adopt();
    return await this.transport.call(request);
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

  // Deliveries: what must arrive.

  /** Tells the server at once, or keeps it for later if the server is away. */
  async deliver(delivery: Delivery): Promise<Settlement> {
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
   * The outcome of the first one, unless another was kept. An error of one holds up no other: it is thrown at the end.
   */
  async deliverAll(deliveries: readonly Delivery[]): Promise<Settlement> {
    const outcomes: Settlement[] = [];
    let failed: unknown;
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
    await this.tasks.finish(ms);
    this.settleLiving();
    try {
      // The second time for charges that take the place of settlements that nobody knows.
      if (this.kept.size > 0 && (await this.sendKept()) > 0 && this.kept.size > 0) await this.sendKept();
    } catch (error) {
      this.logger.error(`kept settlements and charges were not sent: ${nameOf(error)}`);
    }
    if (this.kept.size > 0) this.logger.warn(`${String(this.kept.size)} settlements and charges were not sent`);
    this.kept.close();
    this.transport.close();
    this.background.close();
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
    for (let left = this.kept.size; left > 0;) {
      const first = this.kept.first(Math.min(BATCH, left));
      if (first.length === 0) break;
      left -= first.length;
      for (const old of first.filter((one) => this.kept.tooOld(one))) this.#giveUp(old);
      const batch = first.filter((one) => !this.kept.tooOld(one));
      if (batch.length === 0) continue;
      const replies = await this.#sent(batch);
      const away = replies.filter(notNow).length;
      taken += batch.length - away;
      if (away === batch.length) break;
    }
    return taken;
  }

  async #sent(batch: readonly Delivery[]): Promise<unknown[]> {
    const began = Date.now();
    let replies: unknown[];
    try {
      replies = await this.transport.many(batch.map(({ request }) => request));
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
