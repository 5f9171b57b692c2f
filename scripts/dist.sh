#!/usr/bin/env bash
# Packages of this version in target/dist: an archive, a .deb, a zip for Redis Software, and the sums of all three.
#
# TARGET is the compiler's name of the platform; this machine's if none is given. The module and the companion are built for it so
# that they load with glibc 2.28 and later: zig, from PyPI, links against that version whatever this machine has. GW_MODULE and
# GW_COMPANION name files that were built elsewhere instead.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

target=${TARGET:-$(uname -m)-unknown-linux-gnu}
arch=${target%%-*}
libc=${target##*-}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[ -n "$version" ] || fail "Cargo.toml has no version under [workspace.package]"
# Files have the time of the commit, so that the same sources make the same packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

use_python package deploy/package/requirements.txt
export PATH=$root/.tools/package/bin:$PATH

built=${CARGO_TARGET_DIR:-$root/target}/$target/release
if [ -z "${GW_MODULE:-}" ] || [ -z "${GW_COMPANION:-}" ]; then
  scripts/install.sh
  # With musl, what a server loads must be linked against the C library that the server has.
  if [ "$libc" = musl ]; then export RUSTFLAGS="-C target-feature=-crt-static"; fi
  # The oldest glibc that is supported: that of RHEL 8 and Debian 10.
  cargo zigbuild --release --locked --package redis-gateway --package gw --target "$target$([ "$libc" = gnu ] && echo .2.28)"
fi
module=${GW_MODULE:-$built/libredis_gateway.so} companion=${GW_COMPANION:-$built/gw}

dist=${GW_DIST:-$root/target/dist}
mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Without line tables, which are nine tenths of them. A bug is logged with its place all the same.
for file in "$module" "$companion"; do objcopy --strip-debug "$file" "$work/$(basename "$file")"; done
module=$work/$(basename "$module") companion=$work/$(basename "$companion")
name=redis-gateway-$version-linux-$arch$([ "$libc" = gnu ] || echo "-$libc")

# stage FOLDER: what every package has about the licences and the parts.
stage() {
  mkdir -p "$1"
  for part in redis-gateway gw; do
    if [ ! -e "$work/$part.json" ]; then
      python3 deploy/package/bill.py "$part" "$target" "$work/$part.json" "$work/$part.txt"
    fi
    install -m 644 "$work/$part.json" "$1/$part.cdx.json"
    install -m 644 "$work/$part.txt" "$1/$part.licenses.txt"
  done
  install -m 644 LICENSE "$1/LICENSE"
}

# pack FOLDER FILE: the same bytes for the same content.
pack() {
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$(dirname "$1")" -c "$(basename "$1")" | gzip -n9 >"$2"
}

folder=$work/$name
stage "$folder"
# Redis loads no module that may not be executed.
install -m 755 "$module" "$folder/libredis_gateway.so"
install -m 755 "$companion" "$folder/gw"
install -m 644 redis.conf deploy/package/gw.toml CHANGELOG.md "$folder"
(cd "$folder" && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
pack "$folder" "$dist/$name.tar.gz"

rm -f "$dist/$name.zip"
python3 deploy/package/software.py "$version" "$arch" "$module" "$dist/$name.zip"

if [ "$libc" = gnu ] && command -v dpkg-deb >/dev/null; then
  case $arch in x86_64) debian=amd64 ;; aarch64) debian=arm64 ;; *) fail "Debian has no name for the architecture here: $arch" ;; esac
  tree=$work/deb
  make --silent --no-print-directory install prefix=/usr "DESTDIR=$tree" "MODULE=$module" "COMPANION=$companion" >/dev/null
  doc=$tree/usr/share/doc/redis-gateway
  stage "$doc"
  mv "$doc/LICENSE" "$doc/copyright"
  gzip -n9 "$doc"/*.licenses.txt "$tree/usr/share/man/man1/gw.1"
  mkdir -p "$tree/etc/redis-gateway" "$tree/usr/lib/systemd/system" "$tree/DEBIAN"
  # The paths of the package in place of those of a working copy.
  sed -e 's|^dir ./data$|dir /var/lib/redis-gateway|' \
    -e 's|^loadmodule .*|loadmodule /usr/lib/redis/modules/libredis_gateway.so|' redis.conf >"$tree/etc/redis-gateway/redis.conf"
  mv "$doc/gw.toml" "$tree/etc/redis-gateway/gw.toml"
  rm "$doc/redis.conf"
  install -m 644 deploy/package/*.service "$tree/usr/lib/systemd/system"
  install -m 755 deploy/package/debian/* "$tree/DEBIAN"
  printf '/etc/redis-gateway/%s\n' gw.toml redis.conf >"$tree/DEBIAN/conffiles"
  cat >"$tree/DEBIAN/control" <<TEXT
Package: redis-gateway
Version: $version
Architecture: $debian
Maintainer: The redis-gateway maintainers <maintainers@redis-gateway.invalid>
Section: database
Priority: optional
Installed-Size: $(du -sk "$tree" | cut -f 1)
Depends: adduser, libc6 (>= 2.28), libgcc-s1 | libgcc1, redis-server (>= 5:7.0) | valkey-server (>= 8)
Description: state that LLM gateways share, as commands of Redis and Valkey
 Rate limits, budgets, log queues and response caches as a module of the server,
 and gw, the companion that ships logs, keeps a database in step and serves
 metrics. Two systemd units, neither started by the installation.
TEXT
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$dist/redis-gateway_${version}_$debian.deb" >/dev/null
fi

(cd "$dist" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
say "Written to $dist:"
ls -1 "$dist" >&2
