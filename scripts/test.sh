#!/usr/bin/env bash
# All checks that must pass before a change is accepted: format, lints, the source's structure, unit tests, the docs,
# then the integration tests on every server of the matrix. Stops at the first failure, and says at the end how long
# each phase took and what was skipped.
#
# SERVERS names some of the servers: SERVERS="system valkey-8.1". With GW_LIVE=full the tests under load take their full
# length, a minute and more each, instead of some seconds, and so does the plugin for LiteLLM. GW_SEED is the seed of those
# on clusters; one that fails prints it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The code in the docs runs in its own languages, with the real clients.
missing=()
command -v python3 >/dev/null || missing+=(python3)
command -v node >/dev/null || missing+=(nodejs)
command -v curl >/dev/null || missing+=(curl)
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"

# What the clients need is fetched while Rust compiles: the one waits for the network, the other for the processor.
mkdir -p .tools
scripts/clients.sh >.tools/clients.out 2>&1 &
installing=$!
trap 'print_phases; kill "$installing" 2>/dev/null || true' EXIT

target=${CARGO_TARGET_DIR:-$root/target}
names=(system)
for directory in .servers/*/; do
  name=$(basename "$directory")
  if [ -e "$directory/wheel" ]; then names+=("$name"); fi
done
if [ -n "${SERVERS:-}" ]; then read -ra names <<<"$SERVERS"; fi
for name in "${names[@]}"; do
  [ -n "$(GW_SERVER=$name server_path)" ] || fail "there is no server $name" "Run scripts/servers.sh."
done

if cargo fmt --version >/dev/null 2>&1; then
  phase "Format"
  cargo fmt --all --check
  cargo fmt --manifest-path fuzz/Cargo.toml --check
else
  skip "Format: this toolchain has no rustfmt (rustup component add rustfmt)"
fi

if cargo clippy --version >/dev/null 2>&1; then
  phase "Lints"
  cargo clippy --workspace --all-targets -- -D warnings
  cargo clippy --features fault-injection -- -D warnings
else
  skip "Lints: this toolchain has no clippy (rustup component add clippy)"
fi

phase "Structure"
cargo test --test structure

phase "Unit tests"
cargo test --workspace --lib --bins
cargo test --workspace --doc

phase "Docs"
scripts/docs.sh

phase "The module"
cargo build --release
# A module that panics on demand. It is a debug build, whose dependencies were compiled for the unit tests. It is
# copied, since the tests' own build overwrites it with a module without the feature.
cargo build --features fault-injection
mkdir -p "$target/faulty"
cp "$target/debug/libredis_gateway.so" "$target/faulty/"
export GW_MODULE_FAULTY=$target/faulty/libredis_gateway.so

# From the seeds alone and by the same choices each time, so that a change is not blamed for what it has not done;
# `make fuzz` looks for more.
phase "Fuzz targets"
FUZZ_SEED=1 FUZZ_RUNS=${FUZZ_RUNS:-20000} FUZZ_SECONDS=${FUZZ_SECONDS:-5} scripts/fuzz.sh

phase "Tests, compiled"
cargo test --no-run --package gw-testkit --test servers
cargo test --no-run --test suite --test cluster
cargo test --no-run --package gw --package gw-demo --test '*'

phase "Clients, installed"
wait "$installing" || { cat .tools/clients.out && fail "what the clients need could not be installed"; }
cat .tools/clients.out
while IFS= read -r line; do skip "$line"; done <.tools/skipped

phase "Clients' spec"
SERVERS="${names[*]}" scripts/clients-spec.sh

phase "The Python client on ${names[0]}"
GW_SERVER=${names[0]} scripts/clients-python.sh

phase "The plugin for LiteLLM on ${names[0]}"
if [ "${GW_LIVE:-}" != full ]; then export GW_LITELLM=fast; fi
GW_SERVER=${names[0]} scripts/clients-litellm.sh

phase "The TypeScript client on ${names[0]}"
GW_SERVER=${names[0]} scripts/clients-typescript.sh

phase "The Go client on ${names[0]}"
GW_SERVER=${names[0]} scripts/clients-go.sh

phase "The Rust client on ${names[0]}"
GW_SERVER=${names[0]} scripts/clients-rust.sh

phase "The companion on ${names[0]}"
GW_SERVER=${names[0]} scripts/companion.sh
while IFS= read -r line; do skip "$line"; done <.tools/companion-skipped

phase "What deploys and observes it"
GW_SERVER=${names[0]} scripts/deploy.sh
while IFS= read -r line; do skip "$line"; done <.tools/deploy-skipped

# The suite mostly waits, for servers to start and leases to end. So more tests run at once than there are cores.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}

for name in "${names[@]}"; do
  server=$(GW_SERVER=$name server_path)
  phase "Suite on $(server_version "$server") ($name)"
  GW_SERVER=$name cargo test --package gw-testkit --test servers
  # The guard's test is ignored unless asked for: it needs the faulty build.
  # A server that hangs would keep its test waiting for ever.
  GW_SERVER=$name timeout --foreground 15m cargo test --test suite -- --include-ignored
  phase "Clusters on $(server_version "$server") ($name)"
  GW_SERVER=$name timeout --foreground 15m cargo test --test cluster
  phase "The demo on $(server_version "$server") ($name)"
  GW_SERVER=$name timeout --foreground 15m cargo test --package gw-demo --test '*'
done

finished="All tests passed, on: ${names[*]}"
