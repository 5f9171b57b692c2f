// The circuit, local limits, and settings, without a server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Circuit } from "../src/circuit.js";
import { Core } from "../src/core.js";
import { Gateway, Telemetry } from "../src/index.js";
import { Keeper, type Lease } from "../src/keeper.js";
import { LocalSlots, LocalWindows, share } from "../src/local.js";
import { settingsOf } from "../src/settings.js";
import { FakeRedis } from "../src/testing/index.js";
import { eventually, Lines } from "./servers.js";

test("opens after failures in a row and lets one try", () => {
  let now = 0;
  const told = new Lines();
  const circuit = new Circuit(
    "the server x",
    3,
    1_000,
    told,
    () => now,
    () => 0.5,
  );
  circuit.failed("timeout");
  circuit.failed("timeout");
  circuit.succeeded();
  for (let at = 0; at < 3; at++) {
    assert.equal(circuit.isOpen, false);
    circuit.failed("timeout");
  }
  assert.deepEqual([circuit.isOpen, circuit.mayAsk()], [true, false]);
  now = 1_000;
  assert.deepEqual([circuit.mayAsk(), circuit.mayAsk()], [true, false]);
  circuit.failed("timeout");
  assert.equal(circuit.mayAsk(), false);
  now = 2_000;
  assert.equal(circuit.mayAsk(), true);
  circuit.succeeded();
  assert.deepEqual([circuit.isOpen, circuit.mayAsk(), circuit.awayMs], [false, true, 2_000]);
  assert.deepEqual(told.lines, [
    "the server x is away (timeout): it is asked again from time to time",
    "the server x answers again, after 2.0 s",
  ]);
});

test("pauses differ", () => {
  const ends = [0, 1].map((jitter) => {
    let now = 0;
    const circuit = new Circuit(
      "x",
      1,
      1_000,
      new Lines(),
      () => now,
      () => jitter,
    );
    circuit.failed("timeout");
    while (!circuit.mayAsk()) now += 1;
    return now;
  });
  assert.deepEqual(ends, [750, 1_250]);
});

test("shares", () => {
  assert.deepEqual([share(10, 4), share(3, 4), share(0, 4), share(8, 1)], [2, 1, 0, 8]);
});

test("a local window slides", () => {
  let now = 0;
  const windows = new LocalWindows(() => now);
  assert.deepEqual(windows.take("k", 2, 6_400, 1), { allowed: true, count: 1, retryAfterMs: 0 });
  assert.equal(windows.take("k", 2, 6_400, 1, true).count, 1);
  now = 3_200;
  assert.equal(windows.take("k", 2, 6_400, 1).allowed, true);
  const denied = windows.take("k", 2, 6_400, 1);
  assert.deepEqual(denied, { allowed: false, count: 0, retryAfterMs: 3_300 });
  assert.equal(windows.take("k", 2, 6_400, 3).retryAfterMs, -1);
  now += denied.retryAfterMs;
  assert.equal(windows.take("k", 2, 6_400, 1).allowed, true);
});

test("local slots end by themselves", () => {
  let now = 0;
  const slots = new LocalSlots(() => now);
  assert.equal(slots.take("k", 1, "a", 100).allowed, true);
  assert.deepEqual(slots.take("k", 1, "b", 100), { allowed: false, count: 1, retryAfterMs: 100 });
  slots.free("k", "a");
  assert.equal(slots.take("k", 1, "b", 100).allowed, true);
  now = 101;
  assert.equal(slots.take("k", 1, "c", 100).allowed, true);
});

test("settings that cannot be are refused", () => {
  assert.equal(settingsOf({}).timeoutMs, 50);
  assert.equal(settingsOf({ timeoutMs: undefined, kept: { count: undefined } }).kept.count, 100_000);
  for (const wrong of [
    { timeoutMs: 0 },
    { connections: 0 },
    { waitingTimeoutMs: 100 },
    { kept: { everyMs: 0 } },
    { away: { limits: "never" as never } },
    { away: { budgets: "local" as never } },
    { away: { admission: { requests: -1 } } },
  ]) {
    assert.throws(() => settingsOf(wrong), RangeError);
  }
});

test("keys of any bytes have windows of their own", async () => {
  const fake = new FakeRedis();
  fake.away = true;
  const gateway = new Gateway(fake, { logger: new Lines() });
  for (const key of [Buffer.of(0xff), Buffer.of(0xfe), "\ufffd", Uint8Array.of(1), "1"]) {
    assert.equal((await gateway.allow(key, 1)).outcome, "degraded");
  }
  assert.equal((await gateway.allow(Uint8Array.of(0xff), 1)).reason, "local_limit");
  await gateway.close();
});

test("many leases are kept alive", async () => {
  const core = new Core(new FakeRedis(), settingsOf({}), new Telemetry(), new Lines());
  const keeper = new Keeper(core);
  let asked = 0;
  const lease = (ttlMs: number): Lease => ({
    ttlMs,
    keepUntil: Infinity,
    keepAliveRequests: () => [],
    keptAlive: () => undefined,
  });
  for (let made = 0; made < 200_000; made++) keeper.add(lease(60_000_000));
  for (const ttlMs of [30, 300]) keeper.add({ ...lease(ttlMs), keepAliveRequests: () => ((asked += 1), []) });
  await eventually(() => asked === 2);
  await core.close(1_000);
});
