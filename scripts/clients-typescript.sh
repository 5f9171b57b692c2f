#!/usr/bin/env bash
# Checks the TypeScript client: its types, lints and format, its tests against the server that GW_SERVER names, and the package:
# built, packed, installed into an empty project, and the README's examples run from there, as ES modules and as CommonJS.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

client=$root/clients/typescript
# scripts/clients.sh has installed it, or has said in .tools/skipped why not.
[ -d "$client/node_modules" ] || exit 0
export GW_MODULE=${GW_MODULE:-${CARGO_TARGET_DIR:-$root/target}/release/libredis_gateway.so}
[ -e "$GW_MODULE" ] || fail "there is no $GW_MODULE" "Build it with cargo build --release."

cd "$client"
bin=node_modules/.bin
# The lints and the tests use one core each.
{ "$bin/eslint" . && "$bin/prettier" --check --log-level warn .; } >"$root/.tools/typescript-lint.out" 2>&1 &
lints=$!
rm -rf .build
"$bin/tsc" --project tests/tsconfig.json
node tools/build.mjs
timeout --foreground 10m node --expose-gc --test --test-concurrency=4 --test-timeout=300000 --test-reporter=tap .build/tests/*.test.js >"$root/.tools/typescript-tests.out" 2>&1 || {
  cat "$root/.tools/typescript-tests.out"
  kill "$lints" 2>/dev/null || true
  exit 1
}
grep -E '^# (tests|pass|fail) ' "$root/.tools/typescript-tests.out"
wait "$lints" || { cat "$root/.tools/typescript-lint.out"; exit 1; }
