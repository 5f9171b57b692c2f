// The application's client, whichever it is, and what it talks to.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { Redis, type Cluster } from "ioredis";
import { Redis as Redis5 } from "ioredis-5";
import { createClient, createCluster } from "redis";
import { createClient as createClient5 } from "redis-5";
import {
  Gateway,
  NoPermission,
  NotAuthenticated,
  requests,
  type GatewayClient,
  type GatewayOptions,
} from "../src/index.js";
import { clusterClient, eventually, freePort, Lines, PATIENT, Proxy, Server, startCluster, unique } from "./servers.js";
import { PACKAGE } from "./vectors.js";

const MONTH = { name: "month", kind: "budget", amount: "1000", period: "month" };

async function using_(
  client: GatewayClient,
  work: (gateway: Gateway) => Promise<void>,
  options: GatewayOptions = {},
): Promise<void> {
  const gateway = new Gateway(client, { ...PATIENT, logger: new Lines(), ...options });
  try {
    await work(gateway);
  } finally {
    await gateway.close();
  }
}

/** A round through all families. */
async function everything(gateway: Gateway): Promise<void> {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
  const name = Buffer.concat([Buffer.from([0xff, 0, 13, 10, 0x80]), Buffer.from(unique("name"))]);
  const { commands } = gateway;
  await commands.policySet(name, name, { kind: "window", limit: 1, windowMs: 60_000 });
  const { rows } = await commands.admit(name, { leaseId: name, ttlMs: 1_000 });
  // What a reply says can be sent again.
  assert.equal(await commands.policyDel(rows[0]?.account ?? "", rows[0]?.policy ?? ""), true);
  const key = unique("k");
  assert.equal(await commands.cacheSet(key, bytes, { tags: "abc" }), true);
  assert.deepEqual(await commands.cacheGet(key), bytes);
  assert.equal(await commands.cacheGet(unique("k")), null);
  const log = unique("log");
  assert.equal((await commands.logPush(log, [bytes, "", "é"])).length, 3);
  assert.deepEqual(await commands.logPop(log, { count: 5 }), [bytes, Buffer.alloc(0), Buffer.from("é")]);
  const account = unique("a");
  await commands.policyPut(account, JSON.stringify({ policies: [MONTH] }));
  await (await gateway.admit(account, { usd: "0.5" })).settle({ usd: "0.25" });
  assert.equal(await gateway.budgets.spent(account), "0.25");
  const described = await commands.describe(account);
  assert.ok(described?.type === "account");
  assert.equal(described.ledgers.get("usd")?.total, "0.25");
  assert.ok((await commands.stats()).size > 0);
  assert.equal((await gateway.allow(unique("w"), 10)).remaining, 9);
  assert.equal((await gateway.lock(unique("lock"), { waitMs: 10 })).ok, true);
  assert.equal((await gateway.health()).ok, true);
}

test("protocols and clients", async () => {
  const server = await Server.start();
  const { port } = server;
  for (const protocol of [2, 3] as const) {
    const ioredis = server.client({ protocol });
    await using_(ioredis, everything);
    ioredis.disconnect();
    const nodeRedis = createClient({ RESP: protocol, socket: { port, host: "127.0.0.1" } });
    await nodeRedis.connect();
    await using_(nodeRedis, everything);
    nodeRedis.destroy();
    const older = createClient5({ RESP: protocol, url: `redis://127.0.0.1:${String(port)}/0` });
    await older.connect();
    await using_(older, everything);
    older.destroy();
  }
  const older = new Redis5({ port, host: "127.0.0.1" });
  await using_(older, everything);
  older.disconnect();
  await server.close();
});

test("a client's settings are left alone", async () => {
  const server = await Server.start();
  const client = server.client({ keyPrefix: "app:", db: 1, commandTimeout: 20_000 });
  const before = JSON.stringify(client.options);
  await using_(client, async (gateway) => {
    await gateway.budgets.charge("l", "0.5");
  });
  assert.equal(JSON.stringify(client.options), before);
  await eventually(() => client.status === "ready");
  client.disconnect();
  // In its database, and under the name that was given.
  const other = server.client({ db: 1 });
  assert.deepEqual(await other.keys("*"), ["l"]);
  other.disconnect();
  await server.close();
});

