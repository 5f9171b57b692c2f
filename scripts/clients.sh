#!/usr/bin/env bash
# Installs what the code in docs/ needs to run, into .tools/: redis-py in a virtual environment, with what the guides' programs
# use beside it, ioredis with TypeScript, and go-redis in a module cache; and what clients/spec and the Python client are tested
# with, beside the newest redis-py and beside the oldest. The versions are pinned in tests/examples/ and clients/. Says what it
# installs; silent if all is installed. The tests skip the code in languages that this machine does not have; .tools/skipped
# lists them, one per line.
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
environment() {
  current "$1" "$2" && return
  say "Installing into .tools/$1: $(tr '\n' ' ' <"$2")"
  rm -rf ".tools/$1"
  # On Debian and Ubuntu, venv is a package of its own.
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then apt_install python3-venv; fi
  python3 -m venv ".tools/$1"
  ".tools/$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" ||
    fail "pip could not install what $2 names"
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
  environment litellm clients/litellm/requirements-dev.txt
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

install_go() {
  local from=tests/examples/go
  current go "$from/go.mod" "$from/go.sum" && return
  local needed
  needed=$(sed -n 's/^go //p' "$from/go.mod")
  if ! command -v go >/dev/null ||
    [ "$(printf 'go%s\n' "$needed" "$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//')" | sort -V | head -1)" != "go$needed" ]; then
    not_here "Go: it needs Go $needed or later"
    return
  fi
  say "Installing into .tools/go: go-redis"
  rm -rf .tools/go
  mkdir -p .tools/go
  cp "$from/go.mod" "$from/go.sum" .tools/go/
  # Built here once, so that the tests only compile the examples themselves. Nothing is fetched after this.
  (
    cd .tools/go
    export GOMODCACHE=$PWD/cache GOCACHE=$PWD/build GOFLAGS="-modcacherw -trimpath" GOTOOLCHAIN=local
    go mod download && go build net/http/httptest github.com/redis/go-redis/v9
  ) || fail "go could not get what $from names"
  mark go "$from/go.mod" "$from/go.sum"
}

install_python
install_python_client
install_litellm
install_node
install_go
