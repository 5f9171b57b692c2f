#!/usr/bin/env bash
# Runs the suite repeatedly while both cores are busy with something else, and counts the failed runs. The first
# argument is the number of runs (10); GW_SERVER names the server (the system's). Tests that judge how fast something is
# fail here.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

runs=${1:-10}
target=${CARGO_TARGET_DIR:-$root/target}
cargo build --release
cargo build --features fault-injection
mkdir -p "$target/faulty"
cp "$target/debug/libredis_gateway.so" "$target/faulty/"
export GW_MODULE_FAULTY=$target/faulty/libredis_gateway.so
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
cargo test --no-run --test suite

busy=()
# shellcheck disable=SC2317 # The trap below calls it.
stop() { [ ${#busy[@]} = 0 ] || kill "${busy[@]}" 2>/dev/null || true; }
trap stop EXIT
for ((core = 0; core < $(nproc); core++)); do
  while :; do :; done &
  busy+=($!)
done

log=$(mktemp)
failed=0
for ((run = 1; run <= runs; run++)); do
  start=$SECONDS
  if timeout --foreground 30m cargo test --test suite -- --include-ignored --skip golden::write >"$log" 2>&1; then
    outcome=passed
  else
    outcome=FAILED
    failed=$((failed + 1))
    cat "$log"
  fi
  say "run $run of $runs: $outcome in $((SECONDS - start)) s: $(grep '^test result' "$log" || echo 'no result')"
done
rm -f "$log"
say "$((runs - failed)) passed, $failed failed, with $(nproc) busy loops beside them"
[ "$failed" = 0 ]
