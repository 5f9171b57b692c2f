#!/usr/bin/env bash
# Checks the plugin for LiteLLM: its types, its format, and its tests, which start LiteLLM's real proxy and the server that
# GW_SERVER names. GW_LITELLM=fast leaves out what is marked as long: each case of the plugin is tested in its cheapest form.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

plugin=$root/clients/litellm
python=$root/.tools/litellm/bin
# scripts/clients.sh has installed it, or has said in .tools/skipped why not.
[ -x "$python/python" ] || exit 0
export GW_MODULE=${GW_MODULE:-${CARGO_TARGET_DIR:-$root/target}/release/libredis_gateway.so}
[ -e "$GW_MODULE" ] || fail "there is no $GW_MODULE" "Build it with cargo build --release."

cd "$plugin"
"$python/ruff" format --quiet --check .
"$python/ruff" check --quiet .

export PYTHONDONTWRITEBYTECODE=1
pytest=(-m pytest -p no:cacheprovider --no-header -rs)
if [ "${GW_LITELLM:-}" = fast ]; then pytest+=(-m "not long"); fi
# Each part has its own proxies. They start long, and then wait more than they work.
part_limit=20m
part litellm-mypy env MYPYPATH="$root/clients/python/src" "$python/mypy" --cache-dir "$root/.tools/mypy-litellm"
shared=(tests/test_{settlement,replicas,cache,refusals,policies,records,metrics,own_limits}.py)
part litellm-replicas "$python/python" "${pytest[@]}" "${shared[@]}"
part litellm-others "$python/python" "${pytest[@]}" tests "${shared[@]/#/--ignore=}"
end_parts
