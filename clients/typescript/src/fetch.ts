// Admits requests of fetch-style handlers, such as those of Hono, and settles them when their responses end.

import type { Amounts } from "./amounts.js";
import type { Admission } from "./admission.js";
import type { Gateway } from "./gateway.js";

export interface AdmissionOptions<C> {
  /** Finds a request's accounts; null lets a request pass that has none. */
  readonly accounts: (context: C) => readonly string[] | string | null;
  /** What requests will probably use. Default: nothing but the request itself. */
  readonly estimates?: Amounts | ((context: C) => Amounts) | undefined;
  /** Deny if one of the accounts does not exist. Default: false. */
  readonly require?: boolean | undefined;
  /** The usual names of meters that are called otherwise here, such as `{ tpm: "tokens" }`. */
  readonly meters?: Readonly<Record<string, string>> | undefined;
}

/** A handler that is told its admission; null if the request has no accounts. */
export type AdmittedHandler = (request: Request, admission: Admission | null) => Promise<Response> | Response;

/**
 * A handler that asks for each request first.
 *
 * A denied request is answered here, with status 429, 403 or 503 and the headers that say when to come back. Others get
 * the headers, too. They are settled when the body of the response has ended, also if it fails or its client leaves; the
 * handler calls `admission.use`, or the meters keep their estimates.
 */
export function admitted(
  gateway: Gateway,
  options: AdmissionOptions<Request>,
  handler: AdmittedHandler,
): (request: Request) => Promise<Response> {
  return async (request) => {
    const admission = await admissionOf(gateway, options, request, request.signal);
    if (admission === null) return await handler(request, null);
    return await answered(admission, options, async () => await handler(request, admission));
  };
}

/** The part of Hono's context that is used. */
export interface HonoContext {
  readonly req: { readonly raw: Request };
  res: Response;
  set(name: string, value: unknown): void;
}

/** The same as middleware of Hono. Handlers find the admission as `c.get("admission")`. */
export function honoAdmission<C extends HonoContext>(
  gateway: Gateway,
  options: AdmissionOptions<C>,
): (context: C, next: () => Promise<void>) => Promise<Response | undefined> {
  return async (context, next) => {
    const admission = await admissionOf(gateway, options, context, context.req.raw.signal);
    if (admission === null) {
      await next();
      return undefined;
    }
    if (!admission.ok) return refusal(admission, admission.headers({ meters: options.meters }));
    context.set("admission", admission);
    const response = await answered(admission, options, async () => {
      await next();
      return context.res;
    });
    // Headers that are set twice would be told twice.
    context.res = undefined as never;
    context.res = response;
    return undefined;
  };
}

async function admissionOf<C>(
  gateway: Gateway,
  options: AdmissionOptions<C>,
  context: C,
  signal: AbortSignal,
): Promise<Admission | null> {
  const accounts = options.accounts(context);
  if (accounts === null || accounts.length === 0) return null;
  const { estimates = {}, require } = options;
  const told = typeof estimates === "function" ? estimates(context) : estimates;
  return await gateway.admit(accounts, told, { require, signal });
}

async function answered<C>(
  admission: Admission,
  { meters }: AdmissionOptions<C>,
  handle: () => Promise<Response>,
): Promise<Response> {
  const headers = admission.headers({ meters });
  if (!admission.ok) return refusal(admission, headers);
  let response: Response;
  try {
    response = await handle();
  } catch (error) {
    await admission.settle();
    throw error;
  }
  const all = new Headers(response.headers);
  for (const [name, value] of Object.entries(headers)) all.set(name, value);
  const { status, statusText, body } = response;
  if (body === null) {
    await admission.settle();
    return new Response(null, { status, statusText, headers: all });
  }
  return new Response(admission.readable<Uint8Array>(body), { status, statusText, headers: all });
}

function refusal(admission: Admission, headers: Readonly<Record<string, string>>): Response {
  const { reason: type, retryAfterMs: retry_after_ms, status } = admission;
  return Response.json({ error: { type, retry_after_ms } }, { status, headers });
}
