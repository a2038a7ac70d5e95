-- One row per order: everything that is decided about an order is decided on its locked row.
-- Each order is updated two or three times within seconds; the free space keeps those updates on
-- the page, and no index names a column that changes before the order ends.
CREATE TABLE orders (
    order_id         uuid        PRIMARY KEY,
    user_id          text        NOT NULL,
    status           text        NOT NULL
                     CHECK (status IN ('PENDING', 'AWAITING_PAYMENT', 'CONFIRMED', 'CANCELLED')),
    -- Grows with each transition.
    order_version    integer     NOT NULL,
    -- As in the events: [{productId, name, quantity, unitPrice, amount}]. Never changes.
    lines            jsonb       NOT NULL,
    -- Per line, in the order of the lines: ASKED, HELD or REFUSED.
    stock            jsonb       NOT NULL,
    issued_coupon_id uuid,
    coupon           text        CHECK (coupon IN ('ASKED', 'HELD', 'REFUSED')),
    -- What payment-service said last; null while it said nothing.
    payment          text        CHECK (payment IN ('COMPLETED', 'FAILED', 'REFUNDED')),
    -- Won.
    subtotal         bigint      NOT NULL,
    discount         bigint      NOT NULL,
    total            bigint      NOT NULL GENERATED ALWAYS AS (subtotal - discount) STORED,
    -- Why it was cancelled, and what the person said who did it.
    reason           text,
    note             text,
    -- The span of the request that placed it: what is published later belongs to the same trace.
    traceparent      text        NOT NULL,
    created_at       timestamptz NOT NULL,
    -- Of the last transition.
    updated_at       timestamptz NOT NULL,
    -- When it was placed, by the database's clock; null once it is confirmed or cancelled.
    open_since       timestamptz,
    CHECK (0 <= discount AND discount <= subtotal),
    CHECK ((issued_coupon_id IS NULL) = (coupon IS NULL)),
    CHECK ((status = 'CANCELLED') = (reason IS NOT NULL)),
    CHECK ((status IN ('PENDING', 'AWAITING_PAYMENT')) = (open_since IS NOT NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- A customer's orders, newest first: order ids are in the order of time.
CREATE INDEX orders_by_user ON orders (user_id, order_id DESC);
-- What the timeout looks through.
CREATE INDEX orders_open ON orders (open_since) WHERE open_since IS NOT NULL;

-- The read copy of the catalogue. The highest version wins.
CREATE TABLE products (
    product_id text   PRIMARY KEY,
    name       text   NOT NULL,
    -- Won per piece.
    price      bigint NOT NULL,
    version    bigint NOT NULL
);
