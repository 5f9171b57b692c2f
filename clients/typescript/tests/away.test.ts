// What is decided, kept and sent again while the server is away.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";
import {
  Gateway,
  InvalidArgument,
  NoPermission,
  Slot,
  Unavailable,
  WrongType,
  type GatewayOptions,
} from "../src/index.js";
import { account, eventually, Lines, PATIENT, Server, unique, withGateway } from "./servers.js";

const MONTH = { name: "month", kind: "budget", amount: "1000", period: "month" };

/** A test with a server of its own, which it may stop. */
async function withServer(work: (server: Server) => Promise<void>): Promise<void> {
  const server = await Server.start();
  try {
    await work(server);
  } finally {
    await server.close();
  }
}

const quick = (options: GatewayOptions = {}): GatewayOptions => ({
  timeoutMs: 50,
  connectTimeoutMs: 100,
  kept: { everyMs: 20 },
  ...options,
});

async function decisions(gateway: Gateway): Promise<Record<string, readonly [string, string]>> {
  const [allow, tokens, budget, admission, lock, slot, route] = await Promise.all([
    gateway.allow("w", 10),
    gateway.tokens("b", 10, 10),
    gateway.budgets.within("l", [[1, "DAY"]]),
    gateway.admit("a"),
    gateway.lock("lock"),
    gateway.slot("slot", 2),
    gateway.route(["t"]),
  ]);
  const told = { allow, tokens, budget, admission, lock, slot, route };
  return Object.fromEntries(
    Object.entries(told).map(([name, { outcome, reason }]) => [name, [outcome, reason] as const]),
  );
}

test("decisions while it is dead", async () => {
  await withServer(async (server) => {
    await server.stop();
    await withGateway(
      server,
      async (gateway) => {
        const told = await decisions(gateway);
        for (const name of ["allow", "tokens", "slot"]) assert.equal(told[name]?.[0], "degraded", name);
        for (const name of ["budget", "admission", "lock", "route"]) assert.equal(told[name]?.[0], "denied", name);
        for (const [name, [, reason]] of Object.entries(told))
          assert.match(reason, /^(connection|circuit_open)$/, name);
        assert.equal((await gateway.admit("a")).status, 503);
        assert.equal((await gateway.allow("w", 10)).reason, "circuit_open");
        const figures = gateway.figures();
        assert.equal(figures["decisions{family=limits,outcome=degraded,reason=circuit_open}"], 1);
        assert.equal((await gateway.health()).ok, false);
        await assert.rejects(gateway.commands.logLen("q"), Unavailable);
      },
      quick(),
    );
    const open = { limits: "open", slots: "open", budgets: "open", admission: "open" } as const;
    await withGateway(
      server,
      async (gateway) => {
        const told = await decisions(gateway);
        for (const name of ["allow", "tokens", "slot", "budget", "admission", "route"]) {
          assert.equal(told[name]?.[0], "degraded", name);
        }
        assert.equal(told["lock"]?.[0], "denied");
      },
      quick({ away: open }),
    );
    await withGateway(
      server,
      async (gateway) => {
        const told = await decisions(gateway);
        for (const [name, [outcome]] of Object.entries(told)) assert.equal(outcome, "denied", name);
      },
      quick({ away: { limits: "closed", slots: "closed" } }),
    );
  });
});

test("decisions while it accepts and never replies", async () => {
  await withServer(async (server) => {
    await withGateway(
      server,
      async (gateway) => {
        await eventually(async () => (await gateway.allow("w", 1000)).outcome === "admitted");
        server.freeze();
        const began = performance.now();
        const decision = await gateway.allow("w", 1000);
        const took = performance.now() - began;
        assert.deepEqual([decision.outcome, decision.reason], ["degraded", "timeout"]);
        // The bound that the issue names, with room for a machine that does much else.
        assert.ok(took < 2_000, `it took ${String(took)} ms`);
        for (let at = 0; at < 20; at++) await gateway.allow("w", 1000);
        assert.equal((await gateway.health()).circuitsOpen, 1);
        server.thaw();
        await eventually(async () => (await gateway.allow("w", 1000)).outcome === "admitted");
      },
      quick({ pauseMs: 50 }),
    );
  });
});

