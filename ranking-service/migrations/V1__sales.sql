-- What was sold of each product in each window, refunds taken off. A projection of the payment topics:
-- counted up and down only, so that events may come in any order; below zero for a moment, when a
-- refund is heard before its payment.
CREATE TABLE sales (
    window_kind  text COLLATE "C" NOT NULL CHECK (window_kind IN ('hour', 'day', 'week')),
    -- UTC; weeks begin on Monday.
    window_start timestamptz      NOT NULL,
    -- Sorted by bytes, as ties are.
    product_id   text COLLATE "C" NOT NULL,
    quantity     bigint           NOT NULL,
    -- Sum of the lines' amounts, before any discount.
    amount       bigint           NOT NULL,
    PRIMARY KEY (window_kind, window_start, product_id)
    -- Room for the new versions of a hot row beside the old ones.
) WITH (fillfactor = 70);

-- What products are called.
CREATE TABLE product_names (
    product_id text COLLATE "C" PRIMARY KEY,
    name       text   NOT NULL,
    -- The catalogue's; 0 while only an order line has said the name.
    version    bigint NOT NULL
);
