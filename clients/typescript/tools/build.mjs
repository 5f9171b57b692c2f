// Builds the package twice: as ES modules and as CommonJS, each with its types.

import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const root = path.join(import.meta.dirname, "..");
const tsc = path.join(path.dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
const kinds = [
  { name: "esm", type: "module", options: [] },
  {
    name: "cjs",
    type: "commonjs",
    options: ["--module", "commonjs", "--moduleResolution", "bundler", "--verbatimModuleSyntax", "false"],
  },
];

rmSync(path.join(root, "dist"), { recursive: true, force: true });
for (const { name, type, options } of kinds) {
  const out = path.join(root, "dist", name);
  const args = [tsc, "--project", path.join(root, "tsconfig.build.json"), "--outDir", out, ...options];
  execFileSync(process.execPath, args, { stdio: "inherit" });
  mkdirSync(out, { recursive: true });
  // Says of the files in this folder what they are, whatever the package itself is.
  writeFileSync(path.join(out, "package.json"), JSON.stringify({ type }) + "\n");
}
