// Private servers for the tests, on free ports of this machine, in directories that go with them.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, createConnection, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { Gateway, type GatewayOptions } from "../src/index.js";
import { PACKAGE } from "./vectors.js";

const ROOT = path.join(PACKAGE, "..", "..");

// A test that fails leaves its servers and clients behind, and they would keep the process: it ends after its last test.
// Only where tests are run: the benchmark starts servers, too.
if (process.env["NODE_TEST_CONTEXT"] !== undefined) after(() => void setTimeout(() => process.exit(), 10_000).unref());

/** The module's library, as tests/suite finds it: what GW_MODULE names, else the release build. */
function modulePath(): string {
  const target = process.env["CARGO_TARGET_DIR"] ?? path.join(ROOT, "target");
  return process.env["GW_MODULE"] ?? path.join(target, "release", "libredis_gateway.so");
}

/** The server that GW_SERVER names, by the rules of scripts/lib.sh. */
export function binary(): string {
  const name = process.env["GW_SERVER"] ?? "system";
  if (name.includes("/")) return name;
  const installed =
    name === "system" ? (process.env["PATH"] ?? "").split(":").map((one) => path.join(one, "redis-server")) : [];
  const fetched = ["redis-server", "valkey-server"].map((program) => path.join(ROOT, ".servers", name, program));
  const found = [...installed, ...fetched].find((place) => existsSync(place));
  if (found === undefined) throw new Error(`there is no server ${name}: run scripts/servers.sh`);
  return found;
}

/** Below the ports that the kernel gives to clients. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_001 + Math.floor(Math.random() * 11_999);
    const server = createServer();
    try {
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
    } catch {
      continue;
    }
    server.close();
    await once(server, "close");
    return port;
  }
}

export async function eventually(condition: () => unknown, ms = 20_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error("it did not come true");
    await sleep(10);
  }
}

/** A process with the module. `stop` and `start` keep its port and its directory. */
export class Server {
  readonly directory = mkdtempSync(path.join(tmpdir(), "gw-clients-"));
  #process: ChildProcess | undefined;
  #admin: Redis | undefined;

  private constructor(
    readonly port: number,
    private readonly options: readonly string[],
    private readonly kind: "server" | "sentinel" | "plain",
  ) {}

  static async start(
    options: readonly string[] = [],
    kind: "server" | "sentinel" | "plain" = "server",
  ): Promise<Server> {
    for (let tries = 5; ; tries--) {
      const server = new Server(await freePort(), options, kind);
      try {
        await server.start();
        return server;
      } catch (error) {
        await server.close();
        // Somebody else was quicker to take the port.
        if (tries === 1 || !String(error).includes("Address already in use")) throw error;
      }
    }
  }

