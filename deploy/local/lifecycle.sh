# shellcheck shell=bash
# Owns starting and stopping: parts, services, and in which order.

readonly SERVICE_LIMIT_S=60
readonly TOPICS_LIMIT_S=60

# --- any of them ------------------------------------------------------------------------------

start_process() { if is_part "$1"; then "start_$1"; else start_service "$1"; fi; }
await_process() { if is_part "$1"; then "await_$1"; else await_service "$1"; fi; }
probe_process() { if is_part "$1"; then "probe_$1"; else probe_service "$1"; fi; }

# Starts all NAMEs that are not up at once, then waits for each.
start_processes() {
  local name awaited=()
  [[ " $* " != *" postgres "* ]] || choose_postgres_user # says what is wrong with SUITE_HOME before anything starts
  for name; do
    if ! is_running "$name"; then
      start_process "$name"
      awaited+=("$name")
    elif probe_process "$name"; then
      say "$name" "already up (port $(port_of "$name"), pid $(pid_of "$name"))"
    else
      say "$name" "runs already, but is not ready yet (pid $(pid_of "$name"))"
      awaited+=("$name")
    fi
  done
  for name in "${awaited[@]}"; do
    await_process "$name"
  done
}

start_one() {
  lock_home
  require_ports_free "$1"
  start_processes "$1"
  unlock_home
}

stop_one() {
  [[ -d $RUN_DIR ]] || return 0
  lock_home
  stop_processes "$1"
  [[ $1 != postgres ]] || end_postgres_orphans
  unlock_home
}

restart_one() {
  stop_one "$1"
  start_one "$1"
}

# --- services ---------------------------------------------------------------------------------

# The suite's own addresses win over what is exported; everything else that is exported passes through.
start_service() {
  local service=$1 settings
  [[ -x $BIN_DIR/$service ]] || die "$service: there is no program $BIN_DIR/$service"
  settings=(
    HTTP_ADDR="127.0.0.1:$(port_of "$service")"
    KAFKA_BROKERS="127.0.0.1:$(port_of kafka)"
    REDIS_URL="redis://127.0.0.1:$(port_of redis)"
    ZIPKIN_ENDPOINT="http://127.0.0.1:$(port_of zipkin)/api/v2/spans"
    OUTBOX_WAKE_ADDR="127.0.0.1:$(port_of outbox-relay)" # UDP: no quarrel with the relay's HTTP port
    DATA_PLATFORM_URL="${DATA_PLATFORM_URL:-$(payments_url)}"
    SERVICE_URLS="$(service_urls)"
    AUTH_MODE="${AUTH_MODE:-header}"
    LOCAL_OPERATOR="${LOCAL_OPERATOR:-local-operator}"
    LOG_FORMAT="${LOG_FORMAT:-text}"
  )
  case ${SERVICE_DATABASES[$service]} in
    own) settings+=(DATABASE_URL="$(database_url_of "$service")") ;;
    all) settings+=(DATABASE_URLS="$(database_urls)") ;;
  esac
  spawn "$service" env -u DATABASE_URL -u DATABASE_URLS "${settings[@]}" "$BIN_DIR/$service"
}

await_service() { await_ready "$1" "$SERVICE_LIMIT_S" probe_service; }

probe_service() { curl -fsS -m 3 -o /dev/null "http://127.0.0.1:$(port_of "$1")/health/ready" 2>/dev/null; }

# The services with one of these kinds of database.
services_with() {
  local service
  for service in "${SERVICES[@]}"; do
    [[ " $* " != *" ${SERVICE_DATABASES[$service]} "* ]] || echo "$service"
  done
}

# --- all of them ------------------------------------------------------------------------------

up_parts() {
  install_everything
  lock_home
  require_ports_free "$@"
  start_processes "$@"
  unlock_home
}

# The lock is not held while it builds. The programs that are named are built, too.
up() {
  install_everything
  lock_home
  require_ports_free "${PARTS[@]}" "${SERVICES[@]}"
  start_processes "${PARTS[@]}"
  unlock_home
  build_programs "${PROGRAMS[@]}" "$@"
  lock_home
  require_ports_free "${SERVICES[@]}"
  apply_topics
  start_services
  unlock_home
  print_links
}

