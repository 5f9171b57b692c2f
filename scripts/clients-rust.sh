#!/usr/bin/env bash
# Checks the Rust client: clippy with each set of features, its docs, its tests against the server that GW_SERVER names,
# its package, and the README's example, built in a crate of its own that takes it by its path.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

use_built_module

package=(--package redis-gateway-client)
# The whole workspace's format and lints are checked elsewhere, which also says so if the toolchain has none of these.
if cargo clippy --version >/dev/null 2>&1; then
  cargo clippy --quiet "${package[@]}" --no-default-features --features cluster -- -D warnings
  cargo clippy --quiet "${package[@]}" --all-features --all-targets -- -D warnings
fi
RUSTDOCFLAGS="-D warnings" cargo doc --quiet "${package[@]}" --all-features --no-deps
# What users get has all that it needs, and nothing of the tests.
cargo package --quiet "${package[@]}" --list --allow-dirty >/dev/null
# The module's tree has nothing of it.
tree=$(cargo tree --package redis-gateway --edges normal,build --prefix none)
if grep -q '^redis-gateway-client ' <<<"$tree"; then
  fail "the module depends on its client"
fi
# The tests mostly wait, so more of them run at once than there are cores.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))} \
  timeout --foreground 15m cargo test --quiet "${package[@]}" --all-features