  async start(): Promise<void> {
    const common = ["--port", String(this.port), "--bind", "127.0.0.1", "--dir", this.directory, "--save", ""];
    let words = [...common, ...this.options, ...(this.kind === "server" ? ["--loadmodule", modulePath()] : [])];
    if (this.kind === "sentinel") {
      const config = path.join(this.directory, "sentinel.conf");
      writeFileSync(config, `port ${String(this.port)}\nbind 127.0.0.1\ndir ${this.directory}\n`);
      words = [config, "--sentinel"];
    }
    const log = openSync(path.join(this.directory, "log"), "a");
    this.#process = spawn(binary(), words, { stdio: ["ignore", log, log] });
    process.once("exit", this.#kill);
    await eventually(async () => {
      if (this.#process?.exitCode !== null) {
        throw new Error(
          `the server has ended:\n${readFileSync(path.join(this.directory, "log"), "utf8").slice(-2000)}`,
        );
      }
      // A server that has ended never replies.
      return (await Promise.race([this.run("PING").catch(() => ""), sleep(1_000)])) === "PONG";
    });
  }

  /** A client as an application has it, with long time-outs. The test ends it. */
  client(options: Omit<RedisOptions, "replyMapping"> = {}): Redis {
    const client = new Redis({ port: this.port, host: "127.0.0.1", ...options });
    // Lost connections are what some tests are about.
    client.on("error", () => undefined);
    return client;
  }

  /** A command of the test itself, on a connection of its own. */
  async run(command: string | readonly string[]): Promise<unknown> {
    const [name = "", ...args] = typeof command === "string" ? command.split(" ") : command;
    this.#admin ??= this.client({ retryStrategy: () => 20, maxRetriesPerRequest: null });
    return await this.#admin.call(name, ...args);
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** The process does nothing, but the kernel takes what is sent to it. */
  freeze(): void {
    this.#process?.kill("SIGSTOP");
  }

  thaw(): void {
    this.#process?.kill("SIGCONT");
  }

  async frozen<T>(work: () => Promise<T>): Promise<T> {
    this.freeze();
    try {
      return await work();
    } finally {
      this.thaw();
    }
  }

  async stop(): Promise<void> {
    const process_ = this.#process;
    this.#process = undefined;
    this.#admin?.disconnect();
    this.#admin = undefined;
    process.off("exit", this.#kill);
    // It was never started, or has ended by itself.
    if (process_?.exitCode !== null) return;
    const ended = once(process_, "exit");
    process_.kill("SIGCONT");
    process_.kill("SIGKILL");
    await ended;
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  readonly #kill = (): void => void this.#process?.kill("SIGKILL");
}

/** Primaries that share the slots. */
export async function startCluster(nodes = 3): Promise<Server[]> {
  const bus = await Promise.all(Array.from({ length: nodes }, freePort));
  const servers = await Promise.all(
    bus.map(async (port) => {
      const options = ["--cluster-enabled", "yes", "--cluster-port", String(port), "--cluster-node-timeout", "20000"];
      return await Server.start(options);
    }),
  );
  const share = Math.floor(16_384 / nodes);
  for (const [at, server] of servers.entries()) {
    const last = at === nodes - 1 ? 16_383 : (at + 1) * share - 1;
    await server.run(`CLUSTER ADDSLOTSRANGE ${String(at * share)} ${String(last)}`);
    await server.run(`CLUSTER SET-CONFIG-EPOCH ${String(at + 1)}`);
  }
  const [first] = servers;
  for (const server of servers.slice(1)) {
    await server.run(`CLUSTER MEET 127.0.0.1 ${String(first?.port)} ${String(bus[0])}`);
  }
  for (const server of servers) {
    await eventually(async () => String(await server.run("CLUSTER INFO")).includes("cluster_state:ok"));
    await eventually(async () => ((await server.run("CLUSTER SLOTS")) as unknown[]).length >= nodes);
  }
  return servers;
}

export function clusterClient(servers: readonly Server[]): Cluster {
  return new Cluster(servers.map(({ port }) => ({ host: "127.0.0.1", port })));
}

/** Passes connections on to `target`, which may change: those that are there stay. */
export class Proxy {
  readonly #server = createServer((here) => this.#pass(here));
  readonly #sockets = new Set<Socket>();

  constructor(public target: number) {}

  async start(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  #pass(here: Socket): void {
    const there = createConnection(this.target, "127.0.0.1");
    for (const [one, other] of [
      [here, there],
      [there, here],
    ] as const) {
      this.#sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
      one.pipe(other);
    }
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** What a gateway says while a test runs. */
export class Lines {
  readonly lines: string[] = [];
  warn(message: string): void {
    this.lines.push(message);
  }
  error(message: string): void {
    this.lines.push(message);
  }
}

// Tests are about what is decided, not about how fast a busy machine is.
export const PATIENT: GatewayOptions = { timeoutMs: 5_000, connectTimeoutMs: 5_000 };

/** Runs a test with a gateway for a client of `server`, and ends both. */
export async function withGateway<T>(
  server: Server,
  work: (gateway: Gateway, lines: Lines) => Promise<T>,
  options: GatewayOptions = {},
): Promise<T> {
  const client = server.client();
  const lines = new Lines();
  const gateway = new Gateway(client, { ...PATIENT, logger: lines, ...options });
  try {
    return await work(gateway, lines);
  } finally {
    await gateway.close();
    client.disconnect();
  }
}

let number = 0;

/** A name that no other test has. */
export function unique(name: string): string {
  number += 1;
  return `${name}:${String(number)}`;
}

/** An account with policies, by the document of GW.POLICYPUT. */
export async function account(gateway: Gateway, name: string, ...policies: object[]): Promise<string> {
  const key = unique(name);
  await gateway.commands.policyPut(key, JSON.stringify({ policies }));
  return key;
}

/** How often the caches of a gateway had this result, whatever their category. */
export function counted(gateway: Gateway, result: string): number {
  const found = Object.entries(gateway.figures()).filter(([name]) =>
    new RegExp(`^cache\\{.*result=${result}[,}]`).test(name),
  );
  return found.reduce((sum, [, count]) => sum + count, 0);
}
