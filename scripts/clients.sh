#!/usr/bin/env bash
# Installs what the code in docs/ needs to run, into .tools/: redis-py in a virtual environment, ioredis with TypeScript,
# and go-redis in a module cache. The versions are pinned in tests/examples/. Says what it installs; silent if all is
# there. A language that this machine does not have is named, and the tests skip its code.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# current NAME FILE ...: whether .tools/NAME was made from these files as they are now. mark does the same to say so.
pins() { cat "$@" | cksum; }
current() { [ "$(cat ".tools/$1/pins" 2>/dev/null)" = "$(pins "${@:2}")" ]; }
mark() { pins "${@:2}" >".tools/$1/pins"; }

python() {
  local from=tests/examples/python/requirements.txt
  current python "$from" && return
  if ! command -v python3 >/dev/null; then
    say "SKIPPED: the examples in Python (there is no python3)"
    return
  fi
  say "Installing into .tools/python: $(tr '\n' ' ' <"$from")"
  rm -rf .tools/python
  # On Debian and Ubuntu, venv is a package of its own.
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then apt_install python3-venv; fi
  python3 -m venv .tools/python
  .tools/python/bin/pip install --quiet --disable-pip-version-check --requirement "$from" ||
    fail "pip could not install what $from names"
  mark python "$from"
}

node() {
  local from=tests/examples/node
  current node "$from/package.json" "$from/package-lock.json" && return
  if ! command -v npm >/dev/null || ! { command node --version | grep -Eq '^v(2[0-9]|[3-9][0-9])'; } 2>/dev/null; then
    say "SKIPPED: the examples in TypeScript (they need npm and Node 20 or later)"
    return
  fi
  say "Installing into .tools/node: ioredis, tsx, typescript"
  rm -rf .tools/node
  mkdir -p .tools/node
  cp "$from/package.json" "$from/package-lock.json" .tools/node/
  (cd .tools/node && npm ci --silent --no-audit --no-fund) || fail "npm could not install what $from names"
  mark node "$from/package.json" "$from/package-lock.json"
}

go() {
  local from=tests/examples/go
  current go "$from/go.mod" "$from/go.sum" && return
  if ! command -v go >/dev/null; then
    say "SKIPPED: the examples in Go (there is no go)"
    return
  fi
  say "Installing into .tools/go: go-redis"
  rm -rf .tools/go
  mkdir -p .tools/go
  cp "$from/go.mod" "$from/go.sum" .tools/go/
  (cd .tools/go && GOMODCACHE=$PWD/cache GOFLAGS=-modcacherw command go mod download) ||
    fail "go could not download what $from names"
  mark go "$from/go.mod" "$from/go.sum"
}

python
node
go
