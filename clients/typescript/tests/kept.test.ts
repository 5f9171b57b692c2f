// Settlements and charges that are kept in memory and on the disk.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Gateway, requests, Telemetry, WrongType, type GatewayOptions } from "../src/index.js";
import { Core } from "../src/core.js";
import { Delivery, KeptDeliveries } from "../src/deliveries.js";
import { settingsOf } from "../src/settings.js";
import { FakeRedis } from "../src/testing/index.js";
import { account, eventually, Lines, PATIENT, Proxy, Server, unique, withGateway } from "./servers.js";

const MONTH = { name: "month", kind: "budget", amount: "1000", period: "month" };
const QUICK: GatewayOptions = { timeoutMs: 300, connectTimeoutMs: 300, failures: 1_000, kept: { everyMs: 20 } };

async function withServer(work: (server: Server) => Promise<void>): Promise<void> {
  const server = await Server.start();
  try {
    await work(server);
  } finally {
    await server.close();
  }
}

function folder(): string {
  return fs.mkdtempSync(path.join(tmpdir(), "gw-kept-"));
}

/** As if the process had ended: a file's name says which one it is. */
function orphan(directory: string): void {
  for (const name of fs.readdirSync(directory)) {
    fs.renameSync(path.join(directory, name), path.join(directory, name.replace(/\.\d+\./, ".999999999.")));
  }
}

function queue(directory: string | undefined, given: object = {}, lines = new Lines()): KeptDeliveries {
  return new KeptDeliveries(settingsOf({ kept: { directory, ...given } }).kept, lines);
}

const charge = (key: string, id: string): Delivery => new Delivery(["GW.ADDCOST", key, "1", "ID", id]);

test("kept charges survive the process", async () => {
  await withServer(async (server) => {
    const directory = folder();
    await server.stop();
    const keys = [unique("l"), unique("\udcff")];
    await withGateway(
      server,
      async (gateway) => {
        for (const key of keys) assert.equal(await gateway.budgets.charge(key, "0.5", { id: "x" }), "kept");
      },
      { ...QUICK, kept: { everyMs: 60_000, directory } },
    );
    assert.equal(fs.readdirSync(directory).length, 1);
    await server.start();
    orphan(directory);
    await withGateway(
      server,
      async (gateway) => {
        await gateway.commands.logLen("q");
        await eventually(() => gateway.kept === 0);
        for (const key of keys) assert.equal(await gateway.budgets.spent(key), "0.5");
      },
      { ...PATIENT, kept: { everyMs: 20, directory } },
    );
  });
});

test("what a killed process has left is sent", async () => {
  await withServer(async (server) => {
    const directory = folder();
    const script = `
      const { Redis } = await import("ioredis");
      const { Gateway } = await import("./.build/src/index.js");
      const client = new Redis({ port: ${String(server.port)}, retryStrategy: () => null });
      client.on("error", () => undefined);
      const gateway = new Gateway(client, { timeoutMs: 100, connectTimeoutMs: 100, logger: { warn() {}, error() {} },
        kept: { directory: ${JSON.stringify(directory)}, everyMs: 60000 } });
      await gateway.budgets.charge("l", "0.25", { id: "one" });
      await gateway.budgets.charge("l", "0.5", { id: "two" });
      console.log("kept " + gateway.kept);
      setInterval(() => undefined, 1000);
    `;
    await server.stop();
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [said] = (await once(child.stdout, "data")) as [Buffer];
    assert.equal(said.toString().trim(), "kept 2");
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
    await server.start();
    await withGateway(
      server,
      async (gateway) => {
        await gateway.commands.logLen("q");
        await eventually(() => gateway.kept === 0);
        assert.equal(await gateway.budgets.spent("l"), "0.75");
      },
      { ...PATIENT, kept: { everyMs: 20, directory } },
    );
    assert.deepEqual(fs.readdirSync(directory), []);
  });
});

test("a program that ends writes what it has", async () => {
  await withServer(async (server) => {
    const directory = folder();
    await server.run(["GW.POLICYPUT", "a", JSON.stringify({ policies: [MONTH] })]);
    const script = `
      const { Redis } = await import("ioredis");
      const { Gateway } = await import("./.build/src/index.js");
      const client = new Redis({ port: ${String(server.port)} });
      const gateway = new Gateway(client, { timeoutMs: 5000, connectTimeoutMs: 5000, kept: { directory: ${JSON.stringify(directory)} } });
      const admission = await gateway.admit("a", { usd: 1 });
      admission.use({ usd: "0.125" });
      process.exit(admission.ok ? 0 : 1);
    `;
    await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
    await withGateway(
      server,
      async (gateway) => {
        await gateway.commands.logLen("q");
        await eventually(async () => gateway.kept === 0 && (await gateway.budgets.spent("a")) === "0.125");
      },
      { ...PATIENT, kept: { everyMs: 20, directory } },
    );
  });
});

