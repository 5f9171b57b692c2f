#!/usr/bin/env bash
# Builds the book into target/book, and checks every link and anchor in it and in the pages at the repository's root.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

command -v python3 >/dev/null || apt_install python3
# Files of an earlier build would hide links to pages that no longer exist.
rm -rf target/book
scripts/mdbook.sh build docs
scripts/check-links.py
