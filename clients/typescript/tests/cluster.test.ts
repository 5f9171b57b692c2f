// The nodes of a cluster: how they are found, left, and waited for.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import calculateSlot from "cluster-key-slot";
import { Cluster } from "ioredis";
import { Gateway, requests, Telemetry, Unavailable, type Address, type Connection, type Driver } from "../src/index.js";
import { Core } from "../src/core.js";
import { Delivery } from "../src/deliveries.js";
import { driverOf } from "../src/drivers/index.js";
import { errorOf } from "../src/errors.js";
import { settingsOf } from "../src/settings.js";
import { Tasks } from "../src/tasks.js";
import { FakeRedis } from "../src/testing/index.js";
import { Transport } from "../src/transport.js";
import type { Argument } from "../src/wire.js";
import { clusterClient, eventually, Lines, PATIENT, startCluster, type Server } from "./servers.js";

let servers: Promise<Server[]> | undefined;
const cluster = async (): Promise<Server[]> => await (servers ??= startCluster(3));
after(async () => await Promise.all(((await servers) ?? []).map(async (server) => await server.close())));

test("requests whose accounts and targets are anywhere", async () => {
  const client = clusterClient(await cluster());
  const gateway = new Gateway(client, { ...PATIENT, logger: new Lines() });
  for (const refuses of [false, true]) {
    for (let at = 0; at < 6; at++) {
      const [a, t] = [`{a${String(at)}${String(refuses)}}`, `{t${String(at)}${String(refuses)}}`];
      const [accounts, targets] = [
        [`${a}:key`, a],
        [`${t}:eu`, `${t}:us`],
      ];
      for (const key of [...accounts, ...targets]) {
        const max = refuses && key === a ? 0 : 9;
        await gateway.commands.policyPut(key, JSON.stringify({ policies: [{ name: "f", kind: "inflight", max }] }));
      }
      {
        await using request = await gateway.request(accounts, targets, { usd: 1 }, { pick: "FIRST" });
        assert.equal(request.ok, !refuses);
        if (request.ok) {
          await request.run(async (attempt) => {
            await Promise.resolve();
            attempt.use({ usd: "0.5" });
          });
        }
      }
      const spent = [];
      for (const key of [...accounts, ...targets]) spent.push(await gateway.budgets.spent(key));
      assert.deepEqual(spent, refuses ? ["0", "0", "0", "0"] : ["0.5", "0.5", "0.5", "0"]);
      for (const key of targets) {
        const described = await gateway.commands.describe(key);
        assert.ok(described?.type === "account");
        assert.equal(described.inFlight, 0);
      }
    }
  }
  await gateway.close();
  client.disconnect();
});

test("what is kept for a silent node holds up nothing for the others", async () => {
  const nodes = await cluster();
  const client = clusterClient(nodes);
  const core = new Core(
    driverOf(client),
    settingsOf({ connectTimeoutMs: 5_000, kept: { everyMs: 3_600_000 } }),
    new Telemetry(),
    new Lines(),
  );
  await core.background.everywhere(requests.stats()); // It knows the nodes now.
  const silent = `127.0.0.1:${String(nodes[0]?.port)}`;
  const isSilent = ({ words }: Delivery): boolean => core.background.nodeOf(words) === silent;
  const charges = Array.from(
    { length: 600 },
    (_, at) => new Delivery(["GW.ADDCOST", `k:${String(at)}`, "1", "ID", "1"]),
  );
  // More than a batch of them comes first.
  charges.sort((one, other) => Number(isSilent(other)) - Number(isSilent(one)));
  for (const charge of charges) core.kept.add(charge);
  const count = charges.filter(isSilent).length;
  assert.ok(count > 100 && count < 300, String(count));
  const taken = await nodes[0]?.frozen(async () => await core.sendKept());
  assert.equal(taken, 600 - count);
  assert.equal(await core.sendKept(), count);
  await core.close(1_000);
  client.disconnect();
});

/** A cluster of nodes that answer nothing at first; and nobody hears of that before `heard`. */
class Nodes implements Driver {
  readonly address = "";
  readonly name = "the cluster";
  readonly nodes = this;
  readonly asked = new Map<string, number>();
  answers = false;
  readonly #fake = new FakeRedis();

  constructor(private readonly heard: Promise<void>) {}

