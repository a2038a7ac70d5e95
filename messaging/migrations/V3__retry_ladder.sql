-- When handling fails: hops through the retry topics, keys that wait behind a failed event, parked and
-- dead records. Their replay, and who did what about them: V4.

-- A row of the outbox may also be a record on its way to one of the group's own topics: as it was, with or
-- without key and value, with all its headers. Null headers: an event of our own, whose content-type and
-- traceparent the relay adds.
ALTER TABLE outbox
    ALTER COLUMN key DROP NOT NULL,
    ALTER COLUMN payload DROP NOT NULL,
    DROP COLUMN headers,
    ADD COLUMN header_names text[],
    ADD COLUMN header_values bytea[],
    ADD CHECK (cardinality(header_names) = cardinality(header_values));

-- `hop` counts the moves of an event. A record on an own topic says which move brought it there; one with
-- another number than its row here is stale.
ALTER TABLE inbox
    -- Where a retrying event is, and when it is due there; null otherwise.
    ADD COLUMN tier text CHECK (tier IN ('retry-1', 'retry-2', 'retry-3', 'replay')),
    ADD COLUMN due_at timestamptz;

-- Events of topics that are kept for ever have no day and no memory; while one of them waits, retries or is
-- dead, its row stands here. Never dropped.
CREATE TABLE inbox_standing PARTITION OF inbox FOR VALUES FROM ('0001-01-01') TO ('0001-01-02');

-- Keys in which an event failed: until it is applied, dead or discarded, later ones of its key wait. Who
-- blocks, appends or drains locks the row; it goes when a transaction finds no follower.
CREATE TABLE waiting_keys (
    topic       text        NOT NULL,
    key         bytea       NOT NULL,
    -- The event that is waited for; null once it is through, while its followers are drained.
    head_day    date,
    head_id     uuid,
    -- Once the head is through: when somebody may take up draining its followers (again).
    drain_after timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, key),
    CHECK ((head_day IS NULL) = (head_id IS NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX waiting_keys_by_head ON waiting_keys (head_id, head_day) WHERE head_id IS NOT NULL;
CREATE INDEX waiting_keys_released ON waiting_keys (drain_after) WHERE head_id IS NULL;

-- The followers, in the order in which they lay on their topic. They use up no attempts.
CREATE TABLE waiting_events (
    topic            text        NOT NULL,
    key              bytea       NOT NULL,
    position         bigint      GENERATED ALWAYS AS IDENTITY,
    day              date        NOT NULL,
    event_id         uuid        NOT NULL,
    origin_partition integer     NOT NULL,
    origin_offset    bigint      NOT NULL,
    origin_timestamp timestamptz,
    payload          bytea       NOT NULL,
    header_names     text[]      NOT NULL,
    header_values    bytea[]     NOT NULL,
    arrived_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, key, position),
    FOREIGN KEY (topic, key) REFERENCES waiting_keys
);
CREATE UNIQUE INDEX waiting_events_by_event ON waiting_events (event_id, day);

-- An event is one dead letter, wherever it lay when it died; what could not be read is known by where it lay.
ALTER TABLE dead_letters
    DROP CONSTRAINT dead_letters_origin_topic_origin_partition_origin_offset_key,
    -- Under which day `inbox` knows the event; null when the record could not be read.
    ADD COLUMN day date,
    -- How many parked batches have tried it.
    ADD COLUMN parked_attempts integer NOT NULL DEFAULT 0,
    -- When the alarm is to be sent (again); null when it was, or nobody listens.
    ADD COLUMN alarm_due_at timestamptz,
    ADD COLUMN alarm_attempts integer NOT NULL DEFAULT 0,
    -- The replay under way, or the last.
    ADD COLUMN replay_id uuid;
CREATE UNIQUE INDEX dead_letters_of_events ON dead_letters (event_id, day) WHERE day IS NOT NULL;
CREATE UNIQUE INDEX dead_letters_of_places ON dead_letters (origin_topic, origin_partition, origin_offset)
    WHERE day IS NULL;
DROP INDEX dead_letters_due;
CREATE INDEX dead_letters_due ON dead_letters (due_at, id) WHERE state = 'PARKED';
CREATE INDEX dead_letters_alarm ON dead_letters (alarm_due_at) WHERE alarm_due_at IS NOT NULL;
CREATE INDEX dead_letters_by_replay ON dead_letters (replay_id, id) WHERE replay_id IS NOT NULL;
