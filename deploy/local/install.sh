# shellcheck shell=bash
# Owns what has to be on the machine: Debian packages that are missing, and Kafka and Zipkin in a cache that all suites share.
# Installs what is missing and nothing else, and starts none of the packages' own services.

readonly JAVA_NEEDED=17
readonly JAVA_PACKAGE=openjdk-17-jre-headless
readonly APT_LOCK_LIMIT_S=300
readonly DOWNLOAD_LIMIT_S=900

install_everything() {
  install_packages missing_packages
  install_jars kafka
  install_jars zipkin
}

# --- packages ---------------------------------------------------------------------------------

# What only tests need: `make demo` does without.
install_for_tests() {
  install_packages missing_test_packages
  install_nextest
}

# Those that the function named here prints.
install_packages() {
  local missing=()
  mapfile -t missing < <("$1")
  ((${#missing[@]} > 0)) || return 0
  command -v apt-get >/dev/null || die "missing: ${missing[*]}; without apt-get they have to be installed by hand"
  echo "installing ${missing[*]}"
  forbid_service_starts
  apt_get update || die "apt-get update failed"
  # Newer releases have only newer Javas.
  apt-cache show "$JAVA_PACKAGE" >/dev/null 2>&1 || missing=("${missing[@]/#$JAVA_PACKAGE/default-jre-headless}")
  apt_get install -y --no-install-recommends "${missing[@]}" || die "apt-get could not install ${missing[*]}"
  allow_service_starts
}

apt_get() {
  run_as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -q=2 -o DPkg::Lock::Timeout="$APT_LOCK_LIMIT_S" -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# One Debian package a line.
missing_packages() {
  local program
  for program in curl jq cmake pkg-config g++ make; do
    command -v "$program" >/dev/null || echo "$program"
  done
  command -v redis-server >/dev/null || echo redis-server
  [[ -n $(postgres_bin_dir) ]] || echo postgresql
  [[ -n $(find_java) ]] || echo "$JAVA_PACKAGE"
  [[ -e /usr/include/openssl/ssl.h ]] || echo libssl-dev
  [[ -e /usr/include/zstd.h ]] || echo libzstd-dev
  [[ -e /usr/include/zlib.h ]] || echo zlib1g-dev
  # librdkafka 2.12 includes curl's header even where it is built without curl.
  pkg-config --exists libcurl 2>/dev/null || echo libcurl4-openssl-dev
  if ! jars_present kafka || ! jars_present zipkin; then
    command -v mvn >/dev/null || echo maven
  fi
}

# The browser that drives the operators' page, and its driver; pip, for the test runner.
missing_test_packages() {
  [[ -x $(nextest_program) ]] || python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
  command -v chromium >/dev/null || echo chromium
  command -v chromedriver >/dev/null || echo chromium-driver
}

# What the generators of clients run on; they themselves are tests/clients/check's business.
missing_client_packages() {
  python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
  command -v node >/dev/null || echo nodejs
  command -v npm >/dev/null || echo npm
}

run_as_root() {
  if ((EUID == 0)); then
    "$@"
  else
    sudo -- "$@"
  fi
}

# Debian starts a service as it installs it, unless this file forbids it. A file that is there already is its owner's word.
readonly POLICY_FILE=/usr/sbin/policy-rc.d
POLICY_IS_OURS=no

forbid_service_starts() {
  [[ ! -e $POLICY_FILE ]] || return 0
  POLICY_IS_OURS=yes
  trap allow_service_starts EXIT
  printf '#!/bin/sh\nexit 101\n' | run_as_root tee "$POLICY_FILE" >/dev/null
  run_as_root chmod 755 "$POLICY_FILE"
}

allow_service_starts() {
  [[ $POLICY_IS_OURS == yes ]] || return 0
  run_as_root rm -f "$POLICY_FILE"
  POLICY_IS_OURS=no
  trap - EXIT
}

# --- what is there ----------------------------------------------------------------------------

# Prints the first java that is new enough, or nothing.
find_java() {
  local java
  for java in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    if [[ -x $java ]] && (($(java_version "$java") >= JAVA_NEEDED)); then
      echo "$java"
      return 0
    fi
  done
}

java_version() {
  local said
  said=$("$1" -version 2>&1) || true
  if [[ $said =~ version\ \"([0-9]+) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi
}

# Prints the folder of PostgreSQL's programs, or nothing: of the version that made our data, else the newest.
postgres_bin_dir() {
  local version_file=$DATA_DIR/postgres/PG_VERSION dirs=() postgres
  shopt -s nullglob
  if [[ -r $version_file ]]; then
    dirs=(/usr/lib/postgresql/"$(<"$version_file")"/bin)
  else
    mapfile -t dirs < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)
  fi
  shopt -u nullglob
  if [[ -n ${dirs[0]:-} && -x ${dirs[0]}/postgres ]]; then
    echo "${dirs[0]}"
  elif postgres=$(command -v postgres); then
    dirname -- "$(realpath -- "$postgres")"
  fi
}

# --- the test runner --------------------------------------------------------------------------

# A folder per version and checksum, shared by all suites.
nextest_program() {
  local fingerprint
  fingerprint=$(sha256sum <"$HERE/nextest.txt")
  echo "$SUITE_CACHE/nextest-${fingerprint:0:12}/bin/cargo-nextest"
}

# cargo-nextest as a wheel, as compiling it takes minutes on two cores; compiled where there is no wheel for this machine.
install_nextest() {
  local program target unfinished version
  program=$(nextest_program)
  [[ ! -x $program ]] || return 0
  target=${program%/bin/*}
  version=$(sed -n 's/^[a-z-]*==\([0-9.]*\).*/\1/p' "$HERE/nextest.txt")
  say nextest "installing $version"
  mkdir -p -- "$SUITE_CACHE" || die "SUITE_CACHE=$SUITE_CACHE cannot be written"
  unfinished=$(mktemp -d -- "$SUITE_CACHE/.nextest-unfinished.XXXXXX")
  if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --target "$unfinished" -r "$HERE/nextest.txt" </dev/null; then
    say nextest "pip has no wheel of it for this machine: compiling it"
    if ! cargo install -q --locked --root "$unfinished" --version "$version" cargo-nextest </dev/null; then
      rm -rf -- "$unfinished"
      die "cargo-nextest $version could be had neither from pip nor from cargo"
    fi
  fi
  chmod 755 -- "$unfinished"
  mv -T -- "$unfinished" "$target" 2>/dev/null || rm -rf -- "$unfinished"
}

# --- Kafka and Zipkin -------------------------------------------------------------------------

# A folder per content of the pom: another version is another folder, and a folder is complete once it has its name.
jars_dir() {
  local fingerprint
  fingerprint=$(sha256sum <"$HERE/$1/pom.xml")
  echo "$SUITE_CACHE/$1-${fingerprint:0:12}"
}

jars_present() { [[ -d $(jars_dir "$1") ]]; }

install_jars() {
  local part=$1 target unfinished started_ms output
  ! jars_present "$part" || return 0
  target=$(jars_dir "$part")
  mkdir -p -- "$SUITE_CACHE" || die "SUITE_CACHE=$SUITE_CACHE cannot be written"
  started_ms=$(now_ms)
  say "$part" "downloading into $target"
  unfinished=$(mktemp -d -- "$SUITE_CACHE/.$part-unfinished.XXXXXX")
  if ! output=$(JAVA_HOME=$(java_home) timeout "$DOWNLOAD_LIMIT_S" mvn -B -q -f "$HERE/$part/pom.xml" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$unfinished" 2>&1 </dev/null); then
    rm -rf -- "$unfinished"
    die "$part could not be downloaded (mvn -f deploy/local/$part/pom.xml dependency:copy-dependencies):"$'\n'"$output"
  fi
  chmod 755 -- "$unfinished"
  # Another suite may have been faster: the same jars then.
  mv -T -- "$unfinished" "$target" 2>/dev/null || rm -rf -- "$unfinished"
  say "$part" "downloaded ($(seconds "$(($(now_ms) - started_ms))"))"
}

java_home() { dirname -- "$(dirname -- "$(realpath -- "$(find_java)")")"; }
