#!/usr/bin/env bash
# Builds the fuzz targets of fuzz/, gives each its seeds, and runs them. Ends at the first finding, and says how to repeat
# it. What one run has learned is where the next one begins (target/fuzz/corpus).
#
#   FUZZ_TARGETS="queue json"   some of the targets instead of all
#   FUZZ_RUNS=1000000           inputs for each target
#   FUZZ_SECONDS=60             seconds for each target, whichever comes first; a minute if neither is given
#   FUZZ_SEED=1                 makes a run repeatable: it begins with the seeds alone, and keeps nothing
#   FUZZ_JOBS=2                 targets that run at once
#   FUZZ_SANITIZER=address      with AddressSanitizer, which watches the module's unsafe code; needs a nightly compiler
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# libFuzzer is C++.
command -v c++ >/dev/null || apt_install g++

target=${CARGO_TARGET_DIR:-$root/target}
host=$(rustc -vV | sed -n 's/^host: //p')
# The flags of cargo-fuzz: every edge is counted, and what is compared is shown to the fuzzer.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing)
build=(cargo build)
built=$target
case ${FUZZ_SANITIZER:-} in
  '') ;;
  address)
    build=(cargo +nightly build)
    # Other flags for the same files: beside each other, they would be built anew each time.
    built=$target/fuzz/address
    cargo +nightly --version >/dev/null 2>&1 ||
      rustup toolchain install nightly --profile minimal >&2 ||
      fail "there is no nightly compiler, which FUZZ_SANITIZER=address needs" "Leave FUZZ_SANITIZER out."
    flags+=(-Zsanitizer=address)
    ;;
  *) fail "no such sanitizer: $FUZZ_SANITIZER" "There is address." ;;
esac

all=$(sed -n '/^\[\[bin\]\]/,/^path/ s/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml)
read -ra names <<<"${FUZZ_TARGETS:-${all//$'\n'/ }}"

RUSTFLAGS="${flags[*]}" "${build[@]}" --manifest-path fuzz/Cargo.toml --release --locked \
  --target "$host" --target-dir "$built" "${names[@]/#/--bin=}"

found=$target/fuzz/found
mkdir -p "$found" "$target/fuzz/log"

# fuzz NAME: one target. Its output goes to a file; a line tells what came of it.
fuzz() {
  local name=$1 program=$built/$host/release/$1 seeds=$target/fuzz/seeds/$1 log=$target/fuzz/log/$1
  local corpus=$target/fuzz/corpus/$1 bound=()
  rm -rf "$seeds" "$seeds.dict"
  FUZZ_SEEDS=$seeds "$program" >/dev/null 2>"$log" || { cat "$log" >&2; return 1; }
  if [ -n "${FUZZ_RUNS:-}" ]; then bound+=(-runs="$FUZZ_RUNS"); fi
  if [ -n "${FUZZ_SECONDS:-}" ]; then bound+=(-max_total_time="$FUZZ_SECONDS"); fi
  if [ ${#bound[@]} = 0 ]; then bound=(-max_total_time=60); fi
  if [ -n "${FUZZ_SEED:-}" ]; then
    bound+=(-seed="$FUZZ_SEED")
    corpus=$(mktemp -d)
  fi
  # libFuzzer refuses an empty dictionary.
  if [ -s "$seeds.dict" ]; then bound+=(-dict="$seeds.dict"); fi
  mkdir -p "$corpus"
  # Threads of the module live as long as the process, and so do the tables that are made at load.
  local status=0 started=$SECONDS
  ASAN_OPTIONS=detect_leaks=0 "$program" "$corpus" "$seeds" "${bound[@]}" -max_len=4096 -len_control=10 \
    -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$found/$name-" >"$log" 2>&1 || status=$?
  if [ -n "${FUZZ_SEED:-}" ]; then rm -rf "$corpus"; fi
  if [ "$status" != 0 ]; then
    tail -n 40 "$log" >&2
    say "FOUND by $name. To repeat it: $program $found/$name-…"
    return 1
  fi
  local runs
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%-10s %9d inputs %7d a second\n' "$name" "$runs" $((runs / (SECONDS - started > 0 ? SECONDS - started : 1)))
}
export -f fuzz say
export target built host found

printf '%s\n' "${names[@]}" | xargs -P "${FUZZ_JOBS:-$(nproc)}" -I NAME bash -euo pipefail -c 'fuzz NAME || exit 255'
