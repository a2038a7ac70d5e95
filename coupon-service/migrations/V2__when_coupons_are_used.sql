-- Since when an order uses it; null while it can be used, and of what was used before this was kept.
ALTER TABLE issued_coupons ADD COLUMN used_at timestamptz;
