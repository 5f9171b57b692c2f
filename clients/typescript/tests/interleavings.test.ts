// Random interleavings of everything that can happen to an admission.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { addAmounts, type Admission } from "../src/index.js";
import { account, eventually, Server, withGateway } from "./servers.js";

const COUNT = 1_000;

async function* pieces(random: () => number): AsyncGenerator<{ usd: string }> {
  for (let at = 1; at <= 3; at++) {
    if (random() < 0.3) await sleep(random() * 3);
    if (random() < 0.1) throw new Error("the model has failed");
    yield { usd: `0.00${String(at)}` };
  }
}

async function one(admission: Admission, random: () => number): Promise<void> {
  const way = Math.floor(random() * 7);
  const stream = admission.stream(pieces(random), (piece) => piece);
  try {
    if (way === 0) await stream.return?.();
    if (way === 1) for await (const piece of stream) if (piece.usd === "0.001") break;
    if (way === 2) for await (const piece of stream) assert.ok(piece);
    if (way === 3) await Promise.all([admission.settle(), admission.undo(), admission.settle({ usd: 1 })]);
    if (way === 4) await admission.readable(pieces(random)).cancel();
    if (way === 5) admission.use({ usd: "0.005" });
    if (way === 6) {
      void stream.next().catch(() => undefined);
      await admission.settle({ usd: "0.007" });
      await stream.return?.();
    }
  } catch (error) {
    assert.match(String(error), /the model has failed/);
  } finally {
    await admission.settle();
  }
}

test("each is settled exactly once", async () => {
  const server = await Server.start();
  const seed = Number(process.env["GW_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  let state = seed;
  const random = (): number => (state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff) / 2 ** 31;
  await withGateway(
    server,
    async (gateway) => {
      const key = await account(gateway, "a", { name: "month", kind: "budget", amount: "100000", period: "month" });
      const ended: Admission[] = [];
      let left = COUNT;
      let aborted = 0;
      const worker = async (): Promise<void> => {
        while (left-- > 0) {
          const controller = new AbortController();
          const asked = gateway.admit(key, { usd: "0.01" }, { signal: controller.signal });
          if (random() < 0.1) controller.abort();
          try {
            const admission = await asked;
            ended.push(admission);
            await one(admission, random);
          } catch (error) {
            assert.equal((error as Error).name, "AbortError", `GW_SEED=${String(seed)}`);
            aborted += 1;
          }
        }
      };
      await Promise.all(Array.from({ length: 16 }, worker));
      await eventually(() => gateway.kept === 0);
      assert.equal(ended.length + aborted, COUNT);
      assert.ok(aborted > 0);
      assert.deepEqual(
        new Set(ended.map(({ settlement }) => settlement)),
        new Set(["settled"]),
        `GW_SEED=${String(seed)}`,
      );
      assert.equal(gateway.figures()["settlements{outcome=settled}"], ended.length);
      const described = await gateway.commands.describe(key);
      assert.ok(described?.type === "account");
      assert.equal(described.inFlight, 0);
      // What is aborted costs nothing, and all others what they have told: never more than the dearest of the ways.
      const most = addAmounts(...ended.map(() => "1"));
      assert.ok(Number(await gateway.budgets.spent(key)) <= Number(most));
    },
    { kept: { everyMs: 20 } },
  );
  await server.close();
});
