#!/usr/bin/env bash
# Checks the plugin for LiteLLM: its types, its format, and its tests, which start LiteLLM's real proxy and the server that
# GW_SERVER names. GW_LITELLM=fast leaves out those with several replicas, which take minutes on a busy machine.
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
MYPYPATH=$root/clients/python/src "$python/mypy" --no-error-summary --cache-dir "$root/.tools/mypy-litellm"

export PYTHONDONTWRITEBYTECODE=1
left_out=()
if [ "${GW_LITELLM:-}" = fast ]; then
  for name in replicas cache routing away; do left_out+=(--ignore "tests/test_$name.py"); done
fi
timeout --foreground 20m "$python/python" -m pytest -p no:cacheprovider --no-header "${left_out[@]}"
