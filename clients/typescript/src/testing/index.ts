// For the tests of programs that use this package: a gateway without a server.

export { FakeRedis } from "./fakeRedis.js";
export { NotInFake } from "./words.js";
