// Sends commands to the server, or to the node of a cluster that has their keys, within the time-outs.

import calculateSlot from "cluster-key-slot";
import { Circuit } from "./circuit.js";
import { COMMANDS } from "./commands/table.js";
import { shown, type Address, type Driver } from "./drivers/driver.js";
import { GatewayError, Redirected, TryAgain } from "./errors.js";
import { meaning, notNow, Unavailable } from "./failures.js";
import { Server } from "./server.js";
import type { Settings } from "./settings.js";
import { bounded, sleep, TimedOut, type Logger, type Tasks } from "./tasks.js";
import type { Telemetry } from "./telemetry.js";
import { integer, items, text, textArgument, UnexpectedReply, type Argument, type Request, type Text } from "./wire.js";

const REDIRECTIONS = 5;
// How long a cluster's map may be wrong for: it is asked for anew after a redirection or a failure, but not more often.
const REFRESH_MS = 500;
// For how long nothing is asked of a node that has left before its connections are closed.
const LEFT_MS = 60_000;
const SLOTS = 16_384;

/** What came of each call of one exchange with a server. */
interface Asked {
  readonly replies: unknown[];
  /** Whether an earlier try, which had no reply, may have arrived. */
  readonly sent: boolean;
}

interface How {
  readonly waiting?: boolean;
  readonly asking?: boolean;
}

export class Transport {
  readonly #alone: Server | undefined;
  // Of a cluster: its nodes by address, and each slot's node.
  readonly #servers = new Map<string, Server>();
  #slots = new Map<number, Address>();
  #seeds: readonly Address[] = [];
  #askedAt = -Infinity;
  #refreshing: Promise<boolean> | undefined;
  #pruneAt = Infinity;
  // Opens if no node tells which node has which slots while that is not known.
  readonly #map: Circuit;

  constructor(
    private readonly driver: Driver,
    private readonly settings: Settings,
    private readonly tasks: Tasks,
    private readonly telemetry: Telemetry,
    private readonly logger: Logger,
    private readonly leftMs = LEFT_MS,
  ) {
    this.#map = new Circuit(driver.name, settings.failures, settings.pauseMs, logger);
    if (driver.nodes === null) this.#alone = new Server(driver, driver.address, settings, logger);
  }

  servers(): readonly Server[] {
    return this.#alone === undefined ? [...this.#servers.values()] : [this.#alone];
  }

  /** Keys with the same place can be named in one call. */
  placeOf(key: Text): number {
    return this.driver.nodes === null ? 0 : calculateSlot(textArgument(key));
  }

  /** Whether all of them are sent to the same node, as far as is known. */
  haveOneNode(requests: readonly Request<unknown>[]): boolean {
    return new Set(requests.map(({ args }) => this.nodeOf(args))).size === 1;
  }

  /** What tells the node that such a call is sent to from the others; empty without a cluster, or if they are not known. */
  nodeOf(args: readonly Argument[]): string {
    return this.#alone !== undefined || this.#slots.size === 0 ? "" : shown(this.#addressOf(args));
  }

  /** The reply. Rejects with Unavailable, or with the error that the server replied. */
  async call<T>(request: Request<T>): Promise<T> {
    return read(request, (await this.many([request]))[0]);
  }

