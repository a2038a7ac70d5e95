# shellcheck shell=bash
# Owns the Kafka broker: one KRaft node whose settings are kafka/server.properties.

readonly KAFKA_LIMIT_S=60

# A broker that lives for a minute is better off without what pays later: with C1 and the serial collector it starts in half
# the processor time (4.4 s instead of 8.5 s).
kafka_jvm_options() { [[ ${SUITE_SHORT_LIVED:-} != yes ]] || echo -XX:TieredStopAtLevel=1 -XX:+UseSerialGC; }

start_kafka() {
  local java settings=$DATA_DIR/kafka.properties options
  read -ra options < <(kafka_jvm_options) || true
  java=$(find_java)
  [[ -n $java ]] && jars_present kafka || die "kafka is not installed; run: suite install"
  write_kafka_settings "$settings"
  format_kafka "$java" "$settings"
  spawn kafka "$java" "${options[@]}" -Xms256m -Xmx512m -XX:+ExitOnOutOfMemoryError -Dlog4j2.configurationFile="$HERE/kafka/log4j2.yaml" \
    -cp "$(jars_dir kafka)/*" kafka.Kafka "$settings"
}

write_kafka_settings() {
  sed -e "s|@PORT@|$(port_of kafka)|" \
    -e "s|@CONTROLLER_PORT@|$(port_of kafka-controller)|" \
    -e "s|@DATA@|$DATA_DIR/kafka|" \
    "$HERE/kafka/server.properties" >"$1"
}

# Once per SUITE_HOME: a formatted folder holds the cluster's id.
format_kafka() {
  local java=$1 settings=$2 output
  [[ ! -e $DATA_DIR/kafka/meta.properties ]] || return 0
  output=$("$java" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.configurationFile="$HERE/kafka/log4j2.yaml" -cp "$(jars_dir kafka)/*" \
    kafka.tools.StorageTool format --standalone -t "$(new_cluster_id)" -c "$settings" 2>&1) ||
    die "kafka's data folder could not be formatted: $output"
}

# 16 random bytes in URL-safe base64, as Kafka wants it; not beginning with a dash, which would look like an option.
new_cluster_id() {
  local id
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_')
  id=${id:0:22}
  echo "${id/#-/A}"
}

# A start is complete with its log line; after that it has to answer an ApiVersions request
# (10 bytes: key 18, version 0, correlation id 1, no client id).
await_kafka() { await_ready kafka "$KAFKA_LIMIT_S" kafka_has_started; }

kafka_has_started() { grep -q 'Kafka Server started' < <(log_since_spawn kafka) && probe_kafka; }

probe_kafka() {
  local answer
  # shellcheck disable=SC2016 # $0 is for the inner shell
  answer=$(timeout 3 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$0"
    printf "\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff" >&3
    head -c 8 <&3 | od -An -tx1' "$(port_of kafka)" 2>/dev/null) || return 1
  [[ $answer == *"00 00 00 01" ]]
}
