// Admits the calls of models of the Vercel AI SDK, and settles them with the tokens that they have used.

import type {
  LanguageModelV4CallOptions,
  LanguageModelV4Middleware,
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
} from "@ai-sdk/provider";
import type { Amounts, Used } from "./amounts.js";
import type { Admission } from "./admission.js";
import type { Gateway } from "./gateway.js";

export interface AdmissionMiddlewareOptions {
  /** The accounts of a call, such as by its `providerOptions` or headers; null lets a call pass that has none. */
  readonly accounts: (call: LanguageModelV4CallOptions) => readonly string[] | string | null;
  /** What calls will probably use. Default: nothing but the request itself. */
  readonly estimates?: Amounts | ((call: LanguageModelV4CallOptions) => Amounts) | undefined;
  /** What a call has used, by meter. Default: `tokens`, `input_tokens` and `output_tokens`. For money, add `usd`. */
  readonly used?: ((usage: LanguageModelV4Usage, modelId: string) => Used) | undefined;
  /** Deny if one of the accounts does not exist. Default: false. */
  readonly require?: boolean | undefined;
}

/**
 * Middleware for `wrapLanguageModel`. A call that is refused throws Denied, with `retryAfterMs` and `headers`. Others are
 * settled when they end, also if they fail, and if the reader of a stream leaves.
 */
export function admissionMiddleware(gateway: Gateway, options: AdmissionMiddlewareOptions): LanguageModelV4Middleware {
  const { used = tokensOf } = options;
  const admissionOf = async (call: LanguageModelV4CallOptions, modelId: string): Promise<Admission | null> => {
    const accounts = options.accounts(call);
    if (accounts === null || accounts.length === 0) return null;
    const { estimates = {}, require } = options;
    const told = typeof estimates === "function" ? estimates(call) : estimates;
    const attributes = { "gen_ai.request.model": modelId };
    const admission = await gateway.admit(accounts, told, { require, attributes, signal: call.abortSignal });
    admission.throwIfDenied();
    return admission;
  };
  return {
    specificationVersion: "v4",
    async wrapGenerate({ doGenerate, params, model }) {
      const admission = await admissionOf(params, model.modelId);
      if (admission === null) return await doGenerate();
      let result: Awaited<ReturnType<typeof doGenerate>>;
      try {
        result = await doGenerate();
      } catch (error) {
        // It has not answered: whatever it has cost, it has told nothing of it.
        admission.unused();
        await admission.settle();
        throw error;
      }
      try {
        admission.use(used(result.usage, model.modelId));
      } finally {
        await admission.settle();
      }
      return result;
    },
    async wrapStream({ doStream, params, model }) {
      const admission = await admissionOf(params, model.modelId);
      if (admission === null) return await doStream();
      try {
        const result = await doStream();
        const usage = (part: LanguageModelV4StreamPart): Used | null =>
          part.type === "finish" ? used(part.usage, model.modelId) : null;
        return { ...result, stream: admission.readable(result.stream, usage) };
      } catch (error) {
        admission.unused();
        await admission.settle();
        throw error;
      }
    },
  };
}

/** A provider that tells no number tells nothing. */
function counted(tokens: number | undefined): number | undefined {
  return tokens !== undefined && tokens >= 0 && Number.isFinite(tokens) ? tokens : undefined;
}

function tokensOf({ inputTokens, outputTokens }: LanguageModelV4Usage): Used {
  const input = counted(inputTokens.total);
  const output = counted(outputTokens.total);
  const tokens = input === undefined && output === undefined ? undefined : (input ?? 0) + (output ?? 0);
  return { tokens, input_tokens: input, output_tokens: output };
}
