#!/usr/bin/env bash
# Runs a server with the release build of the module and redis.conf, in the foreground. PORT is the port (6379).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

port=${PORT:-6379}
server=$(server_path)
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
  fail "port $port is taken by another server" "Take another one: make run PORT=6380"
fi
# Where redis.conf puts the data; the server does not create it.
mkdir -p data
cat <<TEXT
redis-gateway on $(server_version "$server"), port $port, data in ./data. Ctrl-C ends it.
In another terminal:

    redis-cli -p $port GW.ALLOW user:42 10 WINDOW 60000

admits a request of user:42 if there were fewer than 10 in the last minute: allowed, limit, remaining,
retry_after_ms, reset_after_ms. \`redis-cli -p $port\` alone shows each command's arguments as you type.

TEXT
exec "$server" redis.conf --port "$port"
