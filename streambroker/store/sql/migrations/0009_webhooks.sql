-- URLs that the messages of a queue are pushed to. `username` and `key_id` are who it acts for. The secrets stand here as
-- they are, since the broker has to sign with them. `orphaned`: who it acted for was deleted.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    queue TEXT NOT NULL,
    username TEXT NOT NULL,
    key_id TEXT,
    url TEXT NOT NULL,
    headers TEXT NOT NULL,
    secret TEXT NOT NULL,
    previous_secret TEXT,
    previous_until INTEGER,
    description TEXT,
    concurrency INTEGER NOT NULL,
    timeout_ms INTEGER NOT NULL,
    disable_after_ms INTEGER NOT NULL,
    disabled INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    orphaned INTEGER NOT NULL DEFAULT 0 CHECK (orphaned IN (0, 1)),
    reason TEXT,
    failing_since INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX webhooks_by_queue ON webhooks (queue, id);
CREATE INDEX webhooks_by_user ON webhooks (username);

-- The newest attempts of each webhook. Written now and then, so a crash loses the last seconds of them.
CREATE TABLE webhook_deliveries (
    webhook_id TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    message_id INTEGER,
    attempt INTEGER,
    outcome TEXT NOT NULL,
    status_code INTEGER,
    latency_ms INTEGER NOT NULL,
    error TEXT,
    response TEXT,
    PRIMARY KEY (webhook_id, id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER webhook_gone AFTER DELETE ON webhooks
BEGIN
    DELETE FROM webhook_deliveries WHERE webhook_id = old.id;
END;

CREATE TRIGGER queue_gone_webhooks AFTER UPDATE OF name ON queue WHEN new.name IS NULL
BEGIN
    DELETE FROM webhooks WHERE queue = old.name;
END;

-- Whoever takes the name of a deleted user, or the place of a key, is somebody else.
CREATE TRIGGER user_gone_webhooks AFTER DELETE ON users
BEGIN
    UPDATE webhooks SET disabled = 1, orphaned = 1, reason = 'the user ' || old.username || ', for whom it acted, was deleted'
    WHERE username = old.username;
END;
CREATE TRIGGER key_gone_webhooks AFTER DELETE ON api_keys
BEGIN
    UPDATE webhooks SET disabled = 1, orphaned = 1, reason = 'the API key for which it acted was deleted'
    WHERE key_id = old.id;
END;