# Builds these programs and nothing else. Whichever they are, dependencies have the same features, so that none is built twice.
build_programs() {
  [[ $BUILD_WANTED == yes ]] || return 0
  local program wanted=()
  for program; do
    wanted+=(--bin "$program")
  done
  command -v cargo >/dev/null || die "cargo is missing: install a Rust toolchain (rustup), then try again"
  local started_ms
  started_ms=$(now_ms)
  echo "building into $BIN_DIR (the first time takes some minutes)"
  (cd -- "$REPO" && cargo build --profile "$PROFILE" --locked "${wanted[@]}") || die "the build failed"
  say build "done ($(seconds "$(($(now_ms) - started_ms))"))"
}

apply_topics() {
  local output
  [[ -x $BIN_DIR/sagactl ]] || die "sagactl: there is no program $BIN_DIR/sagactl"
  output=$(KAFKA_BROKERS=127.0.0.1:$(port_of kafka) timeout "$TOPICS_LIMIT_S" \
    "$BIN_DIR/sagactl" topics apply --yes 2>&1 </dev/null) ||
    die "the topics could not be applied (sagactl topics apply):"$'\n'"$output"
  say topics applied
}

# The relay comes after the services, which bring its tables along.
start_services() {
  local services relays
  mapfile -t services < <(services_with own none)
  mapfile -t relays < <(services_with all)
  start_processes "${services[@]}"
  start_processes "${relays[@]}"
}

print_links() {
  local service
  echo
  echo "The suite is up; its state is in $SUITE_HOME. Traces: http://127.0.0.1:$(port_of zipkin)/zipkin/"
  echo "The operators' page: http://127.0.0.1:$(port_of saga-monitor)/"
  for service in "${SERVICES[@]}"; do
    printf '  %-16s http://127.0.0.1:%s/docs\n' "$service" "$(port_of "$service")"
  done
}

# Services first, the relay after them, then the parts; whatever was started here, also by an older table of services.
down() {
  if [[ ! -d $RUN_DIR ]]; then
    echo "nothing is running in $SUITE_HOME"
    return 0
  fi
  lock_home
  local name services=() relays=() parts=() file
  for file in "$RUN_DIR"/*.pid; do
    [[ -e $file ]] || continue
    name=$(basename -- "$file" .pid)
    if is_part "$name"; then
      parts+=("$name")
    elif [[ ${SERVICE_DATABASES[$name]:-} == all ]]; then
      relays+=("$name")
    else
      services+=("$name")
    fi
  done
  ((${#services[@]} + ${#relays[@]} + ${#parts[@]} > 0)) || echo "nothing is running in $SUITE_HOME"
  stop_processes "${services[@]}"
  stop_processes "${relays[@]}"
  stop_processes "${parts[@]}"
  end_postgres_orphans
  unlock_home
}

# --- a command on the parts -------------------------------------------------------------------

# Runs a command with the parts up, and stops those again that it started, however the command ends.
with_parts() {
  local part
  STARTED_HERE=()
  install_everything
  lock_home
  require_ports_free "${PARTS[@]}"
  for part in "${PARTS[@]}"; do
    is_running "$part" || STARTED_HERE+=("$part")
  done
  trap stop_started_here EXIT
  start_processes "${PARTS[@]}"
  unlock_home
  export_lines_of print_test_environment
  run_interruptibly "$@"
}

stop_started_here() {
  local status=$?
  trap - EXIT INT TERM
  if ((${#STARTED_HERE[@]} > 0)); then
    lock_home
    stop_processes "${STARTED_HERE[@]}" || true
    end_postgres_orphans
  fi
  exit "$status"
}

# The command is a group of its own, so that an interrupt ends all of it before the parts go.
run_interruptibly() {
  local status=0
  setsid -- "$@" </dev/null &
  COMMAND_GROUP=$!
  trap 'end_command_group; exit 130' INT
  trap 'end_command_group; exit 143' TERM HUP
  wait "$COMMAND_GROUP" || status=$?
  trap - INT TERM HUP
  return "$status"
}

end_command_group() {
  local waited
  kill -s TERM -- "-$COMMAND_GROUP" 2>/dev/null || return 0
  for ((waited = 0; waited < STOP_LIMIT_S * 5; waited++)); do
    kill -s 0 -- "-$COMMAND_GROUP" 2>/dev/null || return 0
    sleep "$POLL_S"
  done
  kill -s KILL -- "-$COMMAND_GROUP" 2>/dev/null || true
}
