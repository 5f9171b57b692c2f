// One server: a few connections that calls share, and some on which one call at a time waits inside the server.

import { Circuit } from "./circuit.js";
import type { Address, Connection, Driver } from "./drivers/driver.js";
import { GatewayError } from "./errors.js";
import { demoted, meaning, Unavailable } from "./failures.js";
import type { Settings } from "./settings.js";
import { bounded, Places, TimedOut, type Logger } from "./tasks.js";
import type { Argument } from "./wire.js";

export type Command = readonly Argument[];

// With so many calls under way on each of its connections, another one is made.
const BUSY = 16;

/** A connection that calls share. */
interface Line {
  readonly connection: Connection;
  pending: number;
  repliedAt: number;
  /** It has gone silent, or leads to a node that was demoted: it gets no new calls, and is closed after the last reply. */
  retired: boolean;
}

export class Server {
  readonly circuit: Circuit;
  /** When something was asked for the last time, by `performance.now()`. */
  usedAt = performance.now();
  #lines: Line[] = [];
  #opening: Promise<Line> | undefined;
  #idle: Connection[] = [];
  readonly #waiting = new Set<Connection>();
  readonly #places: Places;
  #closed = false;
  /** The one call that finds out whether the server is back. */
  #trial: Promise<unknown[]> | undefined;

  constructor(
    private readonly driver: Driver,
    readonly address: string,
    private readonly settings: Settings,
    logger: Logger,
    private readonly node?: Address,
  ) {
    const name = node === undefined ? driver.name : `the node ${address}`;
    this.circuit = new Circuit(name, settings.failures, settings.pauseMs, logger);
    this.#places = new Places(settings.waitingConnections);
  }

