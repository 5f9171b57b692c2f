// Connections with the settings of a client of node-redis, the package `redis`: of createClient or createCluster.

import { Buffer } from "node:buffer";
import { bounded } from "../tasks.js";
import type { Argument } from "../wire.js";
import { longer, replied, shown, type Address, type Connection, type Driver, type Nodes } from "./driver.js";

/** What is used of node-redis. */
interface Client {
  readonly options?: Options;
  readonly isReady: boolean;
  duplicate(overrides: object): Client;
  connect(): Promise<unknown>;
  destroy(): void;
  sendCommand(args: readonly Argument[], options: object): Promise<unknown>;
  on(event: string, listener: (error: unknown) => void): unknown;
}

interface Options {
  readonly socket?: { readonly host?: string; readonly port?: number; readonly path?: string };
}

interface Node extends Address {
  readonly client?: unknown;
}

type AddressMap = Readonly<Record<string, Address>> | ((address: string) => Address | undefined);

interface Cluster {
  readonly masters: readonly Node[];
  readonly _options?: { readonly nodeAddressMap?: AddressMap };
  nodeClient(node: Node): Promise<Client> | Client;
}

/** Whether a client is one of node-redis. */
export function isNodeRedis(client: object): boolean {
  return "sendCommand" in client && "duplicate" in client;
}

export function nodeRedisDriver(client: object): Driver {
  if ("getSentinelNode" in client) {
    throw new TypeError("a client of createSentinel does not tell its settings: use ioredis for Sentinel");
  }
  return "masters" in client ? new NodeRedisCluster(client as Cluster) : new NodeRedisDriver(client as Client);
}

// Strings as bytes, and maps as names and values in turn.
const READ = { typeMapping: { 36: Buffer, 37: Array }, timeout: undefined };

async function connect(template: Client, timeoutMs: number, socket: object): Promise<Connection> {
  // A connection is made once, sends nothing by itself, and neither waits nor repeats: that is the gateway's to decide.
  const client = template.duplicate({
    socket: {
      ...template.options?.socket,
      ...socket,
      connectTimeout: longer(timeoutMs),
      socketTimeout: undefined,
      reconnectStrategy: false,
    },
    disableOfflineQueue: true,
    commandOptions: { timeout: undefined },
    commandsQueueMaxLength: undefined,
    clientSideCache: undefined,
    maintNotifications: "disabled",
    pingInterval: undefined,
    keyPrefix: undefined,
    readonly: false,
  });
  let failure: unknown;
  client.on("error", (error) => (failure = error));
  try {
    await bounded(timeoutMs, client.connect());
  } catch (error) {
    destroy(client);
    throw replied(error) ?? replied(failure) ?? error;
  }
  return {
    async send(args): Promise<unknown> {
      try {
        return await client.sendCommand(args, READ);
      } catch (error) {
        throw replied(error) ?? error;
      }
    },
    get closed() {
      return !client.isReady;
    },
    close: () => destroy(client),
  };
}

function destroy(client: Client): void {
  try {
    client.destroy();
  } catch {
    // It is closed already.
  }
}

class NodeRedisDriver implements Driver {
  readonly nodes = null;
  readonly address: string;
  readonly name: string;

  constructor(private readonly client: Client) {
    const { host = "localhost", port = 6379, path } = client.options?.socket ?? {};
    this.address = path ?? shown({ host, port });
    this.name = `the server ${this.address}`;
  }

  async connect(timeoutMs: number): Promise<Connection> {
    return await connect(this.client, timeoutMs, {});
  }
}

class NodeRedisCluster implements Driver, Nodes {
  readonly address = "";
  readonly name = "the cluster";
  readonly nodes = this;
  #template: Client | undefined;

  constructor(private readonly cluster: Cluster) {}

  async seeds(timeoutMs: number): Promise<readonly Address[]> {
    const [first] = this.cluster.masters;
    if (first === undefined) throw new Error("the cluster client is not connected");
    this.#template ??= await bounded(timeoutMs, Promise.resolve(this.cluster.nodeClient(first)));
    return this.cluster.masters.map(({ host, port }) => ({ host, port }));
  }

  remap(address: Address): Address {
    const map = this.cluster._options?.nodeAddressMap;
    const mapped = typeof map === "function" ? map(shown(address)) : map?.[shown(address)];
    return mapped ?? address;
  }

  async connect(timeoutMs: number, address?: Address): Promise<Connection> {
    if (this.#template === undefined) throw new Error("no node of the cluster is known");
    return await connect(this.#template, timeoutMs, { ...address, path: undefined });
  }
}
