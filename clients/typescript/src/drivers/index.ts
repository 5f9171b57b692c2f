// Which client it is.

import type { Driver } from "./driver.js";
import { ioredisDriver, isIoredis } from "./ioredis.js";
import { isNodeRedis, nodeRedisDriver } from "./nodeRedis.js";

/** A client of ioredis: `Redis` or `Cluster`. */
export interface IoredisClient {
  readonly isCluster: boolean;
  duplicate(...args: never[]): unknown;
}

/** A client of node-redis: of `createClient` or `createCluster`. */
export interface NodeRedisClient {
  sendCommand(...args: never[]): Promise<unknown>;
  duplicate(...args: never[]): unknown;
}

/** The application's client, or a driver for another one. */
export type GatewayClient = IoredisClient | NodeRedisClient | Driver;

export function driverOf(client: GatewayClient): Driver {
  if ("nodes" in client && "connect" in client && "address" in client) return client;
  if (isIoredis(client)) return ioredisDriver(client);
  if (isNodeRedis(client)) return nodeRedisDriver(client);
  throw new TypeError("not a client of ioredis or node-redis");
}