  async seeds(): Promise<Address[]> {
    return await Promise.resolve(Array.from({ length: 20 }, (_, at) => ({ host: `n${String(at)}`, port: 1 })));
  }

  remap(address: Address): Address {
    return address;
  }

  get all(): number {
    return [...this.asked.values()].reduce((sum, one) => sum + one, 0);
  }

  async connect(_: number, address?: Address): Promise<Connection> {
    const host = address?.host ?? "";
    this.asked.set(host, (this.asked.get(host) ?? 0) + 1);
    await this.heard;
    if (!this.answers) throw new Error("silent");
    return {
      send: async (args) => {
        await Promise.resolve();
        return args[0] === "CLUSTER" ? [[0, 16_383, ["n0", 1]]] : this.#fake.execute(...args);
      },
      closed: false,
      close: () => undefined,
    };
  }
}

test("a cold start with dead nodes costs no more than another call", async () => {
  const short = { timeoutMs: 50, connectTimeoutMs: 50, pauseMs: 3_600_000, logger: new Lines() };
  let heard: () => void = () => undefined;
  const nodes = new Nodes(new Promise((resolve) => (heard = resolve)));
  const gateway = new Gateway(nodes, { ...short, failures: 2 });
  const decisions = await Promise.all(Array.from({ length: 5 }, async () => await gateway.allow("k", 9)));
  // Nobody has waited until it is known that a node does not answer. One was asked, for all.
  assert.deepEqual(
    decisions.map(({ reason }) => reason),
    Array.from({ length: 5 }, () => "timeout"),
  );
  assert.equal(nodes.all, 1);
  heard();
  await eventually(() => nodes.all === 20);
  await eventually(async () => (await gateway.allow("k", 1_000)).reason === "circuit_open");
  assert.equal(nodes.all, 40);
  await gateway.close();

  const others = new Nodes(Promise.resolve());
  const patient = new Gateway(others, { ...short, timeoutMs: 5_000, failures: 1_000 });
  assert.equal((await patient.allow("k", 1_000)).reason, "connection");
  assert.equal((await patient.health()).ok, false);
  others.answers = true;
  await eventually(async () => (await patient.allow("k", 1_000)).outcome === "admitted");
  await patient.close();
});

test("a client that has no nodes gets no listeners for each call", async () => {
  const client = new Cluster([{ host: "127.0.0.1", port: 1 }], { lazyConnect: true });
  const gateway = new Gateway(client, { connectTimeoutMs: 1, timeoutMs: 1, failures: 1_000, logger: new Lines() });
  const before = client.listenerCount("+node");
  for (let asked = 0; asked < 3; asked++) assert.equal((await gateway.allow("k", 9)).outcome, "degraded");
  await eventually(() => client.listenerCount("+node") === before);
  await gateway.close();
  client.disconnect();
});

test("a cluster whose nodes have other addresses by now is found again", async () => {
  const nodes = new Nodes(Promise.resolve());
  nodes.answers = true;
  const connect = nodes.connect.bind(nodes);
  let all = ["n0"];
  nodes.seeds = async () => await Promise.resolve(all.map((host) => ({ host, port: 1 })));
  const open: { closed: boolean }[] = [];
  nodes.connect = async (ms, address) => {
    const host = address?.host ?? "";
    if (!all.includes(host)) throw new Error("there is no such node");
    const made = await connect(ms, address);
    const connection = {
      send: async (args: readonly Argument[]): Promise<unknown> =>
        args[0] === "CLUSTER" ? [[0, 16_383, [host, 1]]] : await made.send(args),
      closed: false,
      close: () => undefined,
    };
    open.push(connection);
    return connection;
  };
  const gateway = new Gateway(nodes, { ...PATIENT, failures: 1_000, logger: new Lines() });
  assert.equal((await gateway.allow("k", 1_000)).outcome, "admitted");
  all = ["m0"];
  for (const connection of open) connection.closed = true;
  assert.equal((await gateway.allow("k", 1_000)).reason, "connection");
  await eventually(async () => (await gateway.allow("k", 1_000)).outcome === "admitted");
  await gateway.close();
});

/** Two nodes, of which one gives its slots to the other. */
class Leaving implements Driver {
  readonly address = "";
  readonly name = "the cluster";
  readonly nodes = this;
  readonly closed: string[] = [];
  left = false;

  async seeds(): Promise<Address[]> {
    return await Promise.resolve([{ host: "n0", port: 1 }]);
  }

