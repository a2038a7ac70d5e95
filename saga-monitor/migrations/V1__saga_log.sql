-- What was heard, in the order it was written down: one row per record of every topic that is read. It is
-- the truth; everything else in this database but alarms can be made again from it.
CREATE TABLE saga_state_log (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Where the record lies: a record that is read again is no second row.
    topic            text        NOT NULL,
    "partition"      integer     NOT NULL,
    "offset"         bigint      NOT NULL,
    key              bytea,
    -- The trace it belongs to, when it says so properly.
    trace_id         uuid,
    -- Null for what belongs to none, and for retries and dead letters, which belong where their origin does.
    saga             text,
    step             text        NOT NULL,
    status           text        NOT NULL CHECK (status IN ('SUCCESS', 'FAILED', 'RETRYING', 'PARKED', 'DEAD')),
    -- Null when the record has none that can be read.
    event_id         uuid,
    event_type       text,
    -- Who told it; of retries and dead letters, the group that failed.
    service          text        NOT NULL,
    -- What is odd about it.
    marks            text[]      NOT NULL,
    occurred_at      timestamptz NOT NULL,
    -- When the broker or the producer says it was written to the topic.
    written_at       timestamptz NOT NULL,
    recorded_at      timestamptz NOT NULL,
    -- Byte for byte; of retries and dead letters nothing, as their origin has it.
    payload          bytea,
    -- Retries and dead letters only: where the event lay first, and what their headers say.
    origin_topic     text,
    origin_partition integer,
    origin_offset    bigint,
    hop              jsonb,
    UNIQUE (topic, "partition", "offset")
);
CREATE INDEX saga_state_log_by_saga ON saga_state_log (saga, occurred_at, id) WHERE saga IS NOT NULL;
CREATE INDEX saga_state_log_by_trace ON saga_state_log (trace_id, occurred_at, id) WHERE trace_id IS NOT NULL;
CREATE INDEX saga_state_log_by_key ON saga_state_log (key, occurred_at, id) WHERE key IS NOT NULL;
CREATE INDEX saga_state_log_by_type ON saga_state_log (event_type, occurred_at, id);
CREATE INDEX saga_state_log_by_time ON saga_state_log (occurred_at, id);
CREATE INDEX saga_state_log_by_event ON saga_state_log (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX saga_state_log_by_origin ON saga_state_log (origin_topic, origin_partition, origin_offset)
    WHERE origin_topic IS NOT NULL;

-- Insert only: for everybody by the trigger (also for a superuser, also while he replicates), and for the
-- service's own role, which owns the table, by taking the rights from it.
CREATE FUNCTION refuse_to_change_the_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'saga_state_log is insert-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER saga_state_log_is_insert_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON saga_state_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_the_log();
ALTER TABLE saga_state_log ENABLE ALWAYS TRIGGER saga_state_log_is_insert_only;
REVOKE UPDATE, DELETE, TRUNCATE ON saga_state_log FROM PUBLIC, CURRENT_USER;

-- Where each saga stands. A projection of the log, but for the last columns, which the detection judges anew in
-- each of its rounds.
CREATE TABLE sagas (
    -- type and key in one text, unique also for what has no proper key.
    saga          text        COLLATE "C" PRIMARY KEY,
    type          text        NOT NULL CHECK (type IN ('order', 'coupon-issue')),
    key           text        NOT NULL,
    trace_id      uuid,
    state         text        NOT NULL
                  CHECK (state IN ('IN_PROGRESS', 'COMPLETED', 'COMPENSATING', 'COMPENSATED', 'FAILED')),
    started_at    timestamptz NOT NULL,
    -- When something of it happened last, and when a group last tried again or gave up.
    fact_at       timestamptz NOT NULL,
    hop_at        timestamptz,
    progress_at   timestamptz NOT NULL GENERATED ALWAYS AS (GREATEST(fact_at, hop_at)) STORED,
    -- The first thing that is owed, and who owes it.
    waiting_event text,
    waiting_from  text,
    -- What doesn't match as far as is known, and what was odd about its records.
    doubts        text[]      NOT NULL,
    marks         text[]      NOT NULL,
    -- What everything above follows from.
    facts         text        NOT NULL,
    -- Judged by the detection.
    stuck         boolean     NOT NULL DEFAULT false,
    mismatches    text[]      NOT NULL DEFAULT '{}',
    -- The cause of the alarm that tells of it, the class of what holds it up, and when that was found out.
    cause         text,
    cause_class   text,
    judged_at     timestamptz,
    CHECK ((waiting_event IS NULL) = (waiting_from IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX sagas_newest ON sagas (started_at, saga);
CREATE INDEX sagas_by_type ON sagas (type, started_at, saga);
CREATE INDEX sagas_by_state ON sagas (state, started_at, saga);
CREATE INDEX sagas_by_key ON sagas (key);
CREATE INDEX sagas_by_trace ON sagas (trace_id) WHERE trace_id IS NOT NULL;
-- What the detection looks through.
CREATE INDEX sagas_open ON sagas (progress_at) WHERE state IN ('IN_PROGRESS', 'COMPENSATING');
CREATE INDEX sagas_doubted ON sagas (progress_at) WHERE doubts <> '{}';
CREATE INDEX sagas_stuck ON sagas (started_at, saga) WHERE stuck;
CREATE INDEX sagas_to_judge ON sagas (judged_at NULLS FIRST, progress_at) WHERE stuck;
CREATE INDEX sagas_mismatched ON sagas (started_at, saga) WHERE mismatches <> '{}';
CREATE INDEX sagas_by_cause ON sagas (cause) WHERE cause IS NOT NULL;

-- The last that was heard of an event that a group could not handle. A projection of the log, too.
CREATE TABLE hops (
    topic         text        NOT NULL,
    "partition"   integer     NOT NULL,
    "offset"      bigint      NOT NULL,
    consumer_group text       NOT NULL,
    status        text        NOT NULL CHECK (status IN ('RETRYING', 'DEAD')),
    tier          text        NOT NULL,
    attempt       integer     NOT NULL,
    due_at        timestamptz,
    error_class   text,
    error_message text,
    at            timestamptz NOT NULL,
    PRIMARY KEY (topic, "partition", "offset", consumer_group)
);
CREATE INDEX hops_by_status ON hops (consumer_group, status, error_class);

-- How far each partition is read: what the watermark is made of. Written with the log, so that it never says
-- more than the log holds.
CREATE TABLE read_positions (
    topic       text        NOT NULL,
    "partition" integer     NOT NULL,
    next_offset bigint      NOT NULL,
    -- The latest record time so far.
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (topic, "partition")
) WITH (fillfactor = 50);
