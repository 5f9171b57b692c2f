// The small interface behind which the Redis clients are.

import type { GatewayError } from "../errors.js";
import { errorOf } from "../errors.js";
import type { Argument } from "../wire.js";

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** One connection to one server. It is made once: whoever loses it makes another one. */
export interface Connection {
  /**
   * Sends a command. Calls in a row are sent in a row, and answered in that order. Rejects with a GatewayError for an
   * error reply, and with anything else if the connection is lost.
   */
  send(args: readonly Argument[]): Promise<unknown>;
  readonly closed: boolean;
  /** At once. What has no reply yet is rejected. */
  close(): void;
}

/** The nodes of a cluster, as far as the application's client knows them. */
export interface Nodes {
  /** Some of them, to ask for the others. Rejects if the client knows none. */
  seeds(timeoutMs: number): Promise<readonly Address[]>;
  /** Where a node is for this client, which may reach it at another address than the cluster says. */
  remap(address: Address): Address;
}

/** A client of the application, of which connections with its settings are made. */
export interface Driver {
  /** Such as `127.0.0.1:6379`; empty if it is not known before it is connected to. */
  readonly address: string;
  /** For logs. */
  readonly name: string;
  /** Null unless it is a cluster. */
  readonly nodes: Nodes | null;
  /** A new connection, of a cluster to the node at this address. Rejects if that takes longer. */
  connect(timeoutMs: number, address?: Address): Promise<Connection>;
}

/** For the clients, whose time-outs know nothing of a busy event loop: `bounded` is the bound, and they are longer. */
export function longer(timeoutMs: number): number {
  return Math.max(10 * timeoutMs, 5_000);
}

/** The error as a type of this package if it is an error reply, whose text begins with its code; else as it is. */
export function replied(error: unknown): GatewayError | undefined {
  if (!(error instanceof Error)) return undefined;
  return /^[A-Z][A-Z0-9]+( |$)/.test(error.message) || isReplyError(error) ? errorOf(error.message) : undefined;
}

// The types of ioredis and node-redis for error replies.
const REPLY_ERRORS: ReadonlySet<string> = new Set(["ReplyError", "ErrorReply", "SimpleError", "BlobError"]);

function isReplyError(error: Error): boolean {
  return REPLY_ERRORS.has(error.name) || REPLY_ERRORS.has(error.constructor.name);
}

export function shown(address: Address): string {
  return `${address.host}:${String(address.port)}`;
}
