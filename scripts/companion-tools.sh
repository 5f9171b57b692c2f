# What the companion's tests need besides this project: sourced by the scripts that run them, behind lib.sh.
# shellcheck shell=bash

# use_prometheus: Debian's Prometheus with promtool, unpacked into .tools. It is not installed: that would start a service.
use_prometheus() {
  local folder=$root/.tools/prometheus
  if [ -x "$folder/usr/bin/promtool" ] || command -v promtool >/dev/null; then return; fi
  if ! command -v apt-get >/dev/null; then
    skip "a real Prometheus and promtool: there is no apt-get here; install them by hand"
    return
  fi
  mkdir -p "$folder"
  # The package lists may be old or missing.
  if ! (cd "$folder" && { apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }; }) ||
    ! dpkg-deb --extract "$folder"/prometheus_*.deb "$folder"; then
    skip "a real Prometheus and promtool: apt-get cannot download them"
  fi
  rm -f "$folder"/prometheus_*.deb
}
