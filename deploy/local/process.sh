# shellcheck shell=bash
# Owns processes: starts them detached, knows them again by pid and start time (so that a recycled
# pid is never taken for ours), waits for them within limits, stops them, and knows who holds a port.

readonly STOP_LIMIT_S=30        # from the polite signal to SIGKILL
readonly KILL_LIMIT_S=10        # from SIGKILL to giving up
readonly LOCK_LIMIT_S=180       # for another command on the same SUITE_HOME
readonly POLL_S=0.2             # how often a wait looks
readonly PROGRESS_EVERY_S=10    # a long wait says that it still waits
readonly LOG_KEEP_BYTES=20000000 # a log longer than this is put aside as NAME.log.1 at the next start

declare -A SPAWNED_AT_MS=() LOG_STARTS_AT=()

now_ms() { echo "$((${EPOCHREALTIME/[^0-9]/} / 1000))"; }

# Milliseconds as "3.1 s".
seconds() { printf '%d.%d s' "$(($1 / 1000))" "$(($1 % 1000 / 100))"; }

say() { printf '%-16s … %s\n' "$1" "$2"; }

# One command at a time changes a SUITE_HOME. File descriptor 9 is closed in everything that is spawned.
lock_home() {
  prepare_home
  exec 9>"$RUN_DIR/lock"
  flock -n 9 && return 0
  echo "waiting for another command on $SUITE_HOME …"
  flock -w "$LOCK_LIMIT_S" 9 || die "another command has held $RUN_DIR/lock for $LOCK_LIMIT_S s"
}

unlock_home() { exec 9>&-; }

# --- who is who -------------------------------------------------------------------------------

# Prints "<state> <start time>" of a process; fails when there is none.
process_stat() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"
  echo "${fields[0]} ${fields[19]}"
}

# Start times count from boot, so the boot belongs to them.
identity_of_pid() {
  local state started boot
  read -r state started < <(process_stat "$1") || return 1
  [[ $state != [ZX] ]] || return 1
  read -r boot </proc/sys/kernel/random/boot_id
  echo "$started $boot"
}

pid_file() { echo "$RUN_DIR/$1.pid"; }
identity_file() { echo "$RUN_DIR/$1.identity"; }
log_file() { echo "$LOG_DIR/$1.log"; }

remember_process() {
  identity_of_pid "$2" >"$(identity_file "$1")" || true
  echo "$2" >"$(pid_file "$1")"
}

forget_process() { rm -f -- "$(pid_file "$1")" "$(identity_file "$1")"; }

was_started() { [[ -e $(pid_file "$1") ]]; }

# Prints the pid of NAME; fails unless that process, and no successor with its number, is alive.
pid_of() {
  local pid known actual
  { read -r pid <"$(pid_file "$1")"; } 2>/dev/null || return 1
  [[ $pid =~ ^[0-9]+$ ]] || return 1
  known=$(cat "$(identity_file "$1")" 2>/dev/null) || return 1
  actual=$(identity_of_pid "$pid") || return 1
  [[ -n $known && $known == "$actual" ]] || return 1
  echo "$pid"
}

is_running() { pid_of "$1" >/dev/null; }

uptime_s() {
  local state started now
  read -r state started < <(process_stat "$1") || return 1
  read -r now _ </proc/uptime
  echo "$((${now%.*} - started / $(getconf CLK_TCK)))"
}

# --- ports ------------------------------------------------------------------------------------

# Inodes of the sockets that listen where 127.0.0.1:PORT would.
listeners_on() {
  awk -v port="$(printf '%04X' "$1")" '
    $4 == "0A" && $2 ~ (":" port "$") && $2 ~ /^(0100007F|0+|0+FFFF00000100007F):/ { print $10 }
  ' /proc/net/tcp /proc/net/tcp6 2>/dev/null || true
}

pid_on_port() {
  local inode found
  for inode in $(listeners_on "$1"); do
    found=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" -print -quit 2>/dev/null || true)
    if [[ $found =~ ^/proc/([0-9]+)/ ]]; then
      echo "${BASH_REMATCH[1]}"
      return 0
    fi
  done
}

holds_port() {
  local pid=$1 inode
  for inode in $(listeners_on "$2"); do
    [[ -z $(find "/proc/$pid/fd" -maxdepth 1 -lname "socket:\[$inode\]" -print -quit 2>/dev/null) ]] || return 0
  done
  return 1
}

command_of_pid() {
  local command
  command=$(tr '\0[:cntrl:]' ' ' <"/proc/$1/cmdline" 2>/dev/null || true)
  echo "${command:0:120}"
}

describe_holder() {
  local pid
  pid=$(pid_on_port "$1")
  if [[ -n $pid ]]; then
    echo "pid $pid: $(command_of_pid "$pid")"
  else
    echo "a process that $(id -un) may not look at"
  fi
}

# The ports that NAME listens on.
ports_of() {
  port_of "$1"
  [[ $1 != kafka ]] || port_of kafka-controller
}

# Says which ports of the NAMEs are held by something else; fails when there are any.
check_ports_free() {
  local name port taken=0
  for name; do
    ! is_running "$name" || continue
    for port in $(ports_of "$name"); do
      [[ -n $(listeners_on "$port") ]] || continue
      printf 'suite: port %s of %s is taken by %s\n' "$port" "$name" "$(describe_holder "$port")" >&2
      taken=1
    done
  done
  ((taken == 0)) || return 1
}

