# shellcheck shell=bash
# Owns what can be set from outside: SUITE_HOME, SUITE_PORT_OFFSET, SUITE_CACHE, SUITE_PROFILE, SUITE_BIN_DIR and
# SUITE_<NAME>_PORT, and everything that follows from them: ports, paths and addresses.

readonly PARTS=(kafka postgres redis zipkin)

declare -A BASE_PORTS=(
  [kafka]=19092
  [kafka-controller]=19093
  [postgres]=15432
  [redis]=16379
  [zipkin]=19411
)
declare -A SERVICE_DATABASES=()
SERVICES=()
PROGRAMS=() # what `up` builds: the services, and what sets their topics up

die() {
  printf 'suite: %s\n' "$*" >&2
  exit 1
}

usage_error() {
  printf 'suite: %s (see: suite help)\n' "$*" >&2
  exit 2
}

# PostgreSQL refuses to run as root and then runs as user postgres, who can't enter /root.
default_home() {
  if ((EUID == 0)); then
    echo /var/lib/commerce-suite
  else
    echo "$HOME/.commerce-suite"
  fi
}

read_settings() {
  HOME=${HOME:-/root}
  SUITE_HOME=$(realpath -m -- "${SUITE_HOME:-$(default_home)}")
  SUITE_CACHE=$(realpath -m -- "${SUITE_CACHE:-$HOME/.cache/commerce-suite}")
  SUITE_PORT_OFFSET=${SUITE_PORT_OFFSET:-0}
  CARGO_TARGET_DIR=$(realpath -m -- "${CARGO_TARGET_DIR:-$HOME/.cache/commerce-suite/target}")
  # Binaries from elsewhere are their owner's business: they are not built by `up`.
  BUILD_WANTED=yes
  [[ -z ${SUITE_BIN_DIR:-} ]] || BUILD_WANTED=no
  PROFILE=${SUITE_PROFILE:-release}
  [[ $PROFILE == release || $PROFILE == dist ]] || die "SUITE_PROFILE is '$PROFILE'; it may be release or dist"
  BIN_DIR=$(realpath -m -- "${SUITE_BIN_DIR:-$CARGO_TARGET_DIR/$PROFILE}")
  export HOME SUITE_HOME SUITE_CACHE SUITE_PORT_OFFSET CARGO_TARGET_DIR

  RUN_DIR=$SUITE_HOME/run
  LOG_DIR=$SUITE_HOME/log
  DATA_DIR=$SUITE_HOME/data

  read_services
  PROGRAMS=("${SERVICES[@]}" sagactl)
  check_ports_make_sense
}