test("a transaction of requests", async () => {
  const server = await Server.start();
  const client = server.client();
  const made = [requests.allow("k", 1), requests.addCost("spend", "0.5"), requests.cacheGet("none")] as const;
  const transaction = client.multi();
  for (const { args } of made) {
    const [name = "", ...rest] = args;
    transaction.callBuffer(String(name), ...rest);
  }
  const replies = ((await transaction.exec()) ?? []).map(([, reply]) => reply);
  const [allow, addCost, cacheGet] = made;
  assert.equal(allow.decode(replies[0]).allowed, true);
  assert.equal(addCost.decode(replies[1]), "0.5");
  assert.equal(cacheGet.decode(replies[2]), null);
  client.disconnect();
  await server.close();
});

test("users", async () => {
  const server = await Server.start();
  await server.run(["ACL", "SETUSER", "default", "resetpass", ">pass"]);
  const wrong = new Redis({ port: server.port, host: "127.0.0.1", password: "wrong", retryStrategy: () => null });
  wrong.on("error", () => undefined);
  await using_(wrong, async (gateway) => await assert.rejects(gateway.commands.logLen("q"), NotAuthenticated));
  wrong.disconnect();
  const none = createClient({ socket: { port: server.port, host: "127.0.0.1", reconnectStrategy: false } });
  none.on("error", () => undefined);
  await using_(none, async (gateway) => await assert.rejects(gateway.commands.logLen("q"), NotAuthenticated));
  const right = server.client({ password: "pass" });
  await using_(right, everything);
  await right.call("ACL", "SETUSER", "weak", "on", ">weak", "~*", "+@connection", "+gw.loglen");
  const weak = createClient({ username: "weak", password: "weak", socket: { port: server.port, host: "127.0.0.1" } });
  weak.on("error", () => undefined);
  await using_(weak, async (gateway) => {
    assert.equal(await gateway.commands.logLen("q"), 0);
    await assert.rejects(gateway.allow("w", 1), NoPermission);
  });
  right.disconnect();
  await server.close();
});

test("the shipped role", async () => {
  const config = readFileSync(path.join(PACKAGE, "..", "..", "redis.conf"), "utf8");
  const role = config.split("\n").find((line) => line.startsWith("#user gateway ")) ?? "";
  const server = await Server.start();
  await server.run(["ACL", "SETUSER", ...role.replace("#user ", "").replace("CHANGE-ME", "secret").split(" ")]);
  await server.run("GW.POLICYSET {ml} rpm WINDOW 5 PER 60000");
  const client = server.client({ username: "gateway", password: "secret", enableReadyCheck: false });
  await using_(client, async (gateway) => {
    assert.equal((await gateway.health()).ok, true);
    await using request = await gateway.request("{ml}", ["{gpt}:eu"], { usd: 1 });
    assert.equal(request.ok, true);
    assert.equal((await gateway.allow("rpm:user", 10)).outcome, "admitted");
    assert.equal(await gateway.cache<number>("chat").getOrCompute({}, () => Promise.resolve(1)), 1);
    assert.equal(await gateway.cache<number>("chat").get({}), 1);
    assert.equal((await gateway.slot("inflight:a", 2, { waitMs: 1_000 })).ok, true);
    assert.equal(await (await gateway.budgets.reserve("spend:a", 1, [[5, "MONTH"]])).commit(), "settled");
    const logs = gateway.logs("log:requests");
    logs.push({});
    assert.deepEqual([await logs.flush(), logs.dropped], [true, 0]);
  });
  client.disconnect();
  await server.close();
});

/** A server that wants the certificates of its clients. Undefined if it was built without TLS. */
async function secure(): Promise<
  { server: Server; port: number; tls: { ca: Buffer; cert: Buffer; key: Buffer } } | undefined
> {
  const directory = mkdtempSync(path.join(tmpdir(), "gw-tls-"));
  const file = (name: string): string => path.join(directory, name);
  const openssl = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"];
  execFileSync("openssl", [...openssl, "-keyout", file("key"), "-out", file("cert")], { stdio: "ignore" });
  const port = await freePort();
  const options = ["--tls-port", String(port), "--tls-cert-file", file("cert"), "--tls-key-file", file("key")];
  const server = await Server.start([...options, "--tls-ca-cert-file", file("cert")]).catch(() => undefined);
  const [cert, key] = [readFileSync(file("cert")), readFileSync(file("key"))];
  rmSync(directory, { recursive: true });
  return server === undefined ? undefined : { server, port, tls: { ca: cert, cert, key } };
}

