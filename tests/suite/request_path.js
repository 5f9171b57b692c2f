// Drives README's request path in TypeScript, over a connection that speaks as ioredis does: prints what each request got.
const net = require("node:net");
class Raw {
  constructor(port) {
    this.waiting = [];
    this.text = "";
    this.socket = net.connect(port, "127.0.0.1");
    this.socket.on("data", (data) => {
      this.text += data.toString("latin1");
      for (let end; this.waiting.length > 0 && (end = this.parse(0)) !== undefined; ) {
        this.text = this.text.slice(end.at);
        this.waiting.shift()(end.value);
      }
    });
  }
  // The value that begins at a place and where it ends, once all of it is there.
  parse(at) {
    const end = this.text.indexOf("\r\n", at);
    if (end < 0) return undefined;
    const [kind, rest, next] = [this.text[at], this.text.slice(at + 1, end), end + 2];
    if (kind === "-") return { value: new Error(rest), at: next };
    if (kind === ":") return { value: Number(rest), at: next };
    if (kind === "+") return { value: rest, at: next };
    const length = Number(rest);
    if (kind === "$" && length < 0) return { value: null, at: next };
    if (kind === "$") {
      return this.text.length < next + length + 2
        ? undefined
        : { value: this.text.slice(next, next + length), at: next + length + 2 };
    }
    const list = { value: [], at: next };
    for (let item = 0; item < length; item++) {
      const one = this.parse(list.at);
      if (one === undefined) return undefined;
      list.value.push(one.value);
      list.at = one.at;
    }
    return list;
  }
  send(words) {
    const text = words.map((word) => `$${Buffer.byteLength(`${word}`)}\r\n${word}\r\n`).join("");
    this.socket.write(`*${words.length}\r\n${text}`);
    return new Promise((done) => this.waiting.push(done));
  }
  async call(...words) {
    const reply = await this.send(words);
    if (reply instanceof Error) throw reply;
    return reply;
  }
  pipeline() {
    const commands = [];
    const pipeline = {
      call: (...words) => (commands.push(words), pipeline),
      exec: async () => {
        const replies = await Promise.all(commands.map((words) => this.send(words)));
        return replies.map((reply) => (reply instanceof Error ? [reply, undefined] : [null, reply]));
      },
    };
    return pipeline;
  }
}

async function* model(request) {
  for (let step = 1; step < 5; step++) {
    if (request.cacheKey === "chat:fails" && step === 3) throw new RangeError("the model failed");
    yield { piece: `piece${step} `, used: { tokens: 100 * step, usd: `0.0${step}` } };
  }
}

async function run(redis, cacheKey, take) {
  const request = { team: "ml", key: "7", user: "42", tokens: 1000, usd: "0.1", cacheKey };
  const { status, headers, body } = await handle(redis, request, model);
  const pieces = [];
  try {
    for await (const piece of body) {
      pieces.push(piece);
      if (pieces.length === take) break;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    pieces.push("failed");
  }
  return [status, pieces.join(""), headers];
}

(async () => {
  const redis = new Raw(PORT);
  const runs = [];
  for (const [key, take] of [["chat:a"], ["chat:a"], ["chat:gone", 2], ["chat:fails"], ["chat:more"]]) {
    runs.push(await run(redis, key, take));
  }
  console.log(JSON.stringify(runs));
  redis.socket.end();
})();