test("local limits are a share", async () => {
  await withServer(async (server) => {
    await server.stop();
    const away = { admission: { requests: 8, windowMs: 60_000 } };
    await withGateway(
      server,
      async (gateway) => {
        const allowed = [];
        for (let at = 0; at < 4; at++) allowed.push((await gateway.allow("w", 9)).outcome);
        assert.deepEqual(allowed, ["degraded", "degraded", "denied", "denied"]);
        assert.equal((await gateway.allow("w", 9)).reason, "local_limit");
        const admitted = [];
        for (let at = 0; at < 3; at++) admitted.push((await gateway.admit("a")).reason);
        assert.deepEqual(admitted.slice(2), ["local_limit"]);
        assert.equal((await gateway.admit("a")).status, 429);
        const slots = [await gateway.slot("s", 4), await gateway.slot("s", 4)];
        assert.deepEqual(
          slots.map(({ outcome, reason }) => [outcome, reason === "local_limit"]),
          [
            ["degraded", false],
            ["denied", true],
          ],
        );
        assert.equal(await slots[0]?.release(), true);
        assert.equal((await gateway.slot("s", 4)).outcome, "degraded");
      },
      quick({ instances: 4, away }),
    );
  });
});

test("who comes while one tries has its outcome", async () => {
  // When the server is back, nobody is let through without it because another call has not been answered yet.
  await withServer(async (server) => {
    const pauseMs = 400;
    // The longest pause.
    const passed = async (): Promise<void> => await sleep(1.25 * pauseMs);
    await withGateway(
      server,
      async (gateway) => {
        const ask = async (count: number): Promise<Set<string>> => {
          const asked = Array.from({ length: count }, async () => (await gateway.allow("k", 10_000)).outcome);
          return new Set(await Promise.all(asked));
        };
        assert.deepEqual(await ask(1), new Set(["admitted"]));
        await server.frozen(async () => {
          assert.deepEqual(await ask(5), new Set(["degraded"]));
          assert.equal((await gateway.health()).circuitsOpen, 1);
          await passed();
          assert.deepEqual(await ask(20), new Set(["degraded"]));
        });
        const stats = String(await server.run("INFO commandstats"));
        assert.ok(Number(/cmdstat_gw\.allow:calls=(\d+)/.exec(stats)?.[1]) <= 7);
        await passed();
        assert.deepEqual(await ask(20), new Set(["admitted"]));
      },
      { ...quick({ away: { limits: "open" } }), timeoutMs: 2_000, connectTimeoutMs: 1_000, failures: 5, pauseMs },
    );
  });
});

test("a busy event loop is no time-out", async () => {
  // The application holds up the loop for longer than the time-out, again and again: the replies are there meanwhile.
  await withServer(async (server) => {
    const { port } = server;
    const nodeRedis = createClient({ socket: { port, host: "127.0.0.1" } });
    nodeRedis.on("error", () => undefined);
    await nodeRedis.connect();
    const ioredis = server.client();
    for (const client of [ioredis, nodeRedis]) {
      const times = { timeoutMs: 80, connectTimeoutMs: 10, waitingConnections: 1, failures: 1_000 };
      const gateway = new Gateway(client, { ...times, logger: new Lines() });
      const over = new AbortController();
      const held = (async () => {
        while (!over.signal.aborted) {
          const end = performance.now() + 100;
          while (performance.now() < end);
          await new Promise(setImmediate);
        }
      })();
      // Connecting takes several turns of the loop, and the two that wait in the server share a connection.
      const decisions = await Promise.all([
        ...Array.from({ length: 20 }, async () => await gateway.allow("busy", 1_000)),
        gateway.slot("slot", 2, { waitMs: 10 }),
        gateway.slot("slot", 2, { waitMs: 10 }),
      ]);
      over.abort();
      await held;
      assert.deepEqual(new Set(decisions.map(({ outcome, reason }) => `${outcome} ${reason}`)), new Set(["admitted "]));
      for (const slot of decisions) if (slot instanceof Slot) await slot.release();
      await gateway.close();
    }
    ioredis.disconnect();
    nodeRedis.destroy();
  });
});

