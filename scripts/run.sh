#!/usr/bin/env bash
# Runs a server with the release build of the module and redis.conf, and then the companion with its console, until Ctrl-C.
# PORT is the server's port (6379), CONSOLE the companion's (9464).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

port=${PORT:-6379} console=${CONSOLE:-9464}
server=$(server_path)
for taken in "$port" "$console"; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$taken") 2>/dev/null; then
    fail "port $taken is taken by another server" "Take others: make run PORT=6380 CONSOLE=9465"
  fi
done
# Where redis.conf puts the data; the server does not create it.
mkdir -p data
cat <<TEXT
redis-gateway on $(server_version "$server"), port $port, data in ./data. Ctrl-C ends it.
In another terminal:

    redis-cli -p $port GW.ALLOW user:42 10 WINDOW 60000

admits a request of user:42 if there were fewer than 10 in the last minute: allowed, limit, remaining,
retry_after_ms, reset_after_ms. \`redis-cli -p $port\` alone shows each command's arguments as you type.

TEXT

# Both get Ctrl-C by themselves. Whatever else ends this script ends them, too; the server saves its data then.
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait || true' EXIT
trap 'exit 0' INT TERM
"$server" redis.conf --port "$port" &
server_pid=$!
started+=("$server_pid")

# Without optimisation, which takes a third of the time.
if cargo build --quiet --package gw --target-dir target; then
  printf '[server]\nurl = "redis://127.0.0.1:%s"\n\n[http]\nlisten = "127.0.0.1:%s"\n\n[console]\n' "$port" "$console" >data/gw.toml
  # Its log lines about itself are of use to nobody here.
  RUST_LOG=${RUST_LOG:-warn} target/debug/gw run --config data/gw.toml &
  started+=($!)
  printf '\nThe console: http://127.0.0.1:%s/   Metrics: http://127.0.0.1:%s/metrics\n\n' "$console" "$console"
else
  say "The companion could not be built, so there is no console."
fi
wait "$server_pid"
