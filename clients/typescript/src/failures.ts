// Why a call had no reply that can be used.

import { GatewayError, InternalError, ModuleMissing, NoPermission, NotAuthenticated } from "./errors.js";

/** The server is away: no reply in time, no connection, or a reply that says that it cannot serve now. */
export class Unavailable extends Error {
  override readonly name: string = "Unavailable";
  /** Such as `timeout`, `connection`, `circuit_open`, `loading`, `oom`. */
  readonly reason: string;
  /** Whether the server may have done what it was asked to. */
  readonly sent: boolean;
  /** Whether it is the server as a whole. Else only this call was refused: `oom`, `tryagain`. */
  readonly down: boolean;

  constructor(reason: string, about: { readonly sent: boolean; readonly down?: boolean; readonly cause?: unknown }) {
    super(reason, { cause: about.cause });
    this.reason = reason;
    this.sent = about.sent;
    this.down = about.down ?? true;
  }
}

// Replies that say that the server cannot serve now. None of them has changed anything. The value: is the server as a
// whole away?
const AWAY: ReadonlyMap<string, boolean> = new Map([
  ["LOADING", true],
  ["READONLY", true],
  ["MASTERDOWN", true],
  ["CLUSTERDOWN", true],
  ["NOREPLICAS", true],
  ["MISCONF", true],
  ["BUSY", true],
  ["UNBLOCKED", false],
  ["TRYAGAIN", false],
  ["OOM", false],
  ["MOVED", false],
  ["ASK", false],
]);

// Replies of a node that is not, or is no longer, the primary: a new connection may lead to another node.
const DEMOTED: ReadonlySet<string> = new Set(["READONLY", "MASTERDOWN", "UNBLOCKED"]);

// Replies that are about how the server or its users are set up, or about a bug, not about what was sent: the same call
// may succeed once that is mended.
const NOT_NOW = [NotAuthenticated, NoPermission, ModuleMissing, InternalError] as const;

/** Whether the node says that it is not the primary. */
export function demoted(reply: unknown): boolean {
  return reply instanceof GatewayError && DEMOTED.has(reply.code);
}

/** Whether what must arrive is to be sent again later: the server is away, or refuses whatever comes. */
export function notNow(reply: unknown): boolean {
  return reply instanceof Unavailable || NOT_NOW.some((type) => reply instanceof type);
}

/** What an error reply says about the server; the error itself if it is about the call. */
export function meaning(error: GatewayError): Unavailable | GatewayError {
  // It has no code of its own. The server closes the connection after it.
  if (error.message.startsWith("ERR max number of clients"))
    return new Unavailable("maxclients", { sent: false, cause: error });
  const down = AWAY.get(error.code);
  return down === undefined ? error : new Unavailable(error.code.toLowerCase(), { sent: false, down, cause: error });
}
