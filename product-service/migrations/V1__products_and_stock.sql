-- What can be bought: name, price, and how many pieces are for sale.
CREATE TABLE products (
    -- Sorted by bytes, as the service sorts: locks are taken in this order.
    product_id text COLLATE "C" PRIMARY KEY,
    name       text   NOT NULL,
    price      bigint NOT NULL CHECK (price >= 0),
    -- Without an upper bound: what a cancelled order held goes back also onto a full shelf.
    stock      bigint NOT NULL CHECK (stock >= 0),
    -- Grows with every change that product-catalog tells.
    version    bigint NOT NULL
    -- Room for the new versions of a hot row beside the old ones.
) WITH (fillfactor = 70);

-- One row per order that was heard of, created and locked before anything else is decided about it.
CREATE TABLE stock_orders (
    order_id  uuid    PRIMARY KEY,
    -- On an order without lines: the cancellation came first, and its lines will get nothing.
    cancelled boolean NOT NULL
);

-- What became of each line. A line is decided once, and given back at most once.
CREATE TABLE stock_lines (
    order_id   uuid             NOT NULL,
    product_id text COLLATE "C" NOT NULL,
    quantity   integer          NOT NULL CHECK (quantity > 0),
    state      text             NOT NULL CHECK (state IN ('HELD', 'REFUSED', 'RESTORED')),
    -- Why it was refused.
    reason     text             CHECK ((state = 'REFUSED') = (reason IS NOT NULL)),
    PRIMARY KEY (order_id, product_id)
);
