// A buffer of log records in front of a queue of the server: nobody waits for it, and it takes what its bounds allow.

import { Buffer } from "node:buffer";
import { requests } from "./commands/index.js";
import { BATCH_BYTES, type Core } from "./core.js";
import { GatewayError, QueueFull } from "./errors.js";
import { notNow, Unavailable } from "./failures.js";
import { Event, nameOf } from "./tasks.js";
import type { Text } from "./wire.js";

// The server remembers the id of a push for `gw.log-id-ms`, ten minutes by default.
const REMEMBERED_MS = 540_000;

export interface LogsOptions {
  /** The most records in the buffer. Default: 10,000. */
  readonly records?: number | undefined;
  /** The most bytes in the buffer. Default: 16 MiB. */
  readonly bytes?: number | undefined;
  /** So many records are pushed together. Default: 500. */
  readonly batch?: number | undefined;
  /** The longest time that a record waits, in milliseconds, unless the server is away. Default: 1,000. */
  readonly everyMs?: number | undefined;
  /** The server checks that each record is valid JSON. Default: true. */
  readonly json?: boolean | undefined;
  /** If the server's queue is full, keep the records here, instead of dropping the queue's oldest ones. Default: false. */
  readonly reject?: boolean | undefined;
}

/** Records that are pushed together, under one id, until the server has taken them. */
interface Batch {
  records: Buffer[];
  readonly id: string;
  /**
   * When it may have arrived for the first time. If its records are pushed one by one: when the first of them may have.
   */
  firstSent: number | null;
  /** One of them was refused, so each gets a push of its own. */
  oneByOne: boolean;
}

export class Logs {
  /** Records that had no room in the buffer or the queue, or that the server refused. */
  dropped = 0;
  #buffer: Buffer[] = [];
  #bytes = 0;
  #sending: Batch | undefined;
  #flushing: Promise<boolean> = Promise.resolve(true);
  #running = false;
  #closed = false;
  readonly #wake = new Event();
  readonly #unwatch: () => void;
  readonly #most: number;
  readonly #mostBytes: number;
  readonly #batch: number;
  readonly #everyMs: number;

  /** Made by `Gateway.logs`. */
  constructor(
    private readonly core: Core,
    readonly key: Text,
    private readonly options: LogsOptions,
  ) {
    this.#most = options.records ?? 10_000;
    this.#mostBytes = options.bytes ?? 16 * 1024 * 1024;
    this.#batch = options.batch ?? 500;
    this.#everyMs = options.everyMs ?? 1_000;
    this.#unwatch = core.telemetry.watch("log.buffered", () => [{ value: this.size, labels: {} }]);
  }

  /** Records that the server has not taken yet. */
  get size(): number {
    return this.#buffer.length + (this.#sending?.records.length ?? 0);
  }

