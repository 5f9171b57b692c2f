# Shared by the scripts in this directory, which source it. Runs them in the project's root.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

say() { printf '%s\n' "$*" >&2; }

# fail REASON [REMEDY LINE ...]
fail() {
  say "error: $1"
  shift
  for line in "$@"; do say "  $line"; done
  exit 1
}

# phase NAME: a heading; print_phases says at the end what each phase took.
phases=()
skipped=()
finished=''
phase() {
  end_phase
  phase_name=$1
  phase_start=$SECONDS
  printf '\n==== %s\n' "$1"
}

end_phase() {
  if [ -n "${phase_name:-}" ]; then phases+=("$(printf '%5d s  %s' $((SECONDS - phase_start)) "$phase_name")"); fi
  phase_name=''
}

# skip WHAT: something that cannot run on this machine, which print_phases says again at the end.
skip() {
  skipped+=("$1")
  printf '\n==== SKIPPED: %s\n' "$1"
}

# The exit trap of a script with phases.
print_phases() {
  local status=$? failed=${phase_name:-}
  end_phase
  printf '\n==== What it took\n'
  if [ ${#phases[@]} -gt 0 ]; then printf '%s\n' "${phases[@]}"; fi
  printf '%5d s  in all\n' "$SECONDS"
  if [ ${#skipped[@]} -gt 0 ]; then printf '         SKIPPED: %s\n' "${skipped[@]}"; fi
  if [ "$status" = 0 ]; then printf '\n==== %s\n' "$finished"; else printf '\n==== FAILED in: %s\n' "${failed:-the beginning}"; fi
}

# apt_install PACKAGE ...: from fresh package lists, without questions and without recommended extras.
apt_install() {
  local as_root=()
  command -v apt-get >/dev/null ||
    fail "missing: what Debian calls $*" "There is no apt-get here: install these with your system's own package manager."
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null ||
      fail "missing: $*" "They need root to install, and there is no sudo. As root: apt-get update && apt-get install $*"
    as_root=(sudo)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  say "Installing with apt-get: $*"
  # A third party's list that cannot be fetched is no reason to stop: what matters is whether the packages are there.
  "${as_root[@]}" update || say "apt-get update failed; trying with the package lists there are"
  # --reinstall: this is called because a file is not there, which may be so although its package is.
  "${as_root[@]}" install -y --no-install-recommends --reinstall "$@" >/dev/null ||
    fail "apt-get could not install: $*" "Its own message stands above. Install these by hand, then try again."
}

# The server that GW_SERVER names (see testkit/src/binary.rs, which follows the same rules); prints nothing if there is none.
server_path() {
  local name=${GW_SERVER:-system} file
  case $name in
    */*) printf '%s\n' "$name" ;;
    system)
      command -v redis-server && return
      file=$root/.servers/system/redis-server
      if [ -x "$file" ]; then printf '%s\n' "$file"; else command -v valkey-server || true; fi
      ;;
    *)
      for file in "$root/.servers/$name/redis-server" "$root/.servers/$name/valkey-server"; do
        if [ -x "$file" ]; then printf '%s\n' "$file" && return; fi
      done
      ;;
  esac
}

# server_version PATH: as in "Redis 7.0.15"; nothing if it is not a server, or does not run here.
server_version() {
  "$1" --version 2>/dev/null | sed -nE 's/^(Redis|Valkey) server v=([^ ]+).*/\1 \2/p'
}
