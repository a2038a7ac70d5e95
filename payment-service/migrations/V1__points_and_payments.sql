-- Points: what happened to every balance, in order, for ever. The ledger is the truth, the accounts
-- beside it are its projection; both are written by one statement.
CREATE TABLE points_ledger (
    user_id  text        COLLATE "C" NOT NULL,
    -- The database's clock, taken while the account's row was locked, and later than the user's
    -- entry before: the order of the entries is the order of the locks.
    at       timestamptz NOT NULL,
    -- A UUIDv7. Not indexed: nobody looks an entry up by it, and (user_id, at) says it is one.
    entry_id uuid        NOT NULL,
    kind     text        NOT NULL CHECK (kind IN ('CHARGED', 'DEDUCTED', 'REFUNDED')),
    delta    bigint      NOT NULL CHECK (CASE kind WHEN 'DEDUCTED' THEN delta < 0 ELSE delta > 0 END),
    -- The balance after it.
    balance  bigint      NOT NULL CHECK (balance >= 0),
    order_id uuid        CHECK ((order_id IS NULL) = (kind = 'CHARGED')),
    reason   text        CHECK ((reason IS NOT NULL) = (kind = 'REFUNDED')),
    trace_id text        NOT NULL,
    PRIMARY KEY (user_id, at)
);

-- An order takes points once and gives them back once.
CREATE UNIQUE INDEX points_ledger_once_per_order ON points_ledger (order_id, kind) WHERE order_id IS NOT NULL;

-- Append-only: for everybody by the trigger (also for a superuser, also while he replicates), and for
-- the service's own role, which owns the table, by taking the rights from it.
CREATE FUNCTION refuse_to_change_the_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'points_ledger is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER points_ledger_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON points_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_the_ledger();
ALTER TABLE points_ledger ENABLE ALWAYS TRIGGER points_ledger_is_append_only;
REVOKE UPDATE, DELETE, TRUNCATE ON points_ledger FROM PUBLIC, CURRENT_USER;

-- One row per user who ever charged, or whose account an admin changed.
CREATE TABLE points_accounts (
    user_id           text   COLLATE "C" PRIMARY KEY,
    balance           bigint NOT NULL DEFAULT 0 CHECK (balance >= 0),
    -- All that was ever charged. It bounds the balance, also when every payment is refunded: what
    -- keeps it within an amount's limit keeps any refund from being refused.
    charged           bigint NOT NULL DEFAULT 0 CHECK (charged BETWEEN balance AND 9007199254740991),
    state             text   NOT NULL DEFAULT 'OPEN' CHECK (state IN ('OPEN', 'CLOSED')),
    limit_per_payment bigint CHECK (limit_per_payment > 0),
    -- The user's last entry; null when there is none.
    last_at           timestamptz
) WITH (fillfactor = 70);

-- One row per order, created and locked before anything is decided about it.
CREATE TABLE payments (
    order_id    uuid   PRIMARY KEY,
    -- PENDING only within the transaction that decides. CANCELLED is a tombstone: the order was
    -- cancelled before its payment was asked for.
    status      text   NOT NULL CHECK (status IN ('PENDING', 'CANCELLED', 'COMPLETED', 'FAILED', 'REFUNDED')),
    user_id     text   COLLATE "C" NOT NULL,
    -- What is to be paid; a tombstone doesn't know.
    lines       jsonb,
    discount    bigint,
    total       bigint,
    -- Why it failed, or why what was paid went back.
    reason      text,
    trace_id    text   NOT NULL,
    paid_at     timestamptz,
    refunded_at timestamptz,
    CHECK ((paid_at IS NOT NULL) = (status IN ('COMPLETED', 'REFUNDED'))),
    CHECK ((refunded_at IS NOT NULL) = (status = 'REFUNDED')),
    CHECK (status NOT IN ('COMPLETED', 'REFUNDED') OR (lines IS NOT NULL AND discount IS NOT NULL)),
    CHECK (status = 'CANCELLED' OR total IS NOT NULL),
    CHECK ((reason IS NOT NULL) = (status IN ('FAILED', 'REFUNDED')))
-- Every row is updated at once by the transaction that creates it: room for that on the same page.
) WITH (fillfactor = 48);