test("TLS", async (context) => {
  const found = await secure();
  if (found === undefined) {
    context.skip("the server was built without TLS");
    return;
  }
  const { server, port, tls } = found;
  const client = new Redis({ port, host: "localhost", tls });
  await using_(client, everything);
  client.disconnect();
  const other = createClient({ socket: { port, host: "localhost", tls: true, ...tls } });
  await other.connect();
  await using_(other, everything);
  other.destroy();
  await server.close();
});

test("TLS under load", async (context) => {
  const found = await secure();
  if (found === undefined) {
    context.skip("the server was built without TLS");
    return;
  }
  const { server, port, tls } = found;
  const many = { name: "all", kind: "window", limit: 1_000_000, per_ms: 3_600_000 };
  const policies = [{ ...MONTH, amount: "1000000" }, many, { name: "parallel", kind: "inflight", max: 1_000 }];
  await server.run(["GW.POLICYPUT", "{a}", JSON.stringify({ policies })]);
  const client = new Redis({ port, host: "localhost", tls, lazyConnect: true });
  await using_(
    client,
    async (gateway) => {
      const outcomes: string[] = [];
      const worker = async (name: number): Promise<void> => {
        for (let at = 0; at < 30; at++) {
          await using admission = await gateway.admit("{a}", { usd: 5 });
          admission.use({ usd: "0.01" });
          outcomes.push(admission.outcome);
          await gateway.budgets.charge("{a}:extra", 1, { id: `${String(name)}:${String(at)}` });
        }
      };
      // Connections are killed meanwhile, in the middle of whatever they do.
      const kills = async (): Promise<void> => {
        for (let served = 15; served < 300; served += 30) {
          await eventually(() => outcomes.length >= served, 60_000);
          await server.run("CLIENT KILL TYPE normal SKIPME yes");
        }
      };
      await Promise.all([kills(), ...Array.from({ length: 10 }, async (_, name) => await worker(name))]);
      await eventually(() => gateway.kept === 0);
      const described = await gateway.commands.describe("{a}");
      assert.ok(described?.type === "account");
      assert.deepEqual([described.inFlight, described.leases.length], [0, 0]);
      // One that was let through without the server may not have been counted.
      const counted = Number(described.counts.get("all"));
      assert.ok(outcomes.filter((one) => one === "admitted").length <= counted && counted <= 300, String(counted));
      assert.equal(await gateway.budgets.spent("{a}"), "3");
      assert.equal(await gateway.budgets.spent("{a}:extra"), "300");
    },
    { failures: 1_000, away: { admission: "open" }, kept: { everyMs: 50 } },
  );
  client.disconnect();
  await server.close();
});

/** Accounts of `count` different slots' nodes. */
const names = (count: number): string[] => Array.from({ length: count }, (_, at) => unique(`{${String(at * 7)}}a`));

async function inCluster(work: (servers: Server[], client: Cluster) => Promise<void>, nodes = 3): Promise<void> {
  const servers = await startCluster(nodes);
  const client = clusterClient(servers);
  client.on("error", () => undefined);
  try {
    await work(servers, client);
  } finally {
    client.disconnect();
    await Promise.all(servers.map(async (server) => await server.close()));
  }
}

test("cluster", async () => {
  await inCluster(async (servers, client) => {
    await using_(client, everything);
    const nodeRedis = createCluster({
      rootNodes: servers.map(({ port }) => ({ url: `redis://127.0.0.1:${String(port)}` })),
    });
    await nodeRedis.connect();
    await using_(nodeRedis, everything);
    nodeRedis.destroy();
    await using_(client, async (gateway) => {
      const made = await Promise.all(
        names(20).map(
          async (key) => await gateway.budgets.charge(key, "0.5").then(async () => await gateway.budgets.spent(key)),
        ),
      );
      assert.deepEqual(new Set(made), new Set(["0.5"]));
    });
  });
});

test("accounts in several slots", async () => {
  await inCluster(async (_, client) => {
    await using_(client, async (gateway) => {
      const keys = names(6);
      for (const key of keys) await gateway.commands.policyPut(key, JSON.stringify({ policies: [MONTH] }));
      const admission = await gateway.admit(keys, { usd: 1 });
      assert.equal(admission.ok, true);
      await admission.settle({ usd: "0.25" });
      for (const key of keys) assert.equal(await gateway.budgets.spent(key), "0.25");
      const [last = ""] = names(1);
      await gateway.commands.policyPut(last, JSON.stringify({ policies: [{ ...MONTH, amount: "0" }] }));
      const denied = await gateway.admit([...keys, last], { usd: 1 });
      assert.deepEqual([denied.ok, denied.reason], [false, "limit"]);
      for (const key of keys) {
        const described = await gateway.commands.describe(key);
        assert.ok(described?.type === "account");
        assert.deepEqual([described.inFlight, described.ledgers.get("usd")?.held], [0, "0"]);
        assert.equal(await gateway.budgets.spent(key), "0.25");
      }
      // And targets, slot by slot, in their order.
      const attempt = await gateway.route([last, ...keys], { usd: 1 });
      assert.equal(attempt.target, keys[0]);
      await attempt.undo();
    });
  });
});