require_ports_free() {
  check_ports_free "$@" ||
    die "nothing was started; free the ports, or move the suite with SUITE_PORT_OFFSET=1000"
}

# --- starting ---------------------------------------------------------------------------------

# Starts NAME as COMMAND: its own session, nothing to read, everything it prints in its log.
spawn() {
  local name=$1 log
  shift
  log=$(log_file "$name")
  put_aside_long_log "$log"
  touch -- "$log"
  LOG_STARTS_AT[$name]=$(stat -c %s -- "$log")
  SPAWNED_AT_MS[$name]=$(now_ms)
  (
    cd -- "$DATA_DIR"
    exec setsid -- "$@" </dev/null >>"$log" 2>&1 9>&-
  ) &
  remember_process "$name" "$!"
}

put_aside_long_log() {
  [[ -e $1 ]] && (($(stat -c %s -- "$1") > LOG_KEEP_BYTES)) || return 0
  mv -f -- "$1" "$1.1"
}

# What NAME has logged since it was spawned by this command.
log_since_spawn() { tail -c "+$((${LOG_STARTS_AT[$1]:-0} + 1))" -- "$(log_file "$1")"; }

# Waits until PROBE succeeds and NAME itself holds its port; fails with the end of its log.
# For a NAME that an earlier command spawned the wait begins now.
await_ready() {
  local name=$1 limit_s=$2 probe=$3 pid waited_ms=0 said_s=0 began_ms
  began_ms=${SPAWNED_AT_MS[$name]:-$(now_ms)}
  while true; do
    waited_ms=$(($(now_ms) - began_ms))
    pid=$(pid_of "$name") || fail_start "$name" "it exited after $(seconds "$waited_ms")"
    if holds_port "$pid" "$(port_of "$name")" && "$probe" "$name"; then
      say "$name" "ready ($(seconds "$waited_ms"), port $(port_of "$name"), pid $pid)"
      return 0
    fi
    if ((waited_ms >= limit_s * 1000)); then
      stop_processes "$name" >/dev/null
      echo "$pid" >"$(pid_file "$name")" # it was started and is down, which `status` has to tell
      fail_start "$name" "it was not ready within $limit_s s and was stopped"
    fi
    if ((waited_ms >= (said_s + PROGRESS_EVERY_S) * 1000)); then
      said_s=$((waited_ms / 1000))
      say "$name" "still starting (${said_s} s)"
    fi
    sleep "$POLL_S"
  done
}

fail_start() {
  local name=$1 why=$2
  {
    echo "suite: $name did not start: $why. The end of $(log_file "$name"):"
    log_since_spawn "$name" | tail -n 20 | sed 's/^/    /'
  } >&2
  exit 1
}

# --- stopping ---------------------------------------------------------------------------------

# PostgreSQL's SIGTERM would wait for every client to leave; SIGINT ends their sessions.
polite_signal() {
  if [[ $1 == postgres ]]; then echo INT; else echo TERM; fi
}

# Asks all NAMEs at once to end and waits for them; kills what is left when the time is up.
stop_processes() {
  local name pid asked=() asked_at_ms
  asked_at_ms=$(now_ms)
  for name; do
    if pid=$(pid_of "$name"); then
      kill -s "$(polite_signal "$name")" -- "$pid" 2>/dev/null || true
      kill -s CONT -- "$pid" 2>/dev/null || true # one that was paused by SIGSTOP has to hear it
      asked+=("$name")
    else
      say_not_running "$name"
    fi
  done
  await_exits "$asked_at_ms" "$STOP_LIMIT_S" stopped "${asked[@]}"
  ((${#STILL_THERE[@]} > 0)) || return 0
  for name in "${STILL_THERE[@]}"; do
    ! pid=$(pid_of "$name") || kill -s KILL -- "$pid" 2>/dev/null || true
  done
  await_exits "$asked_at_ms" "$((STOP_LIMIT_S + KILL_LIMIT_S))" "killed, as it did not stop within $STOP_LIMIT_S s" "${STILL_THERE[@]}"
  ((${#STILL_THERE[@]} == 0)) || die "still there after SIGKILL: ${STILL_THERE[*]}"
}

# Waits until the NAMEs (arguments 4 and on) are gone and says so of each; leaves in STILL_THERE who is not when the time is up.
await_exits() {
  local asked_at_ms=$1 limit_s=$2 how=$3 name remaining
  STILL_THERE=("${@:4}")
  while ((${#STILL_THERE[@]} > 0 && $(now_ms) - asked_at_ms < limit_s * 1000)); do
    remaining=()
    for name in "${STILL_THERE[@]}"; do
      if is_running "$name"; then
        remaining+=("$name")
      else
        forget_process "$name"
        say "$name" "$how ($(seconds "$(($(now_ms) - asked_at_ms))"))"
      fi
    done
    STILL_THERE=("${remaining[@]}")
    ((${#STILL_THERE[@]} == 0)) || sleep "$POLL_S"
  done
}

say_not_running() {
  local pid=
  if was_started "$1"; then
    read -r pid <"$(pid_file "$1")" || true
    if [[ -n $pid ]] && identity_of_pid "$pid" >/dev/null; then
      say "$1" "had ended already (pid $pid is another process now and is left alone)"
    else
      say "$1" "had ended already"
    fi
    forget_process "$1"
  else
    say "$1" "not running"
  fi
}
