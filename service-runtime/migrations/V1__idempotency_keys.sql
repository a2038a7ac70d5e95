-- The answers of calls with an Idempotency-Key: what a repeated call is answered with.
CREATE TABLE idempotency_keys (
    user_id      text        NOT NULL,
    call         text        NOT NULL,
    key          text        NOT NULL,
    request_hash bytea       NOT NULL,
    status       smallint    NOT NULL,
    location     text,
    body         text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, call, key)
);

CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- Takes the key's lock until the transaction ends, then looks for the answer. A function, so that
-- the look has a snapshot of its own, taken when the lock is held: a statement's snapshot is older
-- than its locks, and would miss the answer of a call that committed in between. Where there is an
-- answer, nobody needs the lock: who holds it is only repeating the call, too.
CREATE FUNCTION begin_idempotent(p_lock bigint, p_user_id text, p_call text, p_key text)
    RETURNS TABLE (locked boolean, request_hash bytea, status smallint, location text, body text)
    LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    is_locked boolean := pg_try_advisory_xact_lock(p_lock);
BEGIN
    RETURN QUERY
        SELECT is_locked OR k.key IS NOT NULL, k.request_hash, k.status, k.location, k.body
        FROM (SELECT) AS one
        LEFT JOIN idempotency_keys k ON k.user_id = p_user_id AND k.call = p_call AND k.key = p_key;
END $$;
