-- The tables, and a few orders to begin with. It runs at every start, and changes nothing after the first.
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    customer TEXT NOT NULL,
    status TEXT NOT NULL,
    placed TEXT NOT NULL, -- dates as 2026-01-31, which sorts by time
    due TEXT,
    lines TEXT NOT NULL, -- JSON
    total TEXT NOT NULL -- a decimal number: SQLite's own numbers are rounded
);
CREATE INDEX IF NOT EXISTS orders_of_tenant ON orders (tenant, id);
INSERT INTO orders (id, tenant, customer, status, placed, due, lines, total) VALUES
    (1, 'main', 'Zoë O''Brien', 'open', '2026-01-12', '2026-02-01', '[{"item": "TE-100", "quantity": 2, "price": "4.50"}]', '9.00'),
    (2, 'main', 'Café Noir', 'shipped', '2026-02-03', NULL, '[{"item": "CO-200", "quantity": 10, "price": "11.95"}]', '119.50'),
    (3, 'main', 'Café Noir', 'open', '2026-03-20', '2026-03-31', '[{"item": "CO-200", "quantity": 4, "price": "11.95"}, {"item": "TE-100", "quantity": 1, "price": "4.50"}]', '52.30'),
    (4, 'acme', 'Ada Lovelace', 'open', '2026-03-21', NULL, '[{"item": "TE-100", "quantity": 1, "price": "4.50"}]', '4.50')
ON CONFLICT (id) DO NOTHING;
COMMIT;
