// Serves HTTP with the adapter: one request that is answered whole, one whose client leaves.
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { Redis } from "ioredis";
import { Gateway as Connected } from "redis-gateway";

async function* model(request: ChatRequest, signal: AbortSignal): AsyncGenerator<Piece> {
  for (let step = 1; step < 4; step++) {
    if (step === 3 && request.prompt === "left") {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    }
    yield { text: `piece${step} `, ...(step === 3 ? { usage: { tokens: 300, usd: "0.03" } } : {}) };
  }
}

const redis = new Redis({ port: Number(process.argv[2]), lazyConnect: true });
const service = new Service(new Connected(redis, { timeoutMs: 60_000 }), model);
const done: Promise<void>[] = [];
const server = createServer((incoming, response) => {
  const prompt = (incoming.url ?? "").slice(1);
  done.push(respond(service, { team: "ml", key: "7", user: "42", tokens: 1000, usd: "0.1", prompt }, response));
});
await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));

function fetchText(name: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", path: `/${name}` }, (response) => {
      let text = "";
      response.on("data", (piece) => {
        text += piece;
        if (name === "left" && text.endsWith("piece2 ")) {
          request.destroy();
          resolve(text);
        }
      });
      response.on("end", () => resolve(text));
    });
    request.on("error", reject);
  });
}

const answers = [await fetchText("whole"), await fetchText("left")];
await Promise.all(done);
console.log(JSON.stringify(answers));
server.close();
await service.gateway.close();
redis.disconnect();