test("errors of the call are no absence", async () => {
  await withServer(async (server) => {
    await server.run([
      "ACL",
      "SETUSER",
      "weak",
      "on",
      ">secret",
      "~*",
      "+ping",
      "+gw.allow",
      "+client",
      "+hello",
      "+info",
    ]);
    await server.run("SET string x");
    const client = server.client({ username: "weak", password: "secret" });
    const lines = new Lines();
    const gateway = new Gateway(client, { ...PATIENT, failures: 1, logger: lines });
    for (let at = 0; at < 3; at++) {
      await assert.rejects(gateway.allow("k", -1), InvalidArgument);
      await assert.rejects(gateway.allow("string", 1), WrongType);
      await assert.rejects(gateway.budgets.spent("k"), NoPermission);
    }
    assert.equal((await gateway.allow("k", 10)).outcome, "admitted");
    assert.deepEqual(lines.lines, []);
    await gateway.close();
    client.disconnect();
  });
});

test("replies that say that it cannot serve", async () => {
  await withServer(async (server) => {
    await withGateway(server, async (gateway) => {
      const key = unique("w");
      assert.equal((await gateway.allow(key, 10)).outcome, "admitted");
      await server.run("CONFIG SET maxmemory 1");
      const full = await gateway.allow(key, 10);
      assert.deepEqual([full.outcome, full.reason], ["degraded", "oom"]);
      await server.run("CONFIG SET maxmemory 0");
      await server.run("REPLICAOF 127.0.0.1 1");
      const replica = await gateway.allow(key, 10);
      assert.deepEqual([replica.outcome, replica.reason], ["degraded", "readonly"]);
      await server.run("REPLICAOF NO ONE");
      assert.equal((await gateway.allow(key, 10)).outcome, "admitted");
    });
  });
});

test("a limiter's call is sent once", async () => {
  await withServer(async (server) => {
    await withGateway(server, async (gateway) => {
      const key = unique("w");
      await gateway.allow(key, 100);
      const calls = async (): Promise<number> => {
        const stats = String(await server.run("INFO commandstats"));
        return Number(/cmdstat_gw\.allow:calls=(\d+)/.exec(stats)?.[1] ?? 0);
      };
      const before = await calls();
      // The connection goes while the call is under way.
      const asked = server.frozen(async () => {
        const decision = gateway.allow(key, 100);
        await sleep(50);
        return { decision };
      });
      const { decision } = await asked;
      await decision;
      assert.equal(await calls(), before + 1);
    });
  });
});

test("lost connections are replaced", async () => {
  await withServer(async (server) => {
    await withGateway(server, async (gateway) => {
      await gateway.commands.logLen("q");
      for (let at = 0; at < 5; at++) {
        await server.run("CLIENT KILL TYPE normal SKIPME yes");
        assert.equal(await gateway.commands.logLen("q"), 0);
      }
    });
  });
});

test("kept charges arrive once", async () => {
  await withServer(async (server) => {
    await withGateway(
      server,
      async (gateway, lines) => {
        await eventually(async () => (await gateway.health()).ok);
        const key = await account(gateway, "a", MONTH);
        const admission = await gateway.admit(key, { usd: 1 });
        assert.equal(admission.outcome, "admitted");
        await server.frozen(async () => {
          const kept = await Promise.all([
            admission.settle({ usd: "0.25" }),
            gateway.budgets.charge(key, "0.5", { id: "one" }),
            gateway.budgets.charge(key, "0.5", { id: "one" }),
          ]);
          assert.deepEqual(kept, ["kept", "kept", "kept"]);
          assert.equal(gateway.kept, 3);
        });
        await eventually(() => gateway.kept === 0);
        assert.equal(await gateway.commands.spent(key), "0.75");
        assert.ok(lines.lines.every((line) => !line.includes(key)));
      },
      quick({ timeoutMs: 1_000, connectTimeoutMs: 1_000, failures: 100 }),
    );
  });
});