test("every primary is asked", async () => {
  await inCluster(async (_, client) => {
    await using_(client, async (gateway) => {
      const cache = gateway.cache<string>("chat");
      for (let at = 0; at < 30; at++) await cache.set({ at }, "x", { tags: ["t"] });
      assert.equal((await cache.figures()).length, 3);
      assert.equal(await gateway.clearTag("t"), 30);
      await cache.setMany(Array.from({ length: 30 }, (_, at) => [{ at }, String(at)] as const));
      const found = await cache.getMany(Array.from({ length: 31 }, (_, at) => ({ at })));
      assert.deepEqual(found, [...Array.from({ length: 30 }, (_, at) => String(at)), undefined]);
    });
  });
});

test("slots that move", async () => {
  await inCluster(async ([from, to], client) => {
    assert.ok(from && to);
    await using_(
      client,
      async (gateway) => {
        const keys = Array.from({ length: 40 }, (_, at) => `{moving}${String(at)}`);
        const slot = Number(await from.run(["CLUSTER", "KEYSLOT", "{moving}"]));
        const ids = await Promise.all([from, to].map(async (server) => String(await server.run("CLUSTER MYID"))));
        const slots = (await from.run("CLUSTER SLOTS")) as [number, number, [string, number]][];
        const port = slots.find(([first, last]) => first <= slot && slot <= last)?.[2][1];
        const [source, target] = port === from.port ? [from, to] : [to, from];
        const [sourceId, targetId] = source === from ? ids : [...ids].reverse();
        if (port !== from.port && port !== to.port) return; // It lies on the third node: the name is chosen so that it does not.
        let told = 0;
        let over = false;
        const load = async (worker: number): Promise<void> => {
          for (let at = 0; !over; at++) {
            await gateway.budgets.charge(keys[(worker * 7 + at) % keys.length] ?? "", "0.001");
            told += 1;
          }
        };
        const all = Promise.all(Array.from({ length: 4 }, async (_, worker) => await load(worker)));
        await eventually(() => told > 100);
        await target.run(`CLUSTER SETSLOT ${String(slot)} IMPORTING ${String(sourceId)}`);
        await source.run(`CLUSTER SETSLOT ${String(slot)} MIGRATING ${String(targetId)}`);
        for (;;) {
          const some = (await source.run(`CLUSTER GETKEYSINSLOT ${String(slot)} 5`)) as string[];
          if (some.length === 0) break;
          await source.run(["MIGRATE", "127.0.0.1", String(target.port), "", "0", "5000", "KEYS", ...some]);
        }
        for (const server of [target, source])
          await server.run(`CLUSTER SETSLOT ${String(slot)} NODE ${String(targetId)}`);
        const moved = told;
        await eventually(() => told > moved + 100);
        over = true;
        await all;
        await eventually(() => gateway.kept === 0);
        let thousandths = 0;
        for (const key of keys) thousandths += Math.round(Number(await gateway.budgets.spent(key)) * 1_000);
        assert.equal(thousandths, told);
      },
      { kept: { everyMs: 20 } },
    );
  });
});

test("a node that is dead does not hold up the others", async () => {
  await inCluster(async (servers, client) => {
    await using_(
      client,
      async (gateway) => {
        const keys = names(30);
        const before = await Promise.all(keys.map(async (key) => (await gateway.allow(key, 10)).outcome));
        assert.deepEqual(new Set(before), new Set(["admitted"]));
        servers[1]?.freeze();
        const outcomes = await Promise.all(keys.map(async (key) => (await gateway.allow(key, 10)).outcome));
        assert.deepEqual(new Set(outcomes), new Set(["admitted", "degraded"]));
        servers[1]?.thaw();
      },
      { timeoutMs: 1_000 },
    );
  });
});

