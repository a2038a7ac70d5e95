-- What operators do with dead letters, and that they did it.

-- When the payload was taken away for good; the fact stays.
ALTER TABLE dead_letters ADD COLUMN purged_at timestamptz;
-- What operators look for. By hash: a stranger's key may be longer than other indexes take.
CREATE INDEX dead_letters_by_key ON dead_letters USING hash (key_text);
CREATE INDEX dead_letters_by_trace ON dead_letters USING hash (trace_id);

-- A replay is a row that is worked on, step by step, by whichever instance locks it: it outlives them all.
CREATE TABLE replays (
    id              uuid        PRIMARY KEY,
    -- HALTED: sends no more; what it has sent is followed to its end.
    state           text        NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'HALTED', 'DONE')),
    destination     text        NOT NULL CHECK (destination IN ('group', 'origin')),
    -- The ids or the filter, as the operator sent them.
    selection       jsonb       NOT NULL,
    rate_per_second integer     NOT NULL CHECK (rate_per_second > 0),
    reason          text        NOT NULL,
    asked_by        text        NOT NULL,
    asked_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Why it halted.
    note            text,
    -- Null until nothing of it is on its way any more.
    ended_at        timestamptz,
    -- How many dead letters it is about, and what became of them so far.
    selected        integer     NOT NULL,
    sent            integer     NOT NULL DEFAULT 0,
    skipped         integer     NOT NULL DEFAULT 0,
    applied         integer     NOT NULL DEFAULT 0,
    dead_again      integer     NOT NULL DEFAULT 0,
    -- How many of the last that ended died again, one after another.
    dead_in_a_row   integer     NOT NULL DEFAULT 0,
    -- The rate is kept across instances and restarts: nothing is sent before this.
    next_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX replays_under_way ON replays (next_at) WHERE ended_at IS NULL;

-- The dead letters of a replay, in the order in which they are sent.
CREATE TABLE replay_items (
    replay_id      uuid        NOT NULL REFERENCES replays,
    position       integer     NOT NULL,
    -- A parked one that is applied before its turn is no dead letter any more.
    dead_letter_id uuid        NOT NULL,
    state          text        NOT NULL DEFAULT 'WAITING'
                   CHECK (state IN ('WAITING', 'SENT', 'SKIPPED', 'APPLIED', 'DEAD')),
    -- Why it was skipped.
    because        text,
    sent_at        timestamptz,
    ended_at       timestamptz,
    PRIMARY KEY (replay_id, position)
);
CREATE INDEX replay_items_open ON replay_items (replay_id, state, position) WHERE state IN ('WAITING', 'SENT');

-- Who did what, when, why, with what result; refusals too.
CREATE TABLE audit_log (
    id       uuid        PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    who      text        NOT NULL,
    action   text        NOT NULL,
    -- What it was about, as it was asked for: ids, a filter, a replay.
    subject  jsonb       NOT NULL,
    -- Null when he gave none, which is one way to be refused.
    reason   text,
    result   text        NOT NULL CHECK (result IN ('DONE', 'REFUSED')),
    -- What came of it, or why it was refused.
    detail   jsonb       NOT NULL,
    trace_id text
);
CREATE INDEX audit_log_by_action ON audit_log (action, id);

-- Append-only: for everybody by the trigger (also for a superuser, also while he replicates), and for the
-- service's own role, which owns the table, by taking the rights from it.
CREATE FUNCTION refuse_to_change_the_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_log_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_the_audit_log();
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_is_append_only;
REVOKE UPDATE, DELETE, TRUNCATE ON audit_log FROM PUBLIC, CURRENT_USER;
