// Connections with the settings of a client of ioredis: Redis, also with sentinels, or Cluster.

import { GatewayError } from "../errors.js";
import { bounded } from "../tasks.js";
import type { Argument } from "../wire.js";
import { longer, replied, shown, type Address, type Connection, type Driver, type Nodes } from "./driver.js";

/** What is used of ioredis. */
interface Redis {
  readonly options: Options;
  readonly status: string;
  readonly stream?: { readonly writable: boolean; destroy(): void };
  duplicate(overrides: object): Redis;
  connect(): Promise<void>;
  disconnect(): void;
  callBuffer(name: string, ...args: Argument[]): Promise<unknown>;
  on(event: string, listener: (error: unknown) => void): unknown;
}

interface Options {
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
  readonly name?: string;
  readonly sentinels?: readonly unknown[] | null;
}

type NatMap = Readonly<Record<string, Address>> | ((address: string) => Address | null | undefined);

interface Cluster {
  readonly options: { readonly natMap?: NatMap };
  nodes(role: "all"): Redis[];
  once(event: string, listener: () => void): unknown;
  off(event: string, listener: () => void): unknown;
}

/** Whether a client is one of ioredis. */
export function isIoredis(client: object): boolean {
  return "isCluster" in client && "duplicate" in client;
}

export function ioredisDriver(client: object): Driver {
  const { isCluster } = client as { readonly isCluster: unknown };
  return isCluster === true ? new IoredisCluster(client as Cluster) : new IoredisDriver(client as Redis);
}

// A connection is made once, sends nothing by itself, and neither waits nor repeats: that is the gateway's to decide.
const OVERRIDES = {
  lazyConnect: true,
  retryStrategy: () => null,
  reconnectOnError: null,
  sentinelRetryStrategy: () => null,
  sentinelReconnectStrategy: () => null,
  failoverDetector: false,
  updateSentinels: false,
  maxRetriesPerRequest: null,
  enableOfflineQueue: false,
  enableReadyCheck: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  enableAutoPipelining: false,
  commandTimeout: undefined,
  blockingTimeout: undefined,
  socketTimeout: undefined,
  keyPrefix: "",
  monitor: false,
  readOnly: false,
  stringNumbers: false,
  replyMapping: "legacy",
  scripts: undefined,
};

async function connect(template: Redis, timeoutMs: number, overrides: object): Promise<Connection> {
  const timeouts = { connectTimeout: longer(timeoutMs), sentinelCommandTimeout: longer(timeoutMs) };
  const redis = template.duplicate({ ...OVERRIDES, ...timeouts, ...overrides });
  let failure: unknown;
  redis.on("error", (error) => (failure = error));
  try {
    await bounded(timeoutMs, redis.connect());
  } catch (error) {
    end(redis);
    // Why it was closed, such as a wrong password.
    throw replied(failure) ?? replied(error) ?? failure ?? error;
  }
  return {
    async send([name = "", ...args]): Promise<unknown> {
      try {
        return await redis.callBuffer(String(name), ...args);
      } catch (error) {
        throw replied(error) ?? replied(failure) ?? error;
      }
    },
    get closed() {
      // It notices some time later that the other end has closed.
      return redis.status !== "ready" || redis.stream?.writable === false;
    },
    close: () => end(redis),
  };
}

/** At once: by itself it waits until a server that may have frozen closes its side. */
function end(redis: Redis): void {
  redis.disconnect();
  redis.stream?.destroy();
}

class IoredisDriver implements Driver {
  readonly nodes = null;
  readonly address: string;
  readonly name: string;
  readonly #sentinels: readonly unknown[];
  /** The sentinel that has answered. */
  #last: unknown;

  constructor(private readonly client: Redis) {
    const { host = "127.0.0.1", port = 6379, path, name = "", sentinels } = client.options;
    this.#sentinels = sentinels ?? [];
    const named = this.#sentinels.length > 0;
    this.address = named ? "" : (path ?? shown({ host, port }));
    this.name = named ? `the primary ${name}` : `the server ${this.address}`;
  }

  /**
   * ioredis asks one sentinel after another. Here all are asked at once, so that one that does not answer holds up nobody,
   * and after that the one that has answered.
   */
  async connect(timeoutMs: number): Promise<Connection> {
    if (this.#sentinels.length < 2) return await connect(this.client, timeoutMs, {});
    const asked = this.#last === undefined ? this.#sentinels : [this.#last];
    this.#last = undefined;
    const tries = asked.map(async (sentinel) => {
      return { sentinel, connection: await connect(this.client, timeoutMs, { sentinels: [sentinel] }) };
    });
    let first: Awaited<(typeof tries)[number]>;
    try {
      first = await Promise.any(tries);
    } catch (error) {
      const errors: readonly unknown[] = error instanceof AggregateError ? error.errors : [error];
      throw errors.find((one) => one instanceof GatewayError) ?? errors[0];
    }
    this.#last = first.sentinel;
    for (const one of tries) {
      one.then(
        ({ connection }) => {
          if (connection !== first.connection) connection.close();
        },
        () => undefined,
      );
    }
    return first.connection;
  }
}

class IoredisCluster implements Driver, Nodes {
  readonly address = "";
  readonly name = "the cluster";
  readonly nodes = this;
  #template: Redis | undefined;

  constructor(private readonly client: Cluster) {}

  async seeds(timeoutMs: number): Promise<readonly Address[]> {
    // A client that is still connecting has no nodes.
    if (this.client.nodes("all").length === 0) {
      let found: () => void = () => undefined;
      try {
        const node = new Promise<void>((resolve) => (found = resolve));
        this.client.once("+node", found);
        await bounded(timeoutMs, node);
      } finally {
        this.client.off("+node", found);
      }
    }
    const known = this.client.nodes("all");
    this.#template ??= known[0];
    return known.map(({ options: { host = "127.0.0.1", port = 6379 } }) => ({ host, port }));
  }

  remap(address: Address): Address {
    const { natMap } = this.client.options;
    const mapped = typeof natMap === "function" ? natMap(shown(address)) : natMap?.[shown(address)];
    return mapped ?? address;
  }

  async connect(timeoutMs: number, address?: Address): Promise<Connection> {
    if (this.#template === undefined) throw new Error("no node of the cluster is known");
    return await connect(this.#template, timeoutMs, { ...address, path: undefined });
  }
}
