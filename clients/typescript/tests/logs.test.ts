// The log buffer.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Gateway, type GatewayOptions } from "../src/index.js";
import { eventually, Lines, PATIENT, Server, unique, withGateway } from "./servers.js";

let server: Server;
before(async () => void (server = await Server.start()));
after(async () => await server.close());

const length = async (key: string): Promise<unknown> => await server.run(`GW.LOGLEN ${key}`);

test("pushed in batches in the background", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("log");
    const logs = gateway.logs(key, { everyMs: 10, batch: 3 });
    for (let at = 0; at < 7; at++) logs.push({ at, big: 10n });
    logs.push('{"text":true}');
    logs.push(Buffer.from('{"bytes":true}'));
    await eventually(async () => (await length(key)) === 9);
    await eventually(() => logs.size === 0);
    const [first] = await gateway.commands.logPeek(key, { count: 1 });
    assert.equal(first?.toString(), '{"at":0,"big":"10"}');
    logs.push("again");
    await eventually(() => logs.dropped === 1);
  });
});

test("bounds drop the oldest and count them", async () => {
  const away = await Server.start();
  await away.stop();
  await withGateway(
    away,
    async (gateway) => {
      const logs = gateway.logs("log", { records: 3, everyMs: 60_000 });
      for (let at = 0; at < 5; at++) logs.push({ at });
      assert.deepEqual([logs.size, logs.dropped], [3, 2]);
      assert.equal(await logs.flush(), false);
      const bytes = gateway.logs("log", { bytes: 10, everyMs: 60_000, json: false });
      for (const record of ["aaaaa", "bbbbb", "c", "x".repeat(11)]) bytes.push(record);
      assert.deepEqual([bytes.size, bytes.dropped], [0, 4]);
      assert.equal(gateway.figures()["log_dropped{reason=buffer_full}"], 6);
    },
    { timeoutMs: 50, connectTimeoutMs: 50 },
  );
  await away.close();
});

test("batches are bounded in bytes", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("log");
    const logs = gateway.logs(key, { everyMs: 60_000, json: false });
    for (let at = 0; at < 5; at++) logs.push("x".repeat(300_000));
    assert.equal(await logs.flush(), true);
    const stats = String(await server.run("INFO commandstats"));
    assert.ok(Number(/cmdstat_gw\.logpush:calls=(\d+)/.exec(stats)?.[1]) >= 5);
    assert.equal(await length(key), 5);
  });
});

test("a record after the end is counted", async () => {
  await withGateway(server, async (gateway) => {
    const logs = gateway.logs(unique("log"));
    await logs.close();
    logs.push("{}");
    assert.deepEqual([logs.size, logs.dropped], [0, 1]);
  });
});

test("pushes have a time-out and connections of their own", async () => {
  const own = await Server.start();
  const options: GatewayOptions = { timeoutMs: 30, connectTimeoutMs: 1_000, failures: 1 };
  await withGateway(
    own,
    async (gateway, lines) => {
      const logs = gateway.logs("log", { everyMs: 60_000 });
      logs.push({});
      assert.equal(await logs.flush(), true);
      own.freeze();
      logs.push({});
      const flushed = logs.flush();
      // Longer than a call of the request path may take.
      setTimeout(() => own.thaw(), 300);
      assert.equal(await flushed, true);
      assert.deepEqual(lines.lines, []);
    },
    options,
  );
  await own.close();
});

test("pushed at the end", async () => {
  const key = unique("log");
  const client = server.client();
  const gateway = new Gateway(client, { ...PATIENT, logger: new Lines() });
  gateway.logs(key, { everyMs: 60_000 }).push({});
  await gateway.close();
  client.disconnect();
  assert.equal(await length(key), 1);
});

test("flush waits for the one that runs", async () => {
  await withGateway(server, async (gateway) => {
    const key = unique("log");
    const logs = gateway.logs(key, { everyMs: 60_000 });
    for (let at = 0; at < 100; at++) logs.push({ at });
    await Promise.all([logs.flush(), logs.flush(), logs.flush()]);
    assert.deepEqual([logs.size, await length(key)], [0, 100]);
  });
});

