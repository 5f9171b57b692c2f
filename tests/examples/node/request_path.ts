// Drives the request path in TypeScript: prints what each request got, how many settlements were left over, and where answers
// are cached.
import { Redis } from "ioredis";
import { Gateway as Connected } from "redis-gateway";

const [port, closedPort] = process.argv.slice(2).map(Number) as [number, number];
const admin = new Redis({ port });

const services: Service[] = [];
const clients: Redis[] = [admin];
function serviceAt(port: number, timeoutMs = 60_000): Service {
  const client = new Redis({ port, lazyConnect: true });
  clients.push(client);
  // What is kept is sent when the driver says so.
  const settings = { timeoutMs, connectTimeoutMs: 60_000, kept: { everyMs: 3_600_000 }, logger: { warn() {}, error() {} } };
  const service = new Service(new Connected(client, settings), model);
  services.push(service);
  return service;
}

async function* model({ prompt }: ChatRequest, signal: AbortSignal): AsyncGenerator<Piece> {
  if (prompt === "refuses") throw new RangeError("the model refused");
  for (let step = 1; step < 5; step++) {
    if (step === 3 && prompt === "fails") throw new RangeError("the model failed");
    if (step === 3 && prompt === "cancelled") {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    }
    if (step === 3 && prompt === "unknown") await admin.del("{un}:key:7", "{un}:user:42", "{un}");
    if (step === 3 && prompt === "paused") await admin.call("CLIENT", "PAUSE", 600_000, "WRITE");
    const known = step === 4 || prompt === "counted";
    yield { text: `piece${step} `, ...(known ? { usage: { tokens: 100 * step, usd: `0.0${step}` } } : {}) };
  }
}

function asked(prompt: string, team = "ml"): ChatRequest {
  return { team, key: "7", user: "42", prompt, tokens: 1000, usd: "0.1" };
}

async function run(service: Service, name: string, team = "ml", take?: number) {
  const gone = new AbortController();
  let status = 0;
  let headers: Record<string, string> = {};
  const pieces: string[] = [];
  const client: Client = {
    signal: gone.signal,
    start(code, fields) {
      status = code;
      headers = Object.fromEntries(Object.entries(fields).map(([field, value]) => [field.toLowerCase(), value]));
    },
    async send(piece) {
      pieces.push(piece);
      if (pieces.length === 2 && name === "cancelled") setTimeout(() => gone.abort(new TypeError("left")), 10);
      if (pieces.length === take) throw new TypeError("the client has left");
    },
  };
  try {
    await service.handle(asked(name, team), client);
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
    pieces.push(error.name);
  }
  return [status, pieces.join(""), headers];
}

const service = serviceAt(port);
const keyed = ["whole", "wrong", "gone", "cancelled", "counted", "fails", "refuses"].map((name) => {
  return [name, service.cache.entries.key(service.question(asked(name)))] as const;
});
const keys = Object.fromEntries(keyed);
await admin.set(keys["wrong"] ?? "", "another-type");
const answers = [];
const runs: [string, number?][] = [
  ["whole"], ["whole"], ["wrong"], ["gone", 2], ["cancelled"], ["counted", 2], ["fails"], ["refuses"],
];
for (const [name, take] of runs) answers.push(await run(service, name, "ml", take));
const impatient = serviceAt(port, 3_000);
answers.push(await run(impatient, "paused"));
const unsettled = [impatient.gateway.kept];
await admin.call("CLIENT", "UNPAUSE");
while (impatient.gateway.kept > 0) await impatient.gateway.sendKept();
unsettled.push(impatient.gateway.kept);
answers.push(await run(service, "limit"));
answers.push(await run(service, "unknown", "un"));
answers.push(await run(serviceAt(closedPort), "dead"));
for (const { gateway } of services) await gateway.close();
console.log(JSON.stringify({ answers, unsettled, keys }));
for (const client of clients) client.disconnect();
