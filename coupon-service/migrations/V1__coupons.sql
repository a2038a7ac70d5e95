-- What can be claimed. Everything that is decided about who gets a coupon is decided on its locked row.
CREATE TABLE coupons (
    coupon_id   text COLLATE "C" PRIMARY KEY,
    name        text        NOT NULL,
    mode        text        NOT NULL CHECK (mode IN ('set', 'ranked')),
    quantity    bigint      NOT NULL CHECK (quantity > 0),
    -- As in the events: {kind, value, max?}.
    discount    jsonb       NOT NULL,
    -- [{fromRank, toRank, discount}], by rank; empty in set mode.
    rewards     jsonb       NOT NULL,
    -- The gate admits from opens_at on, and before closes_at. Null: from the beginning, without end.
    opens_at    timestamptz,
    closes_at   timestamptz,
    -- An order placed later can't use the coupon.
    valid_until timestamptz,
    -- Of the gate. Raised whenever the gate is rebuilt; admissions of an older one count no more.
    epoch       bigint      NOT NULL DEFAULT 1 CHECK (epoch > 0),
    -- The rows of issued_coupons, counted by the statement that inserts them. The third line of defence.
    issued      bigint      NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL,
    CONSTRAINT coupons_never_more_than_quantity CHECK (issued BETWEEN 0 AND quantity)
-- A hot row: room for its new versions beside the old ones.
) WITH (fillfactor = 50);

-- Who holds what. A row is an issued coupon, and nothing else is. Without a foreign key: the one statement
-- that inserts joins the coupon, and a check row by row would only slow it down.
CREATE TABLE issued_coupons (
    issued_coupon_id uuid        PRIMARY KEY,
    coupon_id        text        COLLATE "C" NOT NULL,
    user_id          text        COLLATE "C" NOT NULL,
    -- 1-based; ranked mode only.
    rank             bigint      CHECK (rank > 0),
    -- The id of the coupon-issue-requested that it was issued for.
    request_id       uuid        NOT NULL,
    discount         jsonb       NOT NULL,
    valid_until      timestamptz,
    issued_at        timestamptz NOT NULL,
    -- The order that uses it; null while it can be used.
    order_id         uuid,
    -- One per user: the user comes first, as his coupons are listed by it.
    CONSTRAINT issued_coupons_one_per_user UNIQUE (user_id, coupon_id),
    -- Each rank once. Also what a coupon's holders are listed by, in both modes.
    CONSTRAINT issued_coupons_each_rank_once UNIQUE (coupon_id, rank)
-- Room for being used and restored.
) WITH (fillfactor = 90);

-- Admissions of which no coupon came, by the id of their request: what the customer is told, and what
-- the gate still has to take back.
CREATE TABLE unused_admissions (
    request_id  uuid        PRIMARY KEY,
    coupon_id   text        COLLATE "C" NOT NULL,
    user_id     text        COLLATE "C" NOT NULL,
    rank        bigint,
    epoch       bigint      NOT NULL,
    -- REJECTED: the user gets none. RANK_TAKEN: he gets none, as his rank is somebody else's.
    -- ALREADY_HELD: he holds one by another request.
    outcome     text        NOT NULL CHECK (outcome IN ('REJECTED', 'RANK_TAKEN', 'ALREADY_HELD')),
    -- Of the rejection.
    reason      text        CHECK ((reason IS NULL) = (outcome = 'ALREADY_HELD')),
    -- The rank that the user holds, if he holds one: it is not free.
    held_rank   bigint,
    decided_at  timestamptz NOT NULL,
    -- When the gate took it back; null until then.
    released_at timestamptz
);

-- What a customer's claim came to.
CREATE INDEX unused_admissions_by_user ON unused_admissions (user_id, coupon_id);
-- What the reconciler looks through.
CREATE INDEX unused_admissions_unreleased ON unused_admissions (coupon_id, decided_at) WHERE released_at IS NULL;

-- One row per order that wants to use a coupon, or was cancelled before it was heard of. Created and
-- locked before anything is decided about it.
CREATE TABLE coupon_orders (
    order_id         uuid    PRIMARY KEY,
    cancelled        boolean NOT NULL,
    -- What became of its wish; null while it wasn't heard. A wish is decided once, and restored at most once.
    state            text    CHECK (state IN ('USED', 'REFUSED', 'RESTORED')),
    issued_coupon_id uuid    CHECK ((issued_coupon_id IS NULL) = (state IS NULL)),
    -- Won taken off.
    discount         bigint  CHECK ((discount IS NULL) = (state IS NULL OR state = 'REFUSED')),
    -- Why it was refused.
    reason           text    CHECK ((reason IS NOT NULL) = (state IS NOT DISTINCT FROM 'REFUSED'))
-- Every row is updated at once by the transaction that creates it: room for that on the same page.
) WITH (fillfactor = 50);

-- A coupon is used by one order at a time, whatever the service believes.
CREATE UNIQUE INDEX coupon_orders_one_at_a_time ON coupon_orders (issued_coupon_id) WHERE state = 'USED';
