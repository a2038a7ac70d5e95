# shellcheck shell=bash
# Owns the Redis server: what it acknowledged is in its append-only file, and it evicts nothing.

readonly REDIS_LIMIT_S=30

start_redis() {
  command -v redis-server >/dev/null || die "redis is not installed; run: suite install"
  mkdir -p -- "$DATA_DIR/redis"
  spawn redis redis-server --bind 127.0.0.1 --port "$(port_of redis)" --dir "$DATA_DIR/redis" \
    --appendonly yes --save '' --maxmemory-policy noeviction --daemonize no
}

await_redis() { await_ready redis "$REDIS_LIMIT_S" probe_redis; }

probe_redis() {
  [[ $(timeout 3 redis-cli -h 127.0.0.1 -p "$(port_of redis)" ping 2>/dev/null) == PONG ]]
}