test("a program that ends writes what is under way", async () => {
  await withServer(async (server) => {
    const directory = folder();
    const policies = JSON.stringify({ policies: [MONTH, { name: "f", kind: "inflight", max: 9 }] });
    for (const key of ["a", "b"]) await server.run(["GW.POLICYPUT", key, policies]);
    const script = `
      const { Redis } = await import("ioredis");
      const { Gateway } = await import("./.build/src/index.js");
      const client = new Redis({ port: ${String(server.port)} });
      const gateway = new Gateway(client, { timeoutMs: 5000, connectTimeoutMs: 5000, kept: { directory: ${JSON.stringify(directory)} } });
      const admission = await gateway.admit("a", { usd: 1 });
      process.kill(Number(process.argv[1]), "SIGSTOP");
      void admission.settle({ usd: "0.125" });
      void gateway.budgets.charge("l", "0.5");
      void gateway.admit("b", { usd: 1 });
      setTimeout(() => process.exit(0), 1);
    `;
    const args = ["--input-type=module", "-e", script, String(server.pid)];
    await promisify(execFile)(process.execPath, args);
    server.thaw();
    assert.equal(fs.readdirSync(directory).length, 1);
    await withGateway(
      server,
      async (gateway) => {
        await gateway.commands.logLen("q");
        await eventually(async () => gateway.kept === 0 && (await gateway.budgets.spent("a")) === "0.125");
        assert.equal(await gateway.budgets.spent("l"), "0.5");
        const described = await gateway.commands.describe("b");
        assert.ok(described?.type === "account");
        assert.deepEqual([described.inFlight, await gateway.budgets.spent("b")], [0, "0"]);
      },
      { ...PATIENT, kept: { everyMs: 20, directory } },
    );
  });
});

test("closing settles what lives", async () => {
  await withServer(async (server) => {
    const client = server.client();
    const gateway = new Gateway(client, { ...PATIENT, logger: new Lines() });
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 });
    admission.use({ usd: "0.25" });
    await gateway.close();
    assert.equal(admission.settlement, "kept");
    assert.equal(await server.run(`GW.SPENT ${key}`), "0.25");
    assert.equal(await admission.settle({ usd: 5 }), "kept");
    client.disconnect();
  });
});

test("what the server refuses for now is kept", async () => {
  await withServer(async (server) => {
    await server.run(["ACL", "SETUSER", "clerk", "on", ">secret", "~*", "+@all", "-gw.settle", "-gw.addcost"]);
    const client = server.client({ username: "clerk", password: "secret" });
    const gateway = new Gateway(client, { ...PATIENT, logger: new Lines(), kept: { everyMs: 20 } });
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 });
    assert.equal(await admission.settle({ usd: "0.25" }), "kept");
    assert.equal(await gateway.budgets.charge(key, "0.5"), "kept");
    await server.run(["ACL", "SETUSER", "clerk", "+gw.settle", "+gw.addcost"]);
    await eventually(() => gateway.kept === 0);
    assert.equal(await gateway.budgets.spent(key), "0.75");
    await gateway.close();
    client.disconnect();
  });
});

test("a lease is not lost because a password changes", async () => {
  await withServer(async (server) => {
    await server.run(["ACL", "SETUSER", "clerk", "on", ">secret", "~*", "+@all"]);
    const client = server.client({ username: "clerk", password: "secret" });
    const gateway = new Gateway(client, { ...PATIENT, logger: new Lines() });
    const key = await account(gateway, "a", MONTH);
    const admission = await gateway.admit(key, { usd: 1 }, { ttlMs: 3_000 });
    await server.run(["ACL", "SETUSER", "clerk", "resetpass", ">other"]);
    await server.run(["CLIENT", "KILL", "USER", "clerk"]);
    await eventually(() => (gateway.figures()["keep_alive_failed"] ?? 0) > 0);
    assert.equal(admission.lost, false);
    await server.run(["ACL", "SETUSER", "clerk", "resetpass", ">secret"]);
    assert.equal(await admission.settle(), "settled");
    await gateway.close();
    client.disconnect();
  });
});

