#!/usr/bin/env bash
# Tests what is in deploy/: dashboards and alert rules, held against promtool and, under real traffic of the server that
# GW_SERVER names, a real Prometheus. Says what it installs, all of it in .tools; what cannot be had is named in
# .tools/deploy-skipped.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

use_built_module
mkdir -p .tools
: >.tools/deploy-skipped
missing() { printf '%s\n' "$1" | tee -a .tools/deploy-skipped; }

(use_python deploy deploy/tests/requirements.txt) || { rm -rf .tools/deploy && missing "deploy: pip could not install what it needs" && exit; }
tests=()
if use_prometheus; then tests+=(deploy/tests/observe.py deploy/tests/live.py); else missing "alerts and dashboards: Debian's prometheus cannot be had"; fi

cargo build --quiet --package gw
GW_COMPANION=${CARGO_TARGET_DIR:-$root/target}/debug/gw GW_SERVER_PATH=$(server_path)
export GW_COMPANION GW_SERVER_PATH

.tools/deploy/bin/ruff format --quiet --check deploy
.tools/deploy/bin/ruff check --quiet deploy
timeout --foreground 15m .tools/deploy/bin/pytest --quiet "${tests[@]}"
