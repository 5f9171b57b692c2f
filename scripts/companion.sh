#!/usr/bin/env bash
# Tests the companion against the server that GW_SERVER names, a real PostgreSQL, and an S3 server and a reader of Parquet from
# PyPI. Says what it installs. With GW_LIVE=full the storms of kills take their full length.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

use_built_module
(use_postgres) || skip "the companion's tests with PostgreSQL: it could not be installed"

# Into .tools/companion, anew when the list changes.
wanted=companion/tests/requirements.txt
if [ "$(cat .tools/companion/pins 2>/dev/null)" != "$(cksum <"$wanted")" ]; then
  say "Installing into .tools/companion: $(grep -v '^#' "$wanted" | tr '\n' ' ')"
  rm -rf .tools/companion
  # On Debian and Ubuntu, venv is a package of its own.
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then apt_install python3-venv; fi
  if python3 -m venv .tools/companion &&
    .tools/companion/bin/pip install --quiet --disable-pip-version-check --requirement "$wanted"; then
    cksum <"$wanted" >.tools/companion/pins
  else
    rm -rf .tools/companion
    skip "the companion's tests with S3 and Parquet: pip could not install what $wanted names"
  fi
fi

# The tests mostly wait, so more of them run at once than there are cores.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))} \
  timeout --foreground 15m cargo test --quiet --package gw --test '*'
