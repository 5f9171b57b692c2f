// The package as its users have it: packed, installed into an empty project, and the README's examples run from there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { Server } from "./servers.js";
import { PACKAGE } from "./vectors.js";

const run = promisify(execFile);
const README = readFileSync(path.join(PACKAGE, "README.md"), "utf8");

interface Manifest {
  readonly version: string;
  readonly exports: Readonly<Record<string, unknown>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

function block(kind: string): string {
  const found = new RegExp(`\`\`\`${kind}\\n(.*?)\`\`\``, "s").exec(README);
  assert.ok(found, kind);
  return found[1] ?? "";
}

test("the examples run from an empty project", async () => {
  assert.ok(existsSync(path.join(PACKAGE, "dist")), "build the package first: npm run build");
  const project = mkdtempSync(path.join(tmpdir(), "gw-package-"));
  const server = await Server.start();
  const manifest = JSON.parse(readFileSync(path.join(PACKAGE, "package.json"), "utf8")) as Manifest;
  const { devDependencies } = manifest;
  await run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", project], { cwd: PACKAGE });
  const [tarball = ""] = readdirSync(project);
  writeFileSync(path.join(project, "package.json"), JSON.stringify({ name: "empty", private: true }));
  const wanted = ["ioredis", "redis"].map((name) => `${name}@${devDependencies[name] ?? ""}`);
  const quiet = ["--silent", "--no-audit", "--no-fund", "--prefer-offline"];
  await run("npm", ["install", ...quiet, `./${tarball}`, ...wanted], { cwd: project });
  const lib = ["es2022", "esnext.disposable"];
  const types = { types: ["node"], typeRoots: [path.join(PACKAGE, "node_modules", "@types")] };
  const options = { module: "nodenext", target: "es2022", strict: true, lib, ...types };
  writeFileSync(
    path.join(project, "tsconfig.json"),
    JSON.stringify({ compilerOptions: options, include: ["*.mts", "*.cts"] }),
  );
  const kinds = ["", "-node-redis", "-fake"];
  for (const kind of kinds) {
    const code = block(`ts example${kind}`).replaceAll("6379", String(server.port));
    for (const ending of ["mts", "cts"]) writeFileSync(path.join(project, `example${kind}.${ending}`), code);
  }
  await run(process.execPath, [path.join(PACKAGE, "node_modules", "typescript", "bin", "tsc")], { cwd: project });
  for (const kind of kinds) {
    for (const ending of ["mjs", "cjs"]) {
      await server.run("FLUSHALL");
      const { stdout } = await run(process.execPath, [`example${kind}.${ending}`], { cwd: project });
      assert.equal(stdout, block(`text example${kind}-output`), `example${kind}.${ending}`);
    }
  }
  // Each entry can be had as both kinds of module, where what it is for is installed.
  const entries = ["redis-gateway", "redis-gateway/fetch", "redis-gateway/ai", "redis-gateway/testing"];
  const imports = entries.map((entry) => `await import("${entry}");`).join("");
  await run(process.execPath, ["--input-type=module", "-e", imports], { cwd: project });
  const requires = entries.map((entry) => `require("${entry}");`).join("");
  await run(process.execPath, ["-e", requires], { cwd: project });
  // There is one copy of each class, however it is had: `instanceof` holds for errors of either.
  const both = `const { createRequire } = await import("node:module");
    const required = createRequire(process.cwd() + "/x.js");
    for (const entry of ["redis-gateway", "redis-gateway/testing"]) {
      const [one, other] = [await import(entry), required(entry)];
      const differ = Object.keys(other).filter((name) => one[name] !== other[name]);
      if (Object.keys(other).length === 0 || differ.length > 0) throw new Error(entry + ": " + differ.join());
    }`;
  await run(process.execPath, ["--input-type=module", "-e", both], { cwd: project });
  assert.ok(!existsSync(path.join(project, "node_modules", "@opentelemetry")));
  await server.close();
  rmSync(project, { recursive: true, force: true });
});

test("the lock file names no registry", () => {
  const lock = readFileSync(path.join(PACKAGE, "package-lock.json"), "utf8");
  assert.doesNotMatch(lock, /"resolved"/);
});
