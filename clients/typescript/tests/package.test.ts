// The package as its users have it: packed, installed into an empty project, and the README's code runs from there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { blocks, PARTS } from "./readme.js";
import { Server } from "./servers.js";
import { PACKAGE } from "./vectors.js";

const run = promisify(execFile);
const ROOT = path.join(PACKAGE, "..", "..");
const README = blocks();

interface Manifest {
  readonly version: string;
  readonly exports: Readonly<Record<string, unknown>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

function block(label: string): string {
  const found = README.get(label);
  assert.ok(found !== undefined, label);
  return found;
}

function replaced(text: string, old: string, by: string): string {
  assert.ok(text.includes(old), old);
  return text.replaceAll(old, () => by);
}

const EXAMPLES = ["example", "example-node-redis", "example-fake"];

test("every code block of the README is executed", () => {
  const executed = [
    "sh install",
    ...EXAMPLES.flatMap((name) => [`ts ${name}`, `text ${name}-output`]),
    ...Object.keys(PARTS).map((name) => `ts ${name}`),
  ];
  assert.deepEqual([...README.keys()].sort(), executed.sort());
});

test("the examples run from an empty project", async (t) => {
  assert.ok(existsSync(path.join(PACKAGE, "dist")), "build the package first: npm run build");
  const project = mkdtempSync(path.join(tmpdir(), "gw-package-"));
  const server = await Server.start();
  t.after(async () => {
    await server.close();
    rmSync(project, { recursive: true, force: true });
  });
  const manifest = JSON.parse(readFileSync(path.join(PACKAGE, "package.json"), "utf8")) as Manifest;
  const { devDependencies } = manifest;
  // What the README packs, but as it is built now.
  const [, folder = ""] = /npm pack (\S+)\)/.exec(block("sh install")) ?? [];
  await run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", project, folder], { cwd: ROOT });
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
  const port = String(server.port);
  for (const name of EXAMPLES) {
    const code = block(`ts ${name}`).replaceAll("6379", port);
    for (const ending of ["mts", "cts"]) writeFileSync(path.join(project, `${name}.${ending}`), code);
  }
  for (const [name, { around }] of Object.entries(PARTS)) {
    let code = block(`ts ${name}`);
    if (name === "away") code = replaced(code, "/var/lib/gateway/kept", path.join(project, "kept"));
    writeFileSync(path.join(project, `${name}.mts`), replaced(replaced(around, "BLOCK", code), "6379", port));
  }
  // What the middleware is for.
  const lent = ["@ai-sdk", "hono"].map((name) => path.join("node_modules", name));
  for (const name of lent) symlinkSync(path.join(PACKAGE, name), path.join(project, name));
  const compiler = path.join(PACKAGE, "node_modules", "typescript", "bin", "tsc");
  await run(process.execPath, [compiler], { cwd: project }).catch((error: unknown) => {
    assert.fail((error as { stdout: string }).stdout);
  });
  const node = async (...words: string[]): Promise<string> => {
    return (await run(process.execPath, words, { cwd: project })).stdout;
  };
  for (const name of EXAMPLES) {
    for (const ending of ["mjs", "cjs"]) {
      await server.run("FLUSHALL");
      assert.equal(await node(`${name}.${ending}`), block(`text ${name}-output`), `${name}.${ending}`);
    }
  }
  await server.run("FLUSHALL");
  const parts = Object.keys(PARTS).map((name) => `console.log("${name}:"); await import("./${name}.mjs");`);
  const printed = Object.entries(PARTS).map(([name, { prints }]) => `${name}:\n${prints}`);
  assert.equal(await node("--input-type=module", "-e", parts.join("\n")), printed.join(""));
  for (const name of lent) rmSync(path.join(project, name));
  // Each entry can be had as both kinds of module, where what it is for is installed.
  const entries = ["redis-gateway", "redis-gateway/fetch", "redis-gateway/ai", "redis-gateway/testing"];
  await node("--input-type=module", "-e", entries.map((entry) => `await import("${entry}");`).join("\n"));
  await node("-e", entries.map((entry) => `require("${entry}");`).join("\n"));
  // There is one copy of each class, however it is had: `instanceof` holds for errors of either.
  const both = `const { createRequire } = await import("node:module");
    const required = createRequire(process.cwd() + "/x.js");
    for (const entry of ["redis-gateway", "redis-gateway/testing"]) {
      const [one, other] = [await import(entry), required(entry)];
      const differ = Object.keys(other).filter((name) => one[name] !== other[name]);
      if (Object.keys(other).length === 0 || differ.length > 0) throw new Error(entry + ": " + differ.join());
    }`;
  await node("--input-type=module", "-e", both);
  assert.ok(!existsSync(path.join(project, "node_modules", "@opentelemetry")));
});

test("the lock file names no registry", () => {
  const lock = readFileSync(path.join(PACKAGE, "package-lock.json"), "utf8");
  assert.doesNotMatch(lock, /"resolved"/);
});
