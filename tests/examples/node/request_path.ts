// Drives the request path in TypeScript: prints what each request got, and how many settlements were left over.
import { Redis as Connection } from "ioredis";

const [port, closedPort] = process.argv.slice(2).map(Number) as [number, number];

function connect(port: number, commandTimeout = 60_000): Redis {
  const redis = new Connection({ port, lazyConnect: true, commandTimeout, maxRetriesPerRequest: 0, enableOfflineQueue: false });
  redis.on("error", () => {});
  return redis;
}

const admin = connect(port);

async function* model(request: ChatRequest, signal: AbortSignal): AsyncGenerator<Piece> {
  const name = request.cacheKey;
  if (name === "chat:refuses") throw new RangeError("the model refused");
  for (let step = 1; step < 5; step++) {
    if (step === 3 && name === "chat:fails") throw new RangeError("the model failed");
    if (step === 3 && name === "chat:cancelled") {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    }
    if (step === 3 && name === "chat:unknown") await admin.del("{un}:key:7", "{un}:user:42", "{un}");
    if (step === 3 && name === "chat:paused") await admin.call("CLIENT", "PAUSE", 600_000, "WRITE");
    const known = step === 4 || name === "chat:counted";
    yield { text: `piece${step} `, ...(known ? { usage: { tokens: 100 * step, usd: `0.0${step}` } } : {}) };
  }
}

async function run(redis: Redis, name: string, team = "ml", take?: number) {
  const gone = new AbortController();
  let status = 0;
  let headers: Record<string, string> = {};
  const pieces: string[] = [];
  const client: Client = {
    signal: gone.signal,
    start: (code, fields) => void ([status, headers] = [code, fields]),
    async send(piece) {
      pieces.push(piece);
      if (pieces.length === 2 && name === "cancelled") setTimeout(() => gone.abort(new TypeError("left")), 10);
      if (pieces.length === take) throw new TypeError("the client has left");
    },
  };
  const request = { team, key: "7", user: "42", tokens: 1000, usd: "0.1", cacheKey: `chat:${name}` };
  try {
    await handle(redis, request, model, client);
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
    pieces.push(error.name);
  }
  return [status, pieces.join(""), headers];
}

const redis = connect(port);
const impatient = connect(port, 5_000);
const dead = connect(closedPort);
await Promise.all([admin.connect(), redis.connect(), impatient.connect(), dead.connect().catch(() => {})]);
const answers = [];
const runs: [string, number?][] = [
  ["whole"], ["whole"], ["wrong"], ["gone", 2], ["cancelled"], ["counted", 2], ["fails"], ["refuses"],
];
for (const [name, take] of runs) answers.push(await run(redis, name, "ml", take));
answers.push(await run(impatient, "paused"));
const left = [unsettled.length];
await admin.call("CLIENT", "UNPAUSE");
await settleAgain(redis);
left.push(unsettled.length);
answers.push(await run(redis, "limit"));
answers.push(await run(redis, "unknown", "un"));
answers.push(await run(dead, "dead"));
console.log(JSON.stringify({ answers, unsettled: left }));
for (const connection of [admin, redis, impatient, dead]) connection.disconnect();