test("a pause doubles nothing", async () => {
  await withServer(async (server) => {
    const client = server.client();
    const lines = new Lines();
    const gateway = new Gateway(client, { logger: lines, away: { admission: "open" }, kept: { everyMs: 50 } });
    const key = unique("a");
    await server.run(["GW.POLICYPUT", key, JSON.stringify({ policies: [MONTH] })]);
    const logs = gateway.logs("log", { everyMs: 10, json: false });
    const ended = { at: 0 };
    let told = 0;
    const load = async (): Promise<void> => {
      while (ended.at === 0) {
        const admission = await gateway.admit(key, { usd: "0.01" });
        await sleep(2);
        await admission.settle({ usd: "0.001" });
        logs.push(`record ${String(told)}`);
        told += 1;
      }
    };
    const all = Promise.all(Array.from({ length: 8 }, load));
    await sleep(200);
    server.freeze();
    await sleep(600);
    server.thaw();
    await sleep(300);
    ended.at = 1;
    await all;
    await eventually(async () => {
      await logs.flush();
      return gateway.kept === 0 && logs.size === 0;
    }, 60_000);
    const thousandths = Math.round(Number(await server.run(`GW.SPENT ${key}`)) * 1_000);
    assert.equal(thousandths, told);
    assert.equal(await server.run("GW.LOGLEN log"), told);
    const described = await eventuallyDescribed(server, key);
    assert.equal(described, 0);
    await gateway.close();
    client.disconnect();
  });
});

async function eventuallyDescribed(server: Server, key: string): Promise<number> {
  const read = async (): Promise<number> => {
    const flat = (await server.run(`GW.DESCRIBE ${key}`)) as unknown[];
    return Number(flat[flat.indexOf("in_flight") + 1]);
  };
  await eventually(async () => (await read()) === 0);
  return await read();
}

test("a full buffer of charges counts what it drops", async () => {
  await withServer(async (server) => {
    await server.stop();
    await withGateway(
      server,
      async (gateway) => {
        const outcomes = [];
        for (let at = 0; at < 4; at++) outcomes.push(await gateway.budgets.charge("l", 1));
        assert.deepEqual(outcomes, ["kept", "kept", "given_up", "given_up"]);
        assert.equal(gateway.figures()["kept_dropped"], 2);
      },
      quick({ kept: { count: 2, everyMs: 60_000 } }),
    );
  });
});

test("what is kept is sent with a time-out and connections of its own", async () => {
  await withServer(async (server) => {
    await withGateway(
      server,
      async (gateway) => {
        await eventually(async () => (await gateway.health()).ok);
        await server.frozen(async () => assert.equal(await gateway.budgets.charge("l", 1), "kept"));
        // Requests do not ask this server for an hour.
        await eventually(async () => (await gateway.sendKept()) === 1);
        assert.equal(await server.run("GW.SPENT l"), "1");
        assert.equal((await gateway.allow("k", 1)).reason, "circuit_open");
      },
      { timeoutMs: 50, failures: 1, pauseMs: 3_600_000, kept: { everyMs: 3_600_000 } },
    );
  });
});

test("a server that takes no more connections is away", async () => {
  await withServer(async (server) => {
    const ioredis = server.client({ lazyConnect: true });
    const nodeRedis = createClient({ socket: { port: server.port, host: "127.0.0.1" } });
    for (const client of [ioredis, nodeRedis]) {
      await server.run("CONFIG SET maxclients 1");
      const gateway = new Gateway(client, { ...PATIENT, logger: new Lines(), kept: { everyMs: 3_600_000 } });
      assert.equal((await gateway.allow("w", 10)).outcome, "degraded");
      assert.equal(await gateway.budgets.charge("l", "0.5"), "kept");
      await server.run("CONFIG SET maxclients 100");
      await eventually(async () => (await gateway.sendKept()) === 1);
      assert.equal((await gateway.allow("w", 10)).outcome, "admitted");
      await gateway.close();
      await eventually(async () => String(await server.run("INFO clients")).includes("connected_clients:1\r"));
    }
  });
});

test("closing leaves no connection behind", async () => {
  await withServer(async (server) => {
    const clients = async (): Promise<string> => String(await server.run("INFO clients"));
    const client = server.client({ lazyConnect: true });
    const gateway = new Gateway(client, { ...PATIENT, logger: new Lines() });
    assert.equal((await gateway.lock("lock", { ttlMs: 60_000 })).ok, true);
    // Whoever waits for a lock is told at the end that there is none.
    const waits = gateway.lock("lock", { waitMs: 3_600_000 });
    await eventually(async () => (await clients()).includes("blocked_clients:1"));
    await gateway.close(1);
    assert.equal((await waits).ok, false);
    await eventually(async () => (await clients()).includes("connected_clients:1\r"));
    // Nor does a call that comes too late make one.
    await assert.rejects(gateway.commands.logLen("q"), Unavailable);
    assert.match(await clients(), /connected_clients:1\r/);
  });
});