test("a push whose reply is lost is stored once", async () => {
  const own = await Server.start();
  await withGateway(own, async (gateway) => {
    const logs = gateway.logs("log", { everyMs: 50, json: false });
    logs.push("first");
    assert.equal(await logs.flush(), true);
    own.freeze();
    logs.push("a");
    logs.push("b");
    // It is sent, and sent again, but not answered.
    assert.equal(await logs.flush(), false);
    own.thaw();
    logs.push("c");
    await eventually(() => logs.size === 0);
    const records = await gateway.commands.logPeek("log", { count: 10 });
    assert.deepEqual(records.map(String), ["first", "a", "b", "c"]);
  });
  await own.close();
});

test("records that are pushed one by one are stored once", async () => {
  await withGateway(server, async (gateway, lines) => {
    const key = unique("log");
    const logs = gateway.logs(key, { everyMs: 60_000 });
    for (const record of ["1", "not JSON", "2"]) logs.push(record);
    assert.equal(await logs.flush(), true);
    assert.deepEqual((await gateway.commands.logPeek(key, { count: 10 })).map(String), ["1", "2"]);
    assert.equal(logs.dropped, 1);
    assert.deepEqual(lines.lines, ["a log record was refused: InvalidArgument"]);
  });
});

test("a full queue", async () => {
  const own = await Server.start();
  await withGateway(own, async (gateway) => {
    await own.run("CONFIG SET gw.log-max-bytes 1mb");
    const logs = gateway.logs("log", { everyMs: 10, json: false, reject: true, batch: 1 });
    for (let at = 0; at < 5; at++) logs.push(`${String(at)}${"x".repeat(400_000)}`);
    await eventually(() => logs.size <= 3);
    assert.equal(await logs.flush(), false);
    const seen: string[] = [];
    await eventually(async () => {
      for (const record of await gateway.commands.logPop("log", { count: 10 })) seen.push(record.toString()[0] ?? "");
      return seen.length === 5;
    });
    assert.deepEqual(seen, ["0", "1", "2", "3", "4"]);
    assert.equal(logs.dropped, 0);
  });
  await own.close();
});

test("records wait for a right that is missing", async () => {
  await server.run(["ACL", "SETUSER", "logger", "on", ">secret", "~*", "+@all", "-gw.logpush"]);
  const client = server.client({ username: "logger", password: "secret" });
  const gateway = new Gateway(client, { ...PATIENT, logger: new Lines() });
  const key = unique("log");
  const logs = gateway.logs(key, { everyMs: 10 });
  logs.push({});
  assert.equal(await logs.flush(), false);
  assert.equal(logs.size, 1);
  await server.run(["ACL", "SETUSER", "logger", "+gw.logpush"]);
  await eventually(() => logs.size === 0);
  assert.equal(await length(key), 1);
  await gateway.close();
  client.disconnect();
});

test("a server that does not answer holds up the end once", async () => {
  const own = await Server.start();
  await withGateway(
    own,
    async (gateway) => {
      const logs = Array.from({ length: 8 }, (_, at) => gateway.logs(`log${String(at)}`, { everyMs: 3_600_000 }));
      assert.equal((await gateway.health()).ok, true);
      for (const one of logs) one.push({ id: 1 });
      await own.frozen(async () => {
        assert.equal(await gateway.budgets.charge("l", 1), "kept");
        const began = performance.now();
        await Promise.all([gateway.close(2_000), gateway.close(2_000)]);
        // Two seconds, two more of a call that is under way, and what a busy machine adds. One after another would take
        // sixteen at least.
        assert.ok(performance.now() - began < 10_000);
      });
      assert.equal(gateway.kept, 1);
      await eventually(() => logs.every(({ dropped }) => dropped === 1));
    },
    { timeoutMs: 50, kept: { everyMs: 3_600_000 } },
  );
  await own.close();
});