  remap(address: Address): Address {
    return address;
  }

  async connect(_: number, address?: Address): Promise<Connection> {
    await Promise.resolve();
    const host = address?.host ?? "";
    let open = true;
    const closed = (): boolean => !open;
    return {
      send: async (args) => await Promise.resolve().then(() => this.#reply(host, args)),
      get closed() {
        return closed();
      },
      close: () => {
        if (open) this.closed.push(host);
        open = false;
      },
    };
  }

  #reply(host: string, [name, key]: readonly Argument[]): unknown {
    if (name === "CLUSTER") {
      const half = [8_192, 16_383, ["n1", 1]];
      return this.left ? [[0, 16_383, ["n0", 1]]] : [[0, 8_191, ["n0", 1]], half];
    }
    if (name === "GW.CACHECLEAR") return 1;
    if (host === "n1" && this.left) throw errorOf(`MOVED ${String(calculateSlot(String(key)))} n0:1`);
    return "0";
  }
}

test("nodes that have left are forgotten", async () => {
  const driver = new Leaving();
  const settings = settingsOf({ ...PATIENT, waitingTimeoutMs: 500 });
  const lines = new Lines();
  const transport = new Transport(driver, settings, new Tasks(lines), new Telemetry(), lines, 0);
  let asked = 0;
  // Keys of all slots: those of the node that has left are sent there until the map is asked for anew.
  const ask = async (): Promise<string> => await transport.call(requests.spent(`k${String(asked++)}`));
  await eventually(async () => (await ask()) === "0" && transport.servers().length === 2);
  driver.left = true;
  assert.equal(await ask(), "0");
  // It was used a moment ago: somebody may wait for its reply.
  assert.deepEqual([transport.servers().length, driver.closed], [2, []]);
  await eventually(async () => (await ask()) === "0" && transport.servers().length === 1);
  assert.deepEqual(driver.closed, ["n1"]);
  transport.close();
});

test("clears reach every primary", async () => {
  const nodes = await cluster();
  const client = clusterClient(nodes);
  const filling = new Gateway(client, { ...PATIENT, logger: new Lines() });
  // The time-out of the request path says nothing of clears.
  const gateway = new Gateway(client, { ...PATIENT, timeoutMs: 1, logger: new Lines() });
  const title = filling.cache<number>("title");
  const entries = Array.from({ length: 30 }, (_, at) => [{ at }, at] as const);
  const fill = async (): Promise<void> => await title.setMany(entries, { tags: ["all"] });
  for (const clear of [
    async () => await gateway.clearTag("all"),
    async () => await gateway.clearPattern("title:*"),
    async () => await gateway.cache("title").clear(),
    async () => await gateway.clearAll(),
  ]) {
    await fill();
    assert.equal(await clear(), 30);
  }
  await fill();
  await nodes[0]?.frozen(async () => await assert.rejects(gateway.clearTag("all"), Unavailable));
  // The others are cleared all the same.
  const left = (await title.getMany(entries.map(([request]) => request))).filter((one) => one !== undefined);
  assert.ok(left.length < 25, String(left.length));
  for (const one of [filling, gateway]) await one.close();
  client.disconnect();
});

test("clears reach a node that has joined", async () => {
  const driver = new Leaving();
  driver.left = true;
  const gateway = new Gateway(driver, { ...PATIENT, logger: new Lines() });
  assert.equal(await gateway.clearTag("t"), 1);
  driver.left = false;
  for (const clear of [async () => await gateway.clearTag("t"), async () => await gateway.clearPattern("*")]) {
    // The map is asked for anew, but not more often than twice a second.
    await eventually(async () => (await clear()) === 2);
  }
  await gateway.close();
});

test("a map of the slots that cannot be read is no map", async () => {
  const lines = new Lines();
  for (const map of ["text", [1], [[0]], [[0, 16_383, "n0"]], [["0", 5, ["n0", 1]]], []]) {
    const nodes = new Nodes(Promise.resolve());
    nodes.answers = true;
    const connect = nodes.connect.bind(nodes);
    nodes.connect = async (ms, address) => ({ ...(await connect(ms, address)), send: () => Promise.resolve(map) });
    const transport = new Transport(nodes, settingsOf(PATIENT), new Tasks(lines), new Telemetry(), lines);
    await assert.rejects(transport.call(requests.spent("k")), { name: "Unavailable", reason: "connection" });
    transport.close();
  }
});
