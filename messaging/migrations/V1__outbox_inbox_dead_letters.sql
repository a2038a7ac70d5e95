-- What the life of an event needs in every service's own database.

-- Events that are written but not yet acknowledged by Kafka. outbox-relay claims rows, publishes them
-- and deletes them. The table is nearly always empty and turns over fast: vacuum it eagerly.
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic       text        NOT NULL,
    key         bytea       NOT NULL,
    payload     bytea       NOT NULL,
    -- Headers beside content-type and traceparent, such as x-resume.
    headers     jsonb,
    traceparent text,
    -- The span that published; null when the event was published before and is only sent again.
    parent_span text,
    -- Goes through the relay's fenced producer: on a compacted topic a late duplicate would stay for ever.
    compacted   boolean     NOT NULL DEFAULT false,
    written_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

-- Which relay moves this database's rows. One row; a holder that doesn't renew loses it.
CREATE TABLE relay_lease (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    holder     uuid,
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO relay_lease DEFAULT VALUES;

-- Where each event stands in this group. Partitioned by the day of the event's own time, which never
-- changes, so that an id is looked for in one partition however late or often it arrives.
CREATE TABLE inbox (
    day          date        NOT NULL,
    event_id     uuid        NOT NULL,
    state        text        NOT NULL DEFAULT 'applied'
                 CHECK (state IN ('applied', 'waiting', 'retrying', 'parked', 'dead', 'discarded', 'unread')),
    hop          integer     NOT NULL DEFAULT 0,
    topic        text        NOT NULL,
    "partition"  integer     NOT NULL,
    "offset"     bigint      NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, day)
) PARTITION BY RANGE (day);

-- What was published while an event was handled, to be published again byte for byte on a resume.
CREATE TABLE kept_answers (
    day         date    NOT NULL,
    cause_id    uuid    NOT NULL,
    position    integer NOT NULL,
    topic       text    NOT NULL,
    key         bytea   NOT NULL,
    payload     bytea   NOT NULL,
    traceparent text    NOT NULL,
    compacted   boolean NOT NULL,
    PRIMARY KEY (cause_id, day, position)
) PARTITION BY RANGE (day);

-- Records that this group could not handle, byte for byte, known by where they lay.
CREATE TABLE dead_letters (
    id               uuid        PRIMARY KEY,
    state            text        NOT NULL CHECK (state IN ('DEAD', 'PARKED', 'REPLAYED', 'DISCARDED')),
    origin_topic     text        NOT NULL,
    origin_partition integer     NOT NULL,
    origin_offset    bigint      NOT NULL,
    origin_timestamp timestamptz,
    key              bytea,
    payload          bytea,
    header_names     text[]      NOT NULL,
    header_values    bytea[]     NOT NULL,
    -- Null when the record has none that can be read.
    event_id         uuid,
    event_type       text,
    event_time       timestamptz,
    trace_id         text,
    -- The key as text, when it is text: what operators filter by.
    key_text         text,
    attempts         integer     NOT NULL,
    error_class      text        NOT NULL,
    error_message    text        NOT NULL,
    first_failed_at  timestamptz NOT NULL,
    last_failed_at   timestamptz NOT NULL,
    -- Parked ones only: when the next batch tries them.
    due_at           timestamptz,
    -- The last replay or discard; who and why stands in the audit log.
    closed_at        timestamptz,
    UNIQUE (origin_topic, origin_partition, origin_offset)
);
CREATE INDEX dead_letters_by_state ON dead_letters (state, id);
CREATE INDEX dead_letters_by_event ON dead_letters (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX dead_letters_due ON dead_letters (due_at) WHERE state = 'PARKED';
