#!/usr/bin/env bash
# Runs the SQL from standard input on a PostgreSQL of its own, and prints the selected rows. Exits with 77 if there is
# none.
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] && [ -x "$bin/initdb" ] || exit 77
# PostgreSQL does not run as root.
as=()
if [ "$(id -u)" = 0 ]; then
  id postgres >/dev/null 2>&1 && command -v runuser >/dev/null || exit 77
  as=(runuser -u postgres --)
fi
directory=$(mktemp -d)
trap '"${as[@]}" "$bin/pg_ctl" -D "$directory/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$directory"' EXIT
[ ${#as[@]} = 0 ] || chown postgres "$directory"
cd "$directory"
"${as[@]}" "$bin/initdb" -D data -A trust -U test --no-sync >/dev/null
"${as[@]}" "$bin/pg_ctl" -D data -w -l log -o "-k $directory -h ''" start >/dev/null
"${as[@]}" "$bin/psql" -h "$directory" -U test -d postgres -qAtX -v ON_ERROR_STOP=1 -f -
