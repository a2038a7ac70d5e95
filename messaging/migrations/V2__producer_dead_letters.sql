-- Events that are published without an outbox, and that Kafka didn't take. They go to their topic from
-- here, through the outbox, in the order of their ids, once Kafka answers again.
CREATE TABLE producer_dead_letters (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- An event that is diverted again, as its publisher didn't learn of the first time, is here once.
    event_id       uuid        NOT NULL UNIQUE,
    topic          text        NOT NULL,
    key            bytea       NOT NULL,
    payload        bytea       NOT NULL,
    traceparent    text        NOT NULL,
    -- HELD: waits for Kafka. REPUBLISHING: in the outbox. REPUBLISHED: on its topic.
    state          text        NOT NULL DEFAULT 'HELD' CHECK (state IN ('HELD', 'REPUBLISHING', 'REPUBLISHED')),
    -- Why Kafka didn't take it.
    error          text        NOT NULL,
    diverted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    republished_at timestamptz CHECK ((republished_at IS NULL) = (state <> 'REPUBLISHED'))
);

-- The backlog, which new events of the same topic queue behind.
CREATE INDEX producer_dead_letters_backlog ON producer_dead_letters (topic, id) WHERE state <> 'REPUBLISHED';
-- What is forgotten after a while.
CREATE INDEX producer_dead_letters_done ON producer_dead_letters (republished_at) WHERE state = 'REPUBLISHED';
