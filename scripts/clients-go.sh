#!/usr/bin/env bash
# Checks the Go client: its format, vet and staticcheck, its tests against the server that GW_SERVER names, and the README's example,
# built in a module of its own.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# scripts/clients.sh has installed what it needs, or has said in .tools/skipped why not.
[ -x .tools/go-client/bin/staticcheck ] || exit 0
use_built_module
# Nothing is fetched: what go.mod pins is installed.
export GOMODCACHE=$root/.tools/go-client/cache GOCACHE=$root/.tools/go-client/build
export GOPROXY=off GOTOOLCHAIN=local GOFLAGS="-modcacherw -trimpath"

cd clients/go
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || fail "gofmt would change these:" "$unformatted"
for module in . otel bifrost; do
  (
    cd "$module"
    go vet ./...
    "$root/.tools/go-client/bin/staticcheck" ./...
  )
done
# The packages' tests mostly wait, so they run at the same time. -count=1: Go would repeat an earlier result, although the server's
# module, or another file outside the Go module, has changed since.
others=()
for module in otel bifrost; do
  (cd "$module" && timeout --foreground 10m go test -count=1 -timeout 9m ./...) &
  others+=($!)
done
# The race detector compiles all that is imported a second time, so it is left to the long run of the tests.
race=()
[ "${GW_LIVE:-}" != full ] || race=(-race)
timeout --foreground 10m go test "${race[@]}" -count=1 -timeout 9m ./... || { kill "${others[@]}" 2>/dev/null || true; exit 1; }
for other in "${others[@]}"; do wait "$other"; done
# All of Bifrost has a hundred modules, which are fetched and compiled in the long run of the tests only.
if [ "${GW_LIVE:-}" = full ]; then
  cd bifrost/whole
  env -u GOPROXY go mod download
  go vet ./...
  timeout --foreground 10m go test -count=1 -timeout 9m ./...
fi
