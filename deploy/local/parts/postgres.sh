# shellcheck shell=bash
# Owns the PostgreSQL server, and in it one role and one database per service. All settings are on its command line.
# It has no unix socket: their paths are limited to 107 characters, which a SUITE_HOME may well exceed.

readonly POSTGRES_LIMIT_S=60
readonly ORPHANS_LIMIT_S=10

# Every DROP DATABASE waits for a checkpoint, and that for the disk: tests do without. Processes may die
# all the same; only a machine that dies loses something.
postgres_options() { [[ -z ${SUITE_SHORT_LIVED:-} ]] || echo -c fsync=off -c full_page_writes=off; }

start_postgres() {
  local bin options
  bin=$(postgres_bin_dir)
  read -ra options < <(postgres_options) || true
  [[ -n $bin ]] || die "postgres is not installed; run: suite install"
  create_postgres_data "$bin"
  end_postgres_orphans
  remove_stale_lock
  # Connections are for three suites of tests, and eight tests beside them.
  spawn postgres "${AS_POSTGRES[@]}" "$bin/postgres" -D "$DATA_DIR/postgres" \
    -c listen_addresses=127.0.0.1 \
    -c port="$(port_of postgres)" \
    -c unix_socket_directories= \
    -c max_connections=500 \
    -c shared_buffers=256MB \
    -c timezone=UTC -c log_timezone=UTC \
    "${options[@]}" \
    -c log_line_prefix='%m [%p] %q%u@%d '
}

# PostgreSQL refuses to be root; setpriv becomes the command, so that its pid is ours to know.
AS_POSTGRES=()
choose_postgres_user() {
  ((EUID == 0)) || return 0
  id postgres >/dev/null 2>&1 || die "there is no user postgres to run PostgreSQL as; run: suite install"
  AS_POSTGRES=(setpriv --reuid=postgres --regid=postgres --init-groups --)
  open_home_for_postgres
}

# A SUITE_HOME made by mktemp -d keeps others out: that one folder is opened, its parents are not touched.
open_home_for_postgres() {
  ! postgres_can_enter "$DATA_DIR" || return 0
  chmod o+x -- "$SUITE_HOME" "$DATA_DIR"
  postgres_can_enter "$DATA_DIR" ||
    die "SUITE_HOME=$SUITE_HOME cannot be entered by user postgres (who runs PostgreSQL for root): a folder above it is closed; set SUITE_HOME to another, such as /var/lib/commerce-suite"
}

postgres_can_enter() { (cd / && "${AS_POSTGRES[@]}" test -x "$1"); }

# Made beside its place and then renamed, so that an interrupted initdb doesn't look finished.
create_postgres_data() {
  local bin=$1 unfinished=$DATA_DIR/postgres.unfinished password=$DATA_DIR/postgres.password output
  [[ ! -d $DATA_DIR/postgres ]] || return 0
  rm -rf -- "$unfinished"
  echo postgres >"$password"
  chmod 644 -- "$password"
  mkdir -m 700 -- "$unfinished"
  ((EUID != 0)) || chown postgres: -- "$unfinished"
  output=$(cd / && "${AS_POSTGRES[@]}" "$bin/initdb" -D "$unfinished" -U postgres --pwfile="$password" \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 2>&1) ||
    die "postgres: initdb failed: $output"
  rm -f -- "$password"
  mv -T -- "$unfinished" "$DATA_DIR/postgres"
}

# The sessions of a server that was killed go on until they next wait for something, and hold its memory,
# without which the next server won't start. They are ended here; what they had not committed is undone by recovery.
end_postgres_orphans() {
  local orphans=() waited signal=QUIT
  ! is_running postgres || return 0
  refuse_foreign_server
  for ((waited = 0; waited < ORPHANS_LIMIT_S * 5; waited++)); do
    mapfile -t orphans < <(postgres_processes)
    ((${#orphans[@]} > 0)) || return 0
    ((waited > 0)) || say postgres "ending ${#orphans[@]} processes that a killed server left"
    ((waited < ORPHANS_LIMIT_S * 2)) || signal=KILL
    kill -s "$signal" -- "${orphans[@]}" 2>/dev/null || true
    sleep "$POLL_S"
  done
  die "postgres: the processes ${orphans[*]} of a killed server are still there after SIGKILL"
}

# The pids of all that work in our data folder, as every process of a server does. It is the folder itself
# that is compared and not its path: in a container or chroot another folder has the same path.
postgres_processes() {
  local folder pid
  [[ -d $DATA_DIR/postgres ]] || return 0
  for folder in /proc/[0-9]*/cwd; do
    pid=${folder//[^0-9]/}
    if [[ $folder -ef $DATA_DIR/postgres && $(readlink -- "/proc/$pid/exe") == */postgres ]]; then
      echo "$pid"
    fi
  done
}

# A server on our data folder that is not ours is somebody's, and is left alone. Its own command line is the one
# that it was started with; those of its sessions begin with "postgres: ".
refuse_foreign_server() {
  local pid command
  for pid in $(postgres_processes); do
    command=$(command_of_pid "$pid")
    [[ -z $command || $command == "postgres: "* ]] ||
      die "postgres: $DATA_DIR/postgres is in use by a server that was not started here (pid $pid: $command)"
  done
}

# Nobody works on the data folder now. Then the process that its lock file names is either dead and not yet
# taken note of by its parent, or has got the number of the dead one; PostgreSQL can't tell and would refuse to start.
remove_stale_lock() {
  local lock=$DATA_DIR/postgres/postmaster.pid pid
  { read -r pid <"$lock"; } 2>/dev/null || return 0
  [[ ! -e /proc/$pid ]] || rm -f -- "$lock"
}

await_postgres() {
  await_ready postgres "$POSTGRES_LIMIT_S" probe_postgres
  create_databases
}

probe_postgres() {
  "$(postgres_bin_dir)/pg_isready" -q -t 3 -h 127.0.0.1 -p "$(port_of postgres)" >/dev/null 2>&1
}

as_superuser() {
  PGPASSWORD=postgres "$(postgres_bin_dir)/psql" -X -q -v ON_ERROR_STOP=1 \
    -h 127.0.0.1 -p "$(port_of postgres)" -U postgres -d postgres "$@"
}

# Every service has a role and a database that no other role can connect to. Does nothing where they are there.
create_databases() {
  local service
  for service in "${SERVICES[@]}"; do
    [[ ${SERVICE_DATABASES[$service]} == own ]] || continue
    as_superuser -v name="$(database_of "$service")" >/dev/null <<'SQL' || die "postgres: the database of $service could not be made"
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :'name', :'name')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
  done
}