test("Sentinel failover", async () => {
  const primary = await Server.start();
  const replica = await Server.start(["--replicaof", `127.0.0.1 ${String(primary.port)}`]);
  await eventually(async () => String(await replica.run("INFO replication")).includes("master_link_status:up"));
  const sentinel = await Server.start([], "sentinel");
  await sentinel.run(`SENTINEL MONITOR main 127.0.0.1 ${String(primary.port)} 1`);
  await sentinel.run("SENTINEL SET main down-after-milliseconds 10000");
  await sentinel.run("SENTINEL SET main failover-timeout 2000");
  await eventually(async () => String(await sentinel.run("INFO sentinel")).includes("slaves=1"));
  const client = new Redis({
    sentinels: [{ host: "127.0.0.1", port: sentinel.port }],
    name: "main",
    sentinelRetryStrategy: () => 50,
  });
  client.on("error", () => undefined);
  await using_(
    client,
    async (gateway) => {
      const key = unique("l");
      let told = 0;
      let over = false;
      const load = async (): Promise<void> => {
        while (!over) {
          assert.notEqual(await gateway.budgets.charge(key, "0.001"), "given_up");
          told += 1;
        }
      };
      await gateway.budgets.charge(key, "0");
      await eventually(async () => (await replica.run(`EXISTS ${key}`)) === 1);
      const all = Promise.all(Array.from({ length: 4 }, load));
      await eventually(() => told > 100);
      // It refuses while it has not heard of the replica for some seconds, as on a busy machine.
      await eventually(async () => (await sentinel.run("SENTINEL FAILOVER main").catch(() => "")) === "OK", 60_000);
      await eventually(async () => String(await replica.run("INFO replication")).includes("role:master"), 60_000);
      const moved = told;
      await eventually(() => told > moved + 100, 60_000);
      over = true;
      await all;
      await eventually(() => gateway.kept === 0, 60_000);
      // What the old primary had not passed on is lost with it; nothing is there twice.
      const thousandths = Math.round(Number(await replica.run(`GW.SPENT ${key}`)) * 1_000);
      assert.ok(thousandths <= told, `${String(thousandths)} of ${String(told)}`);
      assert.ok(thousandths > 0);
    },
    { timeoutMs: 500, connectTimeoutMs: 1_000, failures: 1_000, kept: { everyMs: 50 } },
  );
  client.disconnect();
  await Promise.all([primary, replica, sentinel].map(async (server) => await server.close()));
});

test("sentinels that do not answer hold up nobody", async () => {
  const server = await Server.start();
  const sentinels = await Promise.all([Server.start([], "sentinel"), Server.start([], "sentinel")]);
  const watch = async (one: Server): Promise<unknown> =>
    await one.run(`SENTINEL MONITOR main 127.0.0.1 ${String(server.port)} 1`);
  for (const one of sentinels) await watch(one);
  // They stand before those that do.
  const silent = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const listening = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
      await once(listening, "listening");
      return listening;
    }),
  );
  const ports = [...silent.map((one) => (one.address() as AddressInfo).port), ...sentinels.map((one) => one.port)];
  const client = new Redis({
    sentinels: ports.map((port) => ({ host: "127.0.0.1", port })),
    name: "main",
    lazyConnect: true,
  });
  await using_(client, async (gateway) => {
    assert.equal((await gateway.allow("k", 1_000)).outcome, "admitted");
    // The one that has answered may die: it is not asked for ever.
    for (const one of sentinels) {
      await one.stop();
      await server.run("CLIENT KILL TYPE normal SKIPME yes");
      await eventually(async () => (await gateway.allow("k", 1_000)).outcome === "admitted");
      await one.start();
      await watch(one);
    }
  });
  client.disconnect();
  for (const one of silent) one.close();
  await Promise.all([server, ...sentinels].map(async (one) => await one.close()));
});

test("a node that was demoted is left", async () => {
  const [old, next] = [await Server.start(), await Server.start()];
  const proxy = new Proxy(old.port);
  const client = old.client({ port: await proxy.start() });
  await using_(client, async (gateway) => {
    assert.equal((await gateway.allow("w", 10)).outcome, "admitted");
    await old.run(`REPLICAOF 127.0.0.1 ${String(next.port)}`);
    proxy.target = next.port;
    assert.equal((await gateway.allow("w", 10)).reason, "readonly");
    assert.equal((await gateway.allow("w", 10)).outcome, "admitted");
  });
  client.disconnect();
  proxy.close();
  await Promise.all([old, next].map(async (server) => await server.close()));
});
