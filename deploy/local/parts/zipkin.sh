# shellcheck shell=bash
# Owns the Zipkin server: traces in memory, the oldest go first.

readonly ZIPKIN_LIMIT_S=90
# About half of what fits into its heap of 256 MiB (measured: 100,000 fill it); the default is 500,000.
readonly ZIPKIN_MAX_SPANS=60000

start_zipkin() {
  local java port
  java=$(find_java)
  port=$(port_of zipkin)
  [[ -n $java ]] && jars_present zipkin || die "zipkin is not installed; run: suite install"
  spawn zipkin env QUERY_PORT="$port" STORAGE_TYPE=mem MEM_MAX_SPANS="$ZIPKIN_MAX_SPANS" \
    "$java" -Xmx256m -XX:+ExitOnOutOfMemoryError -jar "$(jars_dir zipkin)"/zipkin-server-*-exec.jar \
    "--armeria.ports[0].ip=127.0.0.1" "--armeria.ports[0].port=$port" "--armeria.ports[0].protocols[0]=HTTP"
}

await_zipkin() { await_ready zipkin "$ZIPKIN_LIMIT_S" probe_zipkin; }

probe_zipkin() { curl -fsS -m 3 -o /dev/null "http://127.0.0.1:$(port_of zipkin)/health" 2>/dev/null; }
