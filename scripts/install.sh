#!/usr/bin/env bash
# Installs what building and running the module needs beside Rust, git, make and a C compiler, on Debian and Ubuntu:
# libclang (bindgen reads the module API's C header with it), and a server with its tools. Says what it installs, and
# nothing if all is there.
#
# It starts no service. On Debian and Ubuntu the package redis-tools holds the whole server (one executable serves as
# redis-server and redis-check-rdb, by the name it is called with); redis-server adds a system service that starts at
# once and at every boot, on port 6379. So this installs redis-tools, and gives the executable its other name in
# .servers/system/.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Whether bindgen will find libclang: the places that its clang-sys looks in, and the compiler's own headers, without
# which libclang loads but cannot read <stddef.h>.
libclang_is_there() (
  shopt -s nullglob
  [ -n "${LIBCLANG_PATH:-}" ] && exit 0
  prefix=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null || true)
  libraries=()
  for directory in ${prefix:+"$prefix"/lib*} /usr/local/llvm*/lib* /usr/local/lib*{,/*,/*/*} /usr/lib*{,/*,/*/*}; do
    libraries+=("$directory"/libclang.so{,.*} "$directory"/libclang-[0-9]*.so{,.*})
  done
  headers=(${prefix:+"$prefix"/lib*/clang/*/include/stddef.h} {/usr,/usr/local}/lib*/{,llvm*/lib*/}clang/*/include/stddef.h)
  for library in "${libraries[@]}"; do
    # A name that leads to nothing is what a removed package leaves behind.
    [ -e "$library" ] && [ ${#headers[@]} -gt 0 ] && exit 0
  done
  exit 1
)

rustup="Install it as https://rustup.rs says, then try again: it fetches the compiler that rust-toolchain.toml names."
command -v cargo >/dev/null || fail "missing: Rust" "$rustup"
# A cargo that is not rustup's, such as the distribution's own, does not read rust-toolchain.toml.
if ! command -v rustup >/dev/null; then
  needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  there=$(cargo --version | cut -d ' ' -f 2)
  if [ "$(printf '%s\n' "$needed" "$there" | sort -V | head -n 1)" != "$needed" ]; then
    fail "cargo $there is too old ($(command -v cargo)): the module needs Rust $needed or later" "$rustup"
  fi
fi

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
libclang_is_there || missing+=(libclang-dev)
# Gives the executable in redis-tools its other name. Fails if it is not there, or is not the whole server.
link_server() {
  local link=$root/.servers/system/redis-server
  [ -x /usr/bin/redis-check-rdb ] || return 1
  mkdir -p "$(dirname "$link")"
  ln -sf /usr/bin/redis-check-rdb "$link"
  [ -n "$(server_version "$link")" ]
}

server=$(server_path)
if [ -z "$server" ] && [ "${GW_SERVER:-system}" = system ] && link_server; then server=$(server_path); fi
if [ -z "$server" ] && [ "${GW_SERVER:-system}" != system ]; then
  fail "there is no server $GW_SERVER" "Run scripts/servers.sh, or leave GW_SERVER out."
fi
if [ -z "$server" ] || ! { command -v redis-cli || command -v valkey-cli; } >/dev/null; then
  missing+=(redis-tools)
fi
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"

if [ -z "$server" ]; then
  link_server || true
  server=$root/.servers/system/redis-server
fi

version=$(server_version "$server")
remedy=(
  "Install a newer one (https://redis.io/docs/latest/operate/oss_and_stack/install, https://valkey.io/download),"
  "or name its executable: GW_SERVER=/path/to/redis-server,"
  "or let scripts/servers.sh fetch those of the test matrix, and use one: GW_SERVER=valkey-8.1"
)
[ -n "$version" ] || fail "$server is no Redis or Valkey server that runs here" "${remedy[@]}"
case $version in
  "Redis "[1-6].*) fail "$version is too old ($server): the module needs 7.0 or later" "${remedy[@]}" ;;
esac
