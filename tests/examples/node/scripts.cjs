const { Redis } = require("ioredis");
const assert = require("node:assert");

(async () => {
  const redis = new Redis({ port: Number(process.argv[2]), keyPrefix: "app:" });
  defineGatewayCommands(redis);
  assert.deepEqual((await redis.gwAllow("rpm:user:42", 10, "COST", 3)).slice(0, 3), [1, 10, 7]);
  assert.deepEqual(await redis.keys("*"), ["app:rpm:user:42"]);
  await redis.call("GW.POLICYSET", "app:{ml}", "spend", "BUDGET", 10, "TOTAL");
  const [admitted, , rows] = await redis.gwAdmit(2, "{ml}:key:7", "{ml}", "LEASE", "req-1", "TTL", 30000, "usd", "1");
  assert.equal(admitted, 1);
  assert.deepEqual(rows[0].slice(0, 5), ["app:{ml}", "spend", 1, "10", "9"]);
  assert.equal(await redis.gwSettle(1, "{ml}", "LEASE", "req-1", "usd", "2"), "SETTLED");
  assert.equal(await redis.call("GW.SPENT", "app:{ml}"), "2");
  console.log("ok");
  redis.disconnect();
})();
