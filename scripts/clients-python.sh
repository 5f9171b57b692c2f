#!/usr/bin/env bash
# Checks the Python client: its types, that the synchronous half is made from the asynchronous one, its tests against the server
# that GW_SERVER names, with the newest redis-py and the oldest, and the package: built, installed into an empty environment, and
# the README's examples run from there.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

client=$root/clients/python
python=$root/.tools/python-client/bin
# scripts/clients.sh has installed it, or has said in .tools/skipped why not.
[ -x "$python/python" ] || exit 0
export GW_MODULE=${GW_MODULE:-${CARGO_TARGET_DIR:-$root/target}/release/libredis_gateway.so}
[ -e "$GW_MODULE" ] || fail "there is no $GW_MODULE" "Build it with cargo build --release."

cd "$client"
"$python/python" tools/unasync.py --check
"$python/ruff" format --quiet --check .
"$python/ruff" check --quiet .
"$python/mypy" --no-error-summary --cache-dir "$root/.tools/mypy-python-client"
"$python/pyright" --pythonpath "$python/python" >"$root/.tools/pyright.out" || { cat "$root/.tools/pyright.out"; exit 1; }

# The tests wait more than they work, so both halves run at the same time.
export PYTHONDONTWRITEBYTECODE=1
tests() { timeout --foreground 10m "$1/python" -m pytest -p no:cacheprovider --no-header "${@:2}"; }
tests "$python" tests/_async >"$root/.tools/tests-async.out" 2>&1 &
half=$!
tests "$python" tests/_sync tests/test_c[ai]*.py tests/test_fake.py tests/test_package.py tests/test_process.py tests/test_telemetry.py tests/test_extras.py || {
  kill "$half" 2>/dev/null || true
  exit 1
}
wait "$half" || { cat "$root/.tools/tests-async.out"; exit 1; }
tail -1 "$root/.tools/tests-async.out"
tests "$root/.tools/python-client-oldest/bin" tests/_async/test_admission.py tests/_sync/test_admission.py tests/_async/test_away.py