test("a second try does not hide the first", async () => {
  await withServer(async (server) => {
    const proxy = new Proxy(server.port);
    const client = server.client({ port: await proxy.start() });
    const gateway = new Gateway(client, { ...QUICK, timeoutMs: 1_000, kept: { everyMs: 60_000 }, logger: new Lines() });
    await gateway.commands.logLen("q");
    server.freeze();
    const charging = gateway.budgets.charge("l", 1);
    await sleep(100);
    // The connection goes, and there is no other one: the first try may have arrived all the same.
    proxy.close();
    assert.equal(await charging, "kept");
    server.thaw();
    assert.equal(gateway.kept, 1);
    await eventually(async () => (await server.run("GW.SPENT l")) === "1");
    await gateway.close(100);
    client.disconnect();
  });
});

test("a lost settlement is remembered as sent", () => {
  const directory = folder();
  const first = queue(directory);
  const sent = charge("l", "sent");
  sent.mayHaveArrived(Date.now() - 1_000);
  first.add(sent);
  first.add(charge("l", "not"));
  first.sending(true);
  orphan(directory);
  const second = queue(directory);
  assert.equal(second.adopt(), 2);
  // They were under way when their process ended.
  assert.ok(second.first(2).every(({ firstSent }) => firstSent !== null));
});

test("what is too old is not sent", async () => {
  await withServer(async (server) => {
    await withGateway(
      server,
      async (gateway, { lines }) => {
        const key = await account(gateway, "a", MONTH);
        const admission = await gateway.admit(key, { usd: 1 });
        await server.frozen(async () => {
          assert.equal(await admission.settle(), "kept");
          await sleep(10);
        });
        await eventually(() => gateway.kept === 0);
        assert.equal(gateway.figures()["kept_given_up"], 1);
        assert.ok(lines.includes("GW.SETTLE was given up: the server was away for too long"));
      },
      { ...QUICK, timeoutMs: 1_000, kept: { everyMs: 20, settleWithinMs: 1 } },
    );
  });
});

test("what a busy account may have forgotten is not booked", async () => {
  await withServer(async (server) => {
    await withGateway(
      server,
      async (gateway) => {
        const key = await account(gateway, "a", MONTH);
        const admission = await gateway.admit(key, { usd: 1 });
        await server.frozen(async () => {
          assert.equal(await admission.settle({ usd: "0.5" }), "kept");
          await sleep(10);
        });
        await server.run(`DEL ${key}`);
        await eventually(() => gateway.kept === 0);
        const spent = await gateway.budgets.spent(key);
        // Either it has arrived before the account went, or it is given up: it is never booked.
        assert.equal(spent, "0");
      },
      { ...QUICK, timeoutMs: 1_000, kept: { everyMs: 500, bookWithinMs: 1 } },
    );
  });
});

test("a full disk raises nothing", () => {
  const directory = path.join(folder(), "file");
  fs.writeFileSync(directory, "not a directory");
  const lines = new Lines();
  const kept = queue(directory, {}, lines);
  assert.equal(kept.add(charge("l", "a")), true);
  assert.equal(kept.add(charge("l", "b")), true);
  assert.equal(kept.size, 2);
  assert.equal(lines.lines.length, 1);
  assert.match(lines.lines[0] ?? "", /kept in memory only: (EEXIST|ENOTDIR)/);
  kept.done(charge("l", "a"));
  kept.close();
});

test("half a line spoils no other", () => {
  const directory = folder();
  const first = queue(directory);
  first.add(charge("l", "a"));
  const [name = ""] = fs.readdirSync(directory);
  const place = path.join(directory, name);
  fs.appendFileSync(place, '{"id":"half","wor\n');
  first.add(charge("l", "b"));
  first.close();
  orphan(directory);
  const second = queue(directory);
  assert.equal(second.adopt(), 2);
  assert.deepEqual(
    second.first(9).map(({ words }) => words.at(-1)),
    ["a", "b"],
  );
});

test("the file does not grow while nothing changes", () => {
  const directory = folder();
  const kept = queue(directory);
  const delivery = charge("l", "a");
  kept.add(delivery);
  const size = (): number =>
    fs.readdirSync(directory).reduce((sum, name) => sum + fs.statSync(path.join(directory, name)).size, 0);
  const before = size();
  for (let at = 0; at < 100; at++) kept.later(delivery);
  assert.equal(size(), before);
  for (let at = 0; at < 12_000; at++) {
    delivery.againUntil = at + 1;
    kept.later(delivery);
  }
  assert.ok(size() < 12_000 * 50);
  kept.done(delivery);
  assert.equal(size(), 0);
  kept.close();
  assert.deepEqual(fs.readdirSync(directory), []);
});

