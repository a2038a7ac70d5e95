# shellcheck shell=bash
# Owns looking on: who is up, and what they log. Changes nothing.

# A table of everything; fails when something that was started is not up.
status() {
  local name pid state failed=0
  printf '%-16s %-9s %-6s %-10s %s\n' NAME PID PORT STATE UP
  for name in "${PARTS[@]}" "${SERVICES[@]}"; do
    state=$(state_of "$name")
    if pid=$(pid_of "$name"); then
      printf '%-16s %-9s %-6s %-10s %s\n' "$name" "$pid" "$(port_of "$name")" "$state" "$(duration "$(uptime_s "$pid")")"
    else
      printf '%-16s %-9s %-6s %-10s %s\n' "$name" - "$(port_of "$name")" "$state" -
    fi
    [[ $state == ready || $state == degraded || $state == stopped ]] || failed=1
  done
  echo "SUITE_HOME is $SUITE_HOME"
  return "$failed"
}

# ready, degraded, starting (alive, not yet or no longer answering), down (was started, is gone), stopped (was not started).
state_of() {
  if ! was_started "$1"; then
    echo stopped
  elif ! is_running "$1"; then
    echo down
  elif is_part "$1"; then
    if "probe_$1"; then echo ready; else echo starting; fi
  else
    state_of_service "$1"
  fi
}

state_of_service() {
  local answer
  if ! answer=$(curl -fsS -m 3 "http://127.0.0.1:$(port_of "$1")/health/ready" 2>/dev/null); then
    echo starting
  elif [[ $answer == *'"degraded"'* ]]; then
    echo degraded
  else
    echo ready
  fi
}

duration() {
  local s=$1
  if ((s >= 86400)); then
    printf '%dd %dh' $((s / 86400)) $((s % 86400 / 3600))
  elif ((s >= 3600)); then
    printf '%dh %dm' $((s / 3600)) $((s % 3600 / 60))
  elif ((s >= 60)); then
    printf '%dm %ds' $((s / 60)) $((s % 60))
  else
    printf '%ds' "$s"
  fi
}

# Follows the logs, each line with its name in front, until interrupted.
follow_logs() {
  local files=() name=${1:-} line
  if [[ -n $name ]]; then
    check_name "$name"
    files=("$(log_file "$name")")
  else
    files=("$LOG_DIR"/*.log)
  fi
  [[ -e ${files[0]} ]] || die "there is no ${files[0]} yet"
  tail -v -n 20 -F -- "${files[@]}" 2>/dev/null | while IFS= read -r line; do
    case $line in
      "==> "*" <==")
        name=${line#==> }
        name=$(basename -- "${name% <==}" .log)
        ;;
      '') ;;
      *) printf '%-16s | %s\n' "$name" "$line" ;;
    esac
  done
}
