#!/usr/bin/env bash
# Goes through every page of the companion's console in headless Chromium. Playwright is in .tools/console, pinned by its hash;
# Chromium is the system's.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! command -v npm >/dev/null || ! { node --version | grep -Eq '^v(2[0-9]|[3-9][0-9])'; } 2>/dev/null; then
  skip "the console in a browser: it needs npm and Node 20 or later"
  exit 0
fi
chromium=$(command -v chromium || true)
if [ -z "$chromium" ]; then
  (apt_install chromium) || true
  chromium=$(command -v chromium || true)
  if [ -z "$chromium" ]; then
    skip "the console in a browser: there is no Chromium"
    exit 0
  fi
fi
mkdir -p .tools/console
cp companion/tests/console/package.json companion/tests/console/package-lock.json .tools/console/
if ! cmp -s .tools/console/package-lock.json .tools/console/installed; then
  (cd .tools/console && npm ci --silent --no-audit --no-fund) || fail "npm could not install what companion/tests/console names"
  cp .tools/console/package-lock.json .tools/console/installed
fi
use_built_module
export CHROMIUM=$chromium GW_PLAYWRIGHT=$root/.tools/console/node_modules/playwright-core
timeout --foreground 10m cargo test -p gw --test console -- browser::
