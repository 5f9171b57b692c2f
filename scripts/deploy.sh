#!/usr/bin/env bash
# Tests what is in deploy/: dashboards and alert rules, held against promtool and, under real traffic of the server that
# GW_SERVER names, a real Prometheus; installation; the runbooks; images and the compose file; the chart.
# With GW_LIVE=full also the release itself: packages built against the oldest glibc, loaded on every server, the .deb installed
# into a fresh Debian, and images built and run. GW_DIST names a folder with packages that are to be tested instead.
# Says what it installs, nearly all of it in .tools; what cannot be had is named in .tools/deploy-skipped.
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
export GW_COMPANION GW_SERVER_PATH PATH=$root/.tools/deploy/bin:$PATH
tests+=(deploy/tests/install.py deploy/tests/runbooks.py)
if use_helm; then
  export HELM=$helm
  tests+=(deploy/tests/kubernetes.py)
else
  missing "the chart: helm could not be built, which takes Go"
fi
if COMPOSE_GO=$(go_program compose-go github.com/compose-spec/compose-go/v2/cmd@v2.16.2); then
  export COMPOSE_GO
  tests+=(deploy/tests/images.py)
else
  missing "images and the compose file: the validator could not be built, which takes Go"
fi
if [ "${GW_LIVE:-}" = full ]; then
  if [ "$(id -u)" != 0 ] || ! { command -v debootstrap >/dev/null || (apt_install debootstrap); } || ! unshare --net true 2>/dev/null; then
    missing "packages, and the .deb in a fresh Debian: they need root, debootstrap and network namespaces"
  else
    paths=()
    for name in system $(ls .servers); do paths+=("$(GW_SERVER=$name server_path)"); done
    GW_SERVER_PATHS=$(printf '%s\n' "${paths[@]}" | sort -u | paste -sd:)
    export GW_SERVER_PATHS
    tests+=(deploy/tests/package.py deploy/tests/release.py)
    if command -v dockerd >/dev/null; then
      tests+=(deploy/tests/containers.py)
    else
      missing "images, built and run: there is no dockerd"
    fi
  fi
fi

ruff format --quiet --check deploy
ruff check --quiet deploy
timeout --foreground 40m pytest --quiet "${tests[@]}"
