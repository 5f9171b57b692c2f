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

# The tests wait more than they work, so they run in several parts at the same time, beside the type checkers.
export PYTHONDONTWRITEBYTECODE=1
pytest=(-m pytest -p no:cacheprovider --no-header -rs)
part mypy "$python/mypy" --cache-dir "$root/.tools/mypy-python-client"
part pyright "$python/pyright" --pythonpath "$python/python"
part async-1 "$python/python" "${pytest[@]}" tests/_async/test_[a-k]*.py
part async-2 "$python/python" "${pytest[@]}" tests/_async/test_[l-z]*.py
part sync-1 "$python/python" "${pytest[@]}" tests/_sync/test_[a-k]*.py
part sync-2 "$python/python" "${pytest[@]}" tests/_sync/test_[l-z]*.py
# scripts/clients-spec.sh runs test_commands.py and test_vectors_*.py.
part others "$python/python" "${pytest[@]}" tests/test_c[ai]*.py tests/test_[d-u]*.py
part oldest-redis-py "$root/.tools/python-client-oldest/bin/python" "${pytest[@]}" \
  tests/_async/test_admission.py tests/_sync/test_admission.py tests/_async/test_away.py

end_parts