  /**
   * Takes a record: bytes or a string as they are, anything else as JSON. It waits for nothing. If the buffer is full, its
   * oldest records are dropped, and counted; after the end so is every record.
   */
  push(record: unknown): void {
    if (this.#closed || this.core.closed) return this.#drop(1, "closed");
    const encoded = encodedOf(record);
    this.#buffer.push(encoded);
    this.#bytes += encoded.length;
    let over = 0;
    for (let bytes = this.#bytes; over < this.#buffer.length; over++) {
      if (this.#buffer.length - over <= this.#most && bytes <= this.#mostBytes) break;
      bytes -= this.#buffer[over]?.length ?? 0;
    }
    if (over > 0) {
      for (const old of this.#buffer.splice(0, over)) this.#bytes -= old.length;
      this.#drop(over, "buffer_full");
    }
    if (!this.#running) {
      this.#running = true;
      this.core.tasks.start(async () => await this.#run());
    }
    if (this.#buffer.length >= this.#batch || this.#bytes >= BATCH_BYTES) this.#wake.set();
  }

  /** Pushes all there is. Whether the server has taken it. */
  async flush(): Promise<boolean> {
    // One at a time, also if whoever asked for the one before has left: two would push the same batch.
    this.#flushing = this.#flushing.then(
      async () => await this.#flush(),
      async () => await this.#flush(),
    );
    return await this.core.tasks.track(this.#flushing);
  }

  /** Pushes what there is, once. What the server does not take is dropped, and counted. The gateway calls it at its end. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#unwatch();
    this.#wake.set();
    if (await this.flush()) return;
    const left = this.size;
    this.#buffer = [];
    this.#bytes = 0;
    this.#sending = undefined;
    if (left > 0) this.#drop(left, "closed");
  }

  #drop(count: number, reason: string): void {
    this.dropped += count;
    this.core.telemetry.count("log_dropped", { reason }, count);
  }

  /** Pushes when a batch is full, or some time after the first record, until there is none. */
  async #run(): Promise<void> {
    try {
      while (this.size > 0 && !this.#closed && !this.core.closed) {
        await this.#wake.wait(this.#everyMs, { background: true });
        this.#wake.clear();
        // The server is away, or its queue is full.
        if (!(await this.flush())) await this.core.closing.wait(this.#everyMs, { background: true });
      }
    } finally {
      this.#running = false;
    }
  }

  async #flush(): Promise<boolean> {
    for (;;) {
      this.#sending ??= this.#filled();
      if (this.#sending === undefined) return true;
      if (!(await this.#push(this.#sending))) return false;
      this.#sending = undefined;
    }
  }

  /** The oldest records, as many as a batch may have. */
  #filled(): Batch | undefined {
    let bytes = 0;
    let count = 0;
    for (const { length } of this.#buffer) {
      if (count === this.#batch || (count > 0 && bytes + length > BATCH_BYTES)) break;
      bytes += length;
      count += 1;
    }
    if (count === 0) return undefined;
    this.#bytes -= bytes;
    const records = this.#buffer.splice(0, count);
    return { records, id: crypto.randomUUID(), firstSent: null, oneByOne: false };
  }

  /** Whether it is done with: taken, or refused for good. */
  async #push(batch: Batch): Promise<boolean> {
    if (batch.oneByOne) return await this.#pushEach(batch);
    if (batch.firstSent !== null && performance.now() - batch.firstSent > REMEMBERED_MS) {
      // It may have arrived, and the server may have forgotten its id: to send it again could store it twice.
      this.#drop(batch.records.length, "unknown");
      return true;
    }
    const { json = true, reject } = this.options;
    try {
      const asked = requests.logPush(this.key, batch.records, { json, reject, id: batch.id });
      const { dropped } = await this.core.background.call(asked);
      if (dropped > 0) this.#drop(dropped, "queue_full");
      return true;
    } catch (error) {
      if (error instanceof Unavailable && error.sent) batch.firstSent ??= performance.now();
      if (notNow(error) || error instanceof QueueFull) return false;
      if (!(error instanceof GatewayError)) throw error;
      if (batch.records.length === 1) {
        this.core.logger.error(`a log record was refused: ${nameOf(error)}`);
        this.#drop(1, "refused");
        return true;
      }
    }
    // One of them cannot be stored. From now on each gets its own push, so that the others are: none of them has arrived
    // yet, and none may be pushed under the batch's id again.
    batch.oneByOne = true;
    batch.firstSent = null;
    return await this.#pushEach(batch);
  }

  async #pushEach(batch: Batch): Promise<boolean> {
    while (batch.records.length > 0) {
      const id = `${batch.id}:${String(batch.records.length)}`;
      const one: Batch = { records: batch.records.slice(0, 1), id, firstSent: batch.firstSent, oneByOne: false };
      const done = await this.#push(one);
      batch.firstSent = done ? null : one.firstSent;
      if (!done) return false;
      batch.records.shift();
    }
    return true;
  }
}

function encodedOf(record: unknown): Buffer {
  if (record instanceof Uint8Array) return Buffer.from(record);
  if (typeof record === "string") return Buffer.from(record, "utf8");
  try {
    // What JSON does not have is written as a text.
    const text = JSON.stringify(record, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
    return Buffer.from((text as string | undefined) ?? "null", "utf8");
  } catch (error) {
    return Buffer.from(JSON.stringify({ unloggable: nameOf(error) }), "utf8");
  }
}
