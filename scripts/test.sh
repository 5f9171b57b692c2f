#!/usr/bin/env bash
# Everything that has to hold before a change goes in: format, lints, unit tests, then the integration tests on every
# server of the matrix. Stops at the first failure. SERVERS names some of them: SERVERS="system valkey-8.1". With
# GW_LIVE=full the tests under load take their full length, a minute and more each, instead of some seconds.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The documentation's code runs in the languages it is written in, with the real clients.
missing=()
command -v python3 >/dev/null || missing+=(python3)
command -v node >/dev/null || missing+=(nodejs)
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
scripts/clients.sh

heading() { printf '\n==== %s\n' "$*"; }

target=${CARGO_TARGET_DIR:-$root/target}
names=(system)
for directory in .servers/*/; do
  name=$(basename "$directory")
  if [ -e "$directory/wheel" ]; then names+=("$name"); fi
done
if [ -n "${SERVERS:-}" ]; then read -ra names <<<"$SERVERS"; fi

heading "Format"
cargo fmt --all --check

heading "Lints"
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --features fault-injection -- -D warnings

heading "Unit tests"
cargo test --workspace --lib --bins
cargo test --workspace --doc

heading "The module, and a build of it that panics on demand"
cargo build --release
cargo build --release --features fault-injection --target-dir "$target/fault-injection"
export GW_MODULE_FAULTY=$target/fault-injection/release/libredis_gateway.so

for name in "${names[@]}"; do
  server=$(GW_SERVER=$name server_path)
  [ -n "$server" ] || fail "there is no server $name" "Run scripts/servers.sh."
  heading "Integration tests on $(server_version "$server") ($name)"
  GW_SERVER=$name cargo test --package gw-testkit --test servers
  # The guard's test is ignored unless asked for: it needs the faulty build.
  # A server that hangs would keep its test waiting for ever.
  GW_SERVER=$name timeout --foreground 15m cargo test --test suite -- --include-ignored
  GW_SERVER=$name timeout --foreground 15m cargo test --package gw-cost-sync --package gw-log-shipper --test '*'
done

heading "All tests passed, on: ${names[*]}"