test("what has no room stays on the disk", () => {
  const directory = folder();
  const first = queue(directory);
  for (const id of ["a", "b", "c"]) first.add(charge("l", id));
  orphan(directory);
  const second = queue(directory, { count: 2 });
  assert.equal(second.adopt(), 2);
  for (const one of second.first(2)) second.done(one);
  const third = queue(directory);
  orphan(directory);
  assert.equal(third.adopt(), 1);
  assert.equal(third.first(1)[0]?.words.at(-1), "c");
});

test("a file whose process lives is left alone", () => {
  const directory = folder();
  const first = queue(directory);
  first.add(charge("l", "a"));
  assert.equal(queue(directory).adopt(), 0);
  // Unless it has not shown itself for long.
  const [name = ""] = fs.readdirSync(directory);
  fs.utimesSync(path.join(directory, name), new Date(0), new Date(0));
  assert.equal(queue(directory).adopt(), 1);
  first.close();
});

test("what somebody has taken over meanwhile is written anew", (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const directory = folder();
  const first = queue(directory);
  first.add(charge("l", "a"));
  first.sending(true);
  // This process was stopped for a minute, or the clock was set on.
  const [name = ""] = fs.readdirSync(directory);
  fs.utimesSync(path.join(directory, name), new Date(0), new Date(0));
  const second = queue(directory);
  assert.equal(second.adopt(), 1);
  // It does not know that yet.
  first.add(charge("l", "b"));
  context.mock.timers.tick(5_000);
  first.add(charge("l", "c"));
  // Now it is killed.
  orphan(directory);
  const third = queue(directory);
  third.adopt();
  const left = third.first(9);
  assert.deepEqual(left.map(({ words }) => words.at(-1)).sort(), ["a", "b", "c"]);
  assert.ok(left.every(({ firstSent }) => firstSent !== null));
});

test("what has no room does not look newer than it is", (context) => {
  context.mock.timers.enable({ apis: ["Date", "setInterval"], now: Date.now() });
  const directory = folder();
  const first = queue(directory);
  for (const id of ["a", "b"]) first.add(charge("l", id));
  first.sending(true);
  const began = Date.now();
  orphan(directory);
  const second = queue(directory, { count: 1 });
  assert.equal(second.adopt(), 1);
  context.mock.timers.setTime(began + 3_600_000);
  orphan(directory);
  const third = queue(directory);
  third.adopt();
  const [left] = third.first(9).filter(({ words }) => words.at(-1) === "b");
  assert.equal(left?.firstSent, began);
});

/** The parts of a gateway that keep and send, without a server. */
function coreOf(fake: FakeRedis): Core {
  return new Core(fake, settingsOf({ ...PATIENT, kept: { everyMs: 3_600_000 } }), new Telemetry(), new Lines());
}

test("one refused delivery holds up no other", async () => {
  const fake = new FakeRedis();
  const core = coreOf(fake);
  fake.execute(...requests.logPush("queue", ["record"]).args);
  const all = core.deliverAll([charge("l", "a"), charge("queue", "b"), charge("l", "c")]);
  await assert.rejects(all, WrongType);
  assert.deepEqual([fake.execute("GW.SPENT", "l"), core.kept.size], ["2", 0]);
  await core.close(1_000);
});

test("the grace of a late question counts from the first answer", async (context) => {
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() });
  const fake = new FakeRedis();
  const core = coreOf(fake);
  const settlement = new Delivery(["GW.SETTLE", "a", "LEASE", "x"], [["GW.ADDCOST", "a", "1", "ID", "x"]]);
  settlement.early = true;
  core.kept.add(settlement);
  // The server was away for long.
  context.mock.timers.tick(60_000);
  for (const ms of [0, 4_000]) {
    context.mock.timers.tick(ms);
    await core.sendKept();
    assert.deepEqual([core.kept.first(9), fake.execute("GW.SPENT", "a")], [[settlement], "0"]);
  }
  context.mock.timers.tick(2_000);
  await core.sendKept();
  await core.sendKept();
  assert.deepEqual([core.kept.size, fake.execute("GW.SPENT", "a")], [0, "1"]);
  await core.close(1_000);
});

test("a lost question is charged at the end", async () => {
  const fake = new FakeRedis();
  const core = coreOf(fake);
  const settlement = new Delivery(["GW.SETTLE", "a", "LEASE", "x"], [["GW.ADDCOST", "a", "1", "ID", "x"]]);
  settlement.early = true;
  core.kept.add(settlement);
  await core.close(1_000);
  assert.deepEqual([core.kept.size, fake.execute("GW.SPENT", "a")], [0, "1"]);
});
