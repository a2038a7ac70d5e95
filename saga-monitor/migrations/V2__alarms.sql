-- What somebody should look at: one per cause, however many sagas suffer from it.
CREATE TABLE alarms (
    id              uuid        PRIMARY KEY,
    kind            text        NOT NULL CHECK (kind IN ('stuck', 'mismatched', 'dead-letter', 'lag')),
    -- What it is about: the same cause doesn't alarm again while its alarm is open.
    cause           text        COLLATE "C" NOT NULL,
    -- The class of the cause, such as CONSUMER_DEAD.
    cause_class     text        NOT NULL,
    title           text        NOT NULL,
    detail          jsonb       NOT NULL,
    -- How many sagas, dead letters or records; and the worst it was.
    count           bigint      NOT NULL,
    opened_at       timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text,
    closed_at       timestamptz
);
CREATE UNIQUE INDEX alarms_one_per_cause ON alarms (kind, cause) WHERE closed_at IS NULL;
CREATE INDEX alarms_newest ON alarms (opened_at, id);

-- What is to be said to the webhook: written with the alarm, deleted once it was taken.
CREATE TABLE notices (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alarm_id   uuid        NOT NULL REFERENCES alarms,
    text       text        NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts   integer     NOT NULL DEFAULT 0,
    last_error text
);
