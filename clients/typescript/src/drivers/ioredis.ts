// Connections with the settings of a client of ioredis: Redis, also with sentinels, or Cluster.

import { bounded } from "../tasks.js";
import type { Argument } from "../wire.js";
import { replied, shown, type Address, type Connection, type Driver, type Nodes } from "./driver.js";

/** What is used of ioredis. */
interface Redis {
  readonly options: Options;
  readonly status: string;
  readonly stream?: { readonly writable: boolean };
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
  const timeouts = { connectTimeout: timeoutMs, sentinelCommandTimeout: timeoutMs };
  const redis = template.duplicate({ ...OVERRIDES, ...timeouts, ...overrides });
  let failure: unknown;
  redis.on("error", (error) => (failure = error));
  try {
    await bounded(timeoutMs, redis.connect());
  } catch (error) {
    redis.disconnect();
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
    close: () => redis.disconnect(),
  };
}

class IoredisDriver implements Driver {
  readonly nodes = null;
  readonly address: string;
  readonly name: string;

  constructor(private readonly client: Redis) {
    const { host = "127.0.0.1", port = 6379, path, name = "", sentinels } = client.options;
    const named = Array.isArray(sentinels) && sentinels.length > 0;
    this.address = named ? "" : (path ?? shown({ host, port }));
    this.name = named ? `the primary ${name}` : `the server ${this.address}`;
  }

  async connect(timeoutMs: number): Promise<Connection> {
    return await connect(this.client, timeoutMs, {});
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
      await bounded(timeoutMs, new Promise<void>((resolve) => this.client.once("+node", resolve)));
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