read_services() {
  local name port database rest
  while read -r name port database rest; do
    [[ -n $name && $name != \#* ]] || continue
    [[ $port =~ ^[0-9]+$ && $database =~ ^(own|all|none)$ && -z $rest ]] ||
      die "deploy/local/services: cannot read the line of $name"
    SERVICES+=("$name")
    BASE_PORTS[$name]=$port
    SERVICE_DATABASES[$name]=$database
  done <"$HERE/services"
}

check_ports_make_sense() {
  [[ $SUITE_PORT_OFFSET =~ ^-?[0-9]{1,5}$ ]] ||
    die "SUITE_PORT_OFFSET is '$SUITE_PORT_OFFSET'; it may be an integer, such as 1000"
  local name port
  for name in "${!BASE_PORTS[@]}"; do
    port=$(port_of "$name")
    if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((10#$port < 1 || 10#$port > 65535)); then
      die "the port of $name would be '$port'; $(port_variable "$name") or SUITE_PORT_OFFSET has to give 1 to 65535"
    fi
  done
}

port_variable() {
  local name=${1^^}
  echo "SUITE_${name//-/_}_PORT"
}

# The port of a part or service: SUITE_<NAME>_PORT, else its usual one moved by SUITE_PORT_OFFSET.
port_of() {
  local variable
  variable=$(port_variable "$1")
  echo "${!variable:-$((BASE_PORTS[$1] + SUITE_PORT_OFFSET))}"
}

is_part() { [[ " ${PARTS[*]} " == *" $1 "* ]]; }
is_service() { [[ -n ${SERVICE_DATABASES[$1]:-} ]]; }

check_name() {
  is_part "$1" || is_service "$1" ||
    usage_error "there is no '$1'; there are ${PARTS[*]} ${SERVICES[*]}"
}

database_of() { echo "${1//-/_}"; }

database_url_of() {
  local database
  database=$(database_of "$1")
  echo "postgres://$database:$database@127.0.0.1:$(port_of postgres)/$database"
}

superuser_url() { echo "postgres://postgres:postgres@127.0.0.1:$(port_of postgres)/postgres"; }

# All databases, comma-separated: what the outbox relay reads.
database_urls() {
  local name urls=()
  for name in "${SERVICES[@]}"; do
    [[ ${SERVICE_DATABASES[$name]} != own ]] || urls+=("$(database_url_of "$name")")
  done
  local IFS=,
  echo "${urls[*]}"
}

# Where every service is, comma-separated: whom the monitor and sagactl ask.
service_urls() {
  local name urls=()
  for name in "${SERVICES[@]}"; do
    [[ ${SERVICE_DATABASES[$name]} == none ]] || urls+=("$name=http://127.0.0.1:$(port_of "$name")")
  done
  local IFS=,
  echo "${urls[*]}"
}

# Where the platform that stands in for the outside one takes payments.
payments_url() { echo "http://127.0.0.1:$(port_of platform-receiver)/payments"; }

# Makes the folders of SUITE_HOME, and says in one line when it can't be used.
prepare_home() {
  mkdir -p -- "$RUN_DIR" "$LOG_DIR" "$DATA_DIR" 2>/dev/null && [[ -w $RUN_DIR ]] ||
    die "SUITE_HOME=$SUITE_HOME cannot be written by $(id -un); set SUITE_HOME to a folder that can"
}

# What a service, a test or a person with curl needs to know about this suite.
print_environment() {
  print_test_environment
  cat <<END
KAFKA_BROKERS=127.0.0.1:$(port_of kafka)
REDIS_URL=redis://127.0.0.1:$(port_of redis)
ZIPKIN_ENDPOINT=http://127.0.0.1:$(port_of zipkin)/api/v2/spans
SERVICE_URLS=$(service_urls)
LOCAL_OPERATOR=${LOCAL_OPERATOR:-local-operator}
END
}

# Without the variables that a service itself reads: a test sets those, and may check what happens when they are missing.
print_test_environment() {
  local name variable
  cat <<END
SUITE_HOME=$SUITE_HOME
SUITE_PORT_OFFSET=$SUITE_PORT_OFFSET
SUITE_CONTROL=$HERE/suite
TEST_KAFKA_BROKERS=127.0.0.1:$(port_of kafka)
TEST_POSTGRES_URL=$(superuser_url)
TEST_REDIS_URL=redis://127.0.0.1:$(port_of redis)
TEST_ZIPKIN_URL=http://127.0.0.1:$(port_of zipkin)
TEST_KAFKA_LIBS=$(jars_dir kafka)
TEST_JAVA=$(find_java)
TEST_BIN_DIR=$CARGO_TARGET_DIR/debug
CARGO_TARGET_DIR=$CARGO_TARGET_DIR
END
  for name in "${SERVICES[@]}"; do
    variable=${name^^}
    # DATA_PLATFORM_URL is where the outside platform is.
    [[ $name != data-platform ]] || variable=DATA_PLATFORM_SERVICE
    echo "${variable//-/_}_URL=http://127.0.0.1:$(port_of "$name")"
  done
}

export_lines_of() {
  local line
  while IFS= read -r line; do
    export "${line?}"
  done < <("$1")
}
