# shellcheck shell=bash
# Owns the PostgreSQL server, and in it one role and one database per service. All settings are on its command line.
# It has no unix socket: their paths are limited to 107 characters, which a SUITE_HOME may well exceed.

readonly POSTGRES_LIMIT_S=60
readonly POSTGRES_TRIES=5

start_postgres() {
  local bin
  bin=$(postgres_bin_dir)
  [[ -n $bin ]] || die "postgres is not installed; run: suite install"
  create_postgres_data "$bin"
  spawn postgres "${AS_POSTGRES[@]}" "$bin/postgres" -D "$DATA_DIR/postgres" \
    -c listen_addresses=127.0.0.1 \
    -c port="$(port_of postgres)" \
    -c unix_socket_directories= \
    -c max_connections=300 \
    -c shared_buffers=256MB \
    -c timezone=UTC -c log_timezone=UTC \
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
  choose_postgres_user
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

# Backends of a server that was killed hold its memory until they notice; the next server won't start before.
await_postgres() {
  local try
  for ((try = 1; try < POSTGRES_TRIES; try++)); do
    sleep 0.3
    ! is_running postgres || break
    log_since_spawn postgres | grep -q 'pre-existing shared memory block' || break
    say postgres "waits for the last processes of its killed predecessor"
    sleep 1
    start_postgres
  done
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
