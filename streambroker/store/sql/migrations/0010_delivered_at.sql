-- When the message was last handed out. `updated_at` was that until the lease was extended or the message settled.
ALTER TABLE message ADD COLUMN delivered_at INTEGER;