  /** The replies, of which each may be a GatewayError. Rejects with Unavailable if there are none. */
  async ask(commands: readonly Command[], options: { readonly waiting?: boolean } = {}): Promise<unknown[]> {
    if (this.#closed) throw new Unavailable("connection", { sent: false, down: false });
    if (!this.circuit.isOpen) return await this.#ask(commands, options);
    if (this.circuit.mayAsk()) return await this.#try(commands, options);
    if (await this.#back()) return await this.#ask(commands, options);
    throw new Unavailable("circuit_open", { sent: false });
  }

  async #try(commands: readonly Command[], options: { readonly waiting?: boolean }): Promise<unknown[]> {
    const trial = (this.#trial = this.#ask(commands, options));
    try {
      return await trial;
    } finally {
      if (this.#trial === trial) this.#trial = undefined;
    }
  }

  /**
   * Whether the call that tries just now, if there is one, has an answer soon. Whoever is let through without the server
   * meanwhile, or refused, would be so for nothing: the server may be back.
   */
  async #back(): Promise<boolean> {
    if (this.#trial === undefined) return false;
    await bounded(this.settings.timeoutMs, this.#trial).catch(() => undefined);
    return !this.circuit.isOpen;
  }

  async #ask(commands: readonly Command[], options: { readonly waiting?: boolean }): Promise<unknown[]> {
    this.usedAt = performance.now();
    let replies: unknown[];
    try {
      replies = options.waiting === true ? await this.#askWaiting(commands) : await this.#askShared(commands);
    } catch (error) {
      if (error instanceof Unavailable && error.down) this.circuit.failed(error.reason);
      throw error;
    }
    // One reply speaks for the server: they came together.
    const last = replies.at(-1);
    const refused = last instanceof GatewayError ? meaning(last) : undefined;
    if (refused instanceof Unavailable && refused.down) this.circuit.failed(refused.reason);
    else this.circuit.succeeded();
    if (replies.some(demoted)) this.#leave();
    return replies;
  }

  close(): void {
    this.#closed = true;
    this.#leave();
    for (const line of this.#lines) line.connection.close();
    for (const connection of this.#waiting) connection.close();
    this.#lines = [];
  }

  // Calls that are answered at once.

  async #askShared(commands: readonly Command[]): Promise<unknown[]> {
    const line = await this.#line();
    const sentAt = performance.now();
    line.pending += 1;
    try {
      return await exchange(line.connection, commands, this.settings.timeoutMs);
    } catch (error) {
      // It is lost; or nothing at all has come since, so that it, or the whole server, has gone silent.
      const lost = error instanceof Unavailable && error.reason === "connection";
      if (lost || line.repliedAt < sentAt) this.#retire(line);
      throw error;
    } finally {
      line.pending -= 1;
      this.#closeRetired(line);
    }
  }

  async #line(): Promise<Line> {
    this.#lines = this.#lines.filter((line) => !line.connection.closed);
    const usable = this.#lines.filter((line) => !line.retired);
    const [first, ...others] = usable;
    if (first === undefined) return await this.#open();
    const quietest = others.reduce((one, other) => (other.pending < one.pending ? other : one), first);
    if (quietest.pending >= BUSY && usable.length < this.settings.connections && this.#opening === undefined) {
      // Nobody waits for it: calls go on where they can.
      this.#open().catch(() => undefined);
    }
    return quietest;
  }

  async #open(): Promise<Line> {
    this.#opening ??= this.#connected()
      .then((connection) => {
        const line: Line = { connection: counted(connection, () => (line.repliedAt = performance.now())), ...FRESH };
        if (this.#closed) connection.close();
        this.#lines.push(line);
        return line;
      })
      .finally(() => (this.#opening = undefined));
    return await this.#opening;
  }

  async #connected(): Promise<Connection> {
    try {
      return await this.driver.connect(this.settings.connectTimeoutMs + this.settings.timeoutMs, this.node);
    } catch (error) {
      // Why the server refuses the connection itself.
      if (error instanceof GatewayError) throw meaning(error);
      throw new Unavailable(error instanceof TimedOut ? "timeout" : "connection", { sent: false, cause: error });
    }
  }

  #retire(line: Line): void {
    line.retired = true;
  }

  #closeRetired(line: Line): void {
    if (line.retired && line.pending === 0) line.connection.close();
  }

  /** The address may lead to another node by now, behind a proxy or a name: only new connections get there. */
  #leave(): void {
    for (const line of this.#lines) {
      this.#retire(line);
      this.#closeRetired(line);
    }
    for (const connection of this.#idle) connection.close();
    this.#idle = [];
  }

  // Calls that wait inside the server.

  async #askWaiting(commands: readonly Command[]): Promise<unknown[]> {
    if (!(await this.#places.take(this.settings.timeoutMs))) {
      throw new Unavailable("connections", { sent: false, down: false });
    }
    let connection: Connection | undefined;
    try {
      connection = this.#idle.filter((one) => !one.closed).pop() ?? (await this.#connected());
      this.#idle = this.#idle.filter((one) => one !== connection && !one.closed);
      this.#waiting.add(connection);
      const replies = await exchange(connection, commands, this.settings.waitingTimeoutMs);
      if (this.#closed) connection.close();
      else this.#idle.push(connection);
      return replies;
    } catch (error) {
      connection?.close();
      throw error;
    } finally {
      if (connection !== undefined) this.#waiting.delete(connection);
      this.#places.free();
    }
  }
}

const FRESH = { pending: 0, repliedAt: 0, retired: false };

function counted(connection: Connection, replied: () => void): Connection {
  return {
    async send(args) {
      try {
        const reply = await connection.send(args);
        replied();
        return reply;
      } catch (error) {
        if (error instanceof GatewayError) replied();
        throw error;
      }
    },
    get closed() {
      return connection.closed;
    },
    close: () => connection.close(),
  };
}

async function exchange(connection: Connection, commands: readonly Command[], limitMs: number): Promise<unknown[]> {
  if (connection.closed) throw new Unavailable("connection", { sent: false });
  try {
    return await bounded(limitMs, Promise.all(commands.map(async (args) => await replyOrError(connection, args))));
  } catch (error) {
    throw new Unavailable(error instanceof TimedOut ? "timeout" : "connection", { sent: true, cause: error });
  }
}

async function replyOrError(connection: Connection, args: Command): Promise<unknown> {
  try {
    return await connection.send(args);
  } catch (error) {
    if (error instanceof GatewayError) return error;
    throw error;
  }
}
