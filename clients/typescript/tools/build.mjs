// Builds the package: as CommonJS, with its types, and a module for each entry that passes that on.
//
// So there is one copy of each class in a program, also if one part of it imports the package and another requires it: an
// error that is thrown in one is `instanceof` the other's class.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const root = path.join(import.meta.dirname, "..");
const require = createRequire(import.meta.url);
const tsc = path.join(path.dirname(require.resolve("typescript/package.json")), "bin", "tsc");
const dist = (...names) => path.join(root, "dist", ...names);

rmSync(dist(), { recursive: true, force: true });
const kind = ["--module", "commonjs", "--moduleResolution", "bundler", "--verbatimModuleSyntax", "false"];
const args = [tsc, "--project", path.join(root, "tsconfig.build.json"), "--outDir", dist("cjs"), ...kind];
execFileSync(process.execPath, args, { stdio: "inherit" });
// Says of the files in a folder what they are, whatever the package itself is.
writeFileSync(dist("cjs", "package.json"), '{"type":"commonjs"}\n');

const { exports } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
for (const entry of Object.values(exports).filter((entry) => typeof entry === "object")) {
  const module = path.join(root, entry.import.default);
  const target = path.join(root, entry.require.default);
  const names = Object.keys(require(target)).filter((name) => name !== "__esModule");
  const from = JSON.stringify(path.relative(path.dirname(module), target));
  mkdirSync(path.dirname(module), { recursive: true });
  writeFileSync(module, `export {\n${names.map((name) => `  ${name},\n`).join("")}} from ${from};\n`);
  writeFileSync(path.join(root, entry.import.types), `export * from ${from};\n`);
}
writeFileSync(dist("esm", "package.json"), '{"type":"module"}\n');