  /** The replies as they came, of which each may be an error; in one round trip to each node. */
  async many(requests: readonly Request<unknown>[]): Promise<unknown[]> {
    if (this.#alone !== undefined) return (await this.#ask(this.#alone, requests)).replies;
    await this.#knowNodes();
    const groups = new Map<string, { address: Address; places: number[] }>();
    for (const [place, request] of requests.entries()) {
      const address = this.#addressOf(request.args);
      const group = groups.get(shown(address)) ?? { address, places: [] };
      group.places.push(place);
      groups.set(shown(address), group);
    }
    const found: unknown[] = requests.map(() => undefined);
    await Promise.all(
      Array.from(groups.values(), async ({ address, places }) => {
        const group = places.flatMap((place) => requests[place] ?? []);
        const { replies, sent } = await this.#ask(this.#server(address), group);
        await Promise.all(
          group.map(async (request, at) => {
            found[places[at] ?? 0] = await this.#followed(request, replies[at], sent, {});
          }),
        );
      }),
    );
    return found;
  }

  /** The reply of a call that waits inside the server, for less than `Settings.waitingTimeoutMs`. */
  async wait<T>(request: Request<T>): Promise<T> {
    const how = { waiting: true };
    if (this.#alone !== undefined) return read(request, (await this.#ask(this.#alone, [request], how)).replies[0]);
    await this.#knowNodes();
    const { replies, sent } = await this.#ask(this.#server(this.#addressOf(request.args)), [request], how);
    return read(request, await this.#followed(request, replies[0], sent, how));
  }

  /**
   * The replies of all primaries, for commands that name no key. All are asked before the error of one is thrown.
   * `waiting`: within `Settings.waitingTimeoutMs`.
   */
  async everywhere<T>(request: Request<T>, how: Pick<How, "waiting"> = {}): Promise<T[]> {
    const servers = await this.#primaries();
    const asked = await Promise.all(servers.map(async (server) => await this.#ask(server, [request], how)));
    return asked.map(({ replies }) => read(request, replies[0]));
  }

  /** Those of now. Without a key nothing is redirected, so no reply tells that there are others by now. */
  async #primaries(): Promise<Server[]> {
    if (this.#alone !== undefined) return [this.#alone];
    await this.#knowNodes();
    if (this.#refreshing !== undefined || performance.now() - this.#askedAt > REFRESH_MS) {
      const { connectTimeoutMs, timeoutMs } = this.settings;
      await bounded(connectTimeoutMs + timeoutMs, this.tasks.track(this.#refresh())).catch(() => undefined);
    }
    // A node that refuses to tell which node has which slots also says why.
    const known = this.#slots.size > 0 ? this.#slots.values() : this.#seeds.slice(0, 1);
    return Array.from(named([...known]).values(), (address) => this.#server(address));
  }

  close(): void {
    for (const server of this.servers()) server.close();
  }

  async #ask(server: Server, requests: readonly Request<unknown>[], how: How = {}): Promise<Asked> {
    const commands: (readonly Argument[])[] = requests.map(({ args }) => args);
    if (how.asking === true) commands.unshift(["ASKING"]);
    const operation = requests.length === 1 ? String(requests[0]?.args[0]) : "PIPELINE";
    const until = performance.now() + this.settings.timeoutMs;
    const failed = (error: Error, sent: boolean): Asked => ({ replies: requests.map(() => after(error, sent)), sent });
    let sent = false;
    for (let tries = requests.every(({ repeatable }) => repeatable) ? 2 : 1; ;) {
      tries -= 1;
      try {
        const replies = await this.telemetry.call(
          operation,
          server.address,
          async () => await server.ask(commands, how),
        );
        if (how.asking === true) replies.shift();
        return {
          replies: replies.map((reply) => (reply instanceof Error ? after(this.#told(reply), sent) : reply)),
          sent,
        };
      } catch (error) {
        // The server refuses the connection itself, such as for a wrong password.
        if (error instanceof GatewayError) return failed(this.#told(error), sent);
        if (!(error instanceof Unavailable)) throw error;
        sent ||= error.sent;
        // A connection that the server had closed: a new one may well do, if there is time for it.
        if (tries === 0 || error.reason !== "connection" || performance.now() >= until) {
          this.#refreshLater();
          return failed(error, sent);
        }
      }
    }
  }

  /** Redirections are for the cluster's part of this class, the rest is away or the caller's. */
  #told(error: Error): Error {
    if (!(error instanceof GatewayError)) return error;
    if (this.driver.nodes !== null && redirects(error)) return error;
    return meaning(error);
  }

  // A cluster's nodes.

  /** The reply from where the cluster says that the key is. `sent`: whether an earlier try may have arrived. */
  async #followed(request: Request<unknown>, reply: unknown, sent: boolean, how: How): Promise<unknown> {
    const until = performance.now() + this.settings.timeoutMs;
    for (let hops = 0; redirects(reply) && hops < REDIRECTIONS; hops++) {
      if (how.waiting !== true && performance.now() >= until) break;
      const asking = reply.code === "ASK";
      let address = this.#addressOf(request.args);
      if (reply instanceof TryAgain) await sleep(5);
      else address = this.#redirected(reply, address);
      const asked = await this.#ask(this.#server(address), [request], { ...how, asking });
      sent ||= asked.sent;
      reply = asked.replies[0];
    }
    if (reply instanceof GatewayError) return after(meaning(reply), sent);
    return reply instanceof Error ? after(reply, sent) : reply;
  }

  #redirected(reply: GatewayError, asked: Address): Address {
    const [slot = "", place = ""] = reply.text.split(" ");
    const colon = place.lastIndexOf(":");
    const address = this.#remapped({ host: place.slice(0, colon), port: Number(place.slice(colon + 1)) }, asked);
    if (reply.code === "MOVED") {
      this.#slots.set(Number(slot), address);
      this.#refreshLater();
    }
    return address;
  }

  #addressOf([name, key]: readonly Argument[]): Address {
    const keyed = COMMANDS.get(String(name))?.keyed ?? true;
    const known = key !== undefined && keyed ? this.#slots.get(calculateSlot(key)) : undefined;
    const address = known ?? this.#slots.values().next().value ?? this.#seeds[0];
    if (address === undefined) throw new Unavailable("connection", { sent: false });
    return address;
  }

  #server(address: Address): Server {
    const name = shown(address);
    let server = this.#servers.get(name);
    if (server === undefined) {
      server = new Server(this.driver, name, this.settings, this.logger, address);
      this.#servers.set(name, server);
    }
    return server;
  }

  /** A node that does not know its own address sends none. */
  #remapped({ host, port }: Address, asked: Address): Address {
    const address = { host: host === "" || host === "?" ? asked.host : host, port };
    return this.driver.nodes?.remap(address) ?? address;
  }

  /** Rejects with Unavailable if no node has told in time which node has which slots. They are asked once for all calls. */
  async #knowNodes(): Promise<void> {
    if (performance.now() >= this.#pruneAt) this.#prune();
    if (this.#slots.size > 0) return;
    if (this.#refreshing === undefined ? !this.#map.mayAsk() : this.#map.isOpen) {
      throw new Unavailable("circuit_open", { sent: false });
    }
    const { connectTimeoutMs, timeoutMs } = this.settings;
    let answers: boolean;
    try {
      answers = await bounded(connectTimeoutMs + timeoutMs, this.tasks.track(this.#refresh()));
    } catch (error) {
      if (error instanceof TimedOut) throw new Unavailable("timeout", { sent: false });
      throw error;
    }
    if (!answers) throw new Unavailable("connection", { sent: false });
  }

  #refreshLater(): void {
    if (this.driver.nodes === null || performance.now() - this.#askedAt <= REFRESH_MS) return;
    this.tasks.start(async () => await this.#refresh());
  }

  /** Whether any node answers. */
  async #refresh(): Promise<boolean> {
    this.#refreshing ??= this.#refreshed().finally(() => (this.#refreshing = undefined));
    return await this.#refreshing;
  }

  async #refreshed(): Promise<boolean> {
    this.#askedAt = performance.now();
    const answers = await this.#askForSlots();
    if (answers) this.#map.succeeded();
    else if (this.#slots.size === 0) this.#map.failed("connection");
    if (this.#left().length > 0) this.#pruneAt = Math.min(this.#pruneAt, performance.now() + this.leftMs);
    return answers;
  }

  /** Asks one node after another which node has which slots, until one tells. Whether any of them answers. */
  async #askForSlots(): Promise<boolean> {
    if (this.#seeds.length === 0) await this.#askForSeeds();
    const known = named([...this.#slots.values(), ...this.#seeds]);
    const refusing: Address[] = [];
    for (const address of [...known.values()].sort(() => Math.random() - 0.5)) {
      try {
        const [reply] = await this.#server(address).ask([["CLUSTER", "SLOTS"]]);
        if (reply instanceof GatewayError) throw meaning(reply);
        const slots = this.#slotsOf(reply, address);
        if (slots.size === 0) continue;
        this.#slots = slots;
        return true;
      } catch (error) {
        if (error instanceof GatewayError) refusing.push(address);
        else if (!(error instanceof Unavailable || error instanceof UnexpectedReply)) throw error;
      }
    }
    // A node that answers, but does not tell, is asked first: it says what is wrong, or where a key is. If none answers, the
    // client of the application may know others by now.
    this.#seeds = refusing.length > 0 ? [...named([...refusing, ...this.#seeds]).values()] : [];
    return refusing.length > 0;
  }

  async #askForSeeds(): Promise<void> {
    try {
      this.#seeds = (await this.driver.nodes?.seeds(this.settings.connectTimeoutMs)) ?? [];
    } catch {
      // The client of the application is not connected.
    }
  }

  /** The primaries by slot, as CLUSTER SLOTS tells them: for each range its first slot, its last one, and its nodes. */
  #slotsOf(reply: unknown, asked: Address): Map<number, Address> {
    const slots = new Map<number, Address>();
    for (const range of items(reply)) {
      const [first, last, primary] = items(range, 3);
      const [host, port] = items(primary, 2);
      const address = this.#remapped({ host: host === null ? "" : text(host), port: integer(port) }, asked);
      const end = Math.min(integer(last), SLOTS - 1);
      for (let slot = integer(first); slot <= end; slot++) slots.set(slot, address);
    }
    return slots;
  }

  /** Nodes that have no slots, or not any more. */
  #left(): string[] {
    const known = new Set(Array.from(this.#slots.values(), shown));
    return [...this.#servers.keys()].filter((name) => !known.has(name));
  }

  /** Closes the connections to nodes that have left, once nothing was asked of them for longer than any call takes. */
  #prune(): void {
    this.#pruneAt = Infinity;
    const now = performance.now();
    const longestMs = Math.max(this.leftMs, 2 * this.settings.waitingTimeoutMs);
    for (const name of this.#left()) {
      const server = this.#servers.get(name);
      if (server === undefined || now - server.usedAt <= longestMs) {
        this.#pruneAt = now + this.leftMs;
        continue;
      }
      server.close();
      this.#servers.delete(name);
    }
  }
}

function named(addresses: readonly Address[]): Map<string, Address> {
  return new Map(addresses.map((address) => [shown(address), address]));
}

function redirects(reply: unknown): reply is GatewayError {
  return reply instanceof Redirected || reply instanceof TryAgain;
}

function read<T>(request: Request<T>, reply: unknown): T {
  if (reply instanceof Error) throw reply;
  return request.decode(reply);
}

/** What an error means if an earlier try may have arrived: this try's refusal says nothing about that one. */
function after(error: Error, sent: boolean): Error {
  if (!sent || !notNow(error)) return error;
  if (error instanceof Unavailable) {
    return error.sent ? error : new Unavailable(error.reason, { sent: true, down: error.down, cause: error });
  }
  const reason = error instanceof GatewayError ? error.code.toLowerCase() : "refused";
  return new Unavailable(reason, { sent: true, down: false, cause: error });
}
