-- A key may be longer than an index can hold, and no record may keep the log from growing. Whatever is that long is
-- no id of ours, and nobody looks for it.
DROP INDEX saga_state_log_by_key;
CREATE INDEX saga_state_log_by_key ON saga_state_log (key, occurred_at, id) WHERE octet_length(key) <= 512;

-- Only those that may still be marked, so that a round doesn't pass by all that are marked already.
DROP INDEX sagas_open;
CREATE INDEX sagas_open ON sagas (progress_at) WHERE state IN ('IN_PROGRESS', 'COMPENSATING') AND NOT stuck;
