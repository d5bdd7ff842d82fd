-- A dropped queue keeps its row, without a name, until its messages are swept.
CREATE TABLE queue (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT UNIQUE,
    config      TEXT NOT NULL,
    paused      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
);

-- One row is the whole truth of a message but for large content, which stands in a table of its own: SQLite writes a row
-- anew when its state changes, and a megabyte that never changes need not be written with it.
CREATE TABLE message (
    id            INTEGER PRIMARY KEY,
    queue_id      INTEGER NOT NULL,
    state         INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    failures      INTEGER NOT NULL,
    max_attempts  INTEGER,
    updated_at    INTEGER NOT NULL,
    available_at  INTEGER NOT NULL,
    expires_at    INTEGER,
    due_at        INTEGER,
    lease         TEXT,
    holder        TEXT,
    verdict       INTEGER NOT NULL,
    error         TEXT,
    dead_letter   TEXT,
    priority      INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    "key"         TEXT,
    attributes    BLOB,
    content       BLOB
);

CREATE TABLE content (
    id    INTEGER PRIMARY KEY,
    body  BLOB NOT NULL
);
CREATE TRIGGER message_gone AFTER DELETE ON message WHEN old.content IS NULL
BEGIN
    DELETE FROM content WHERE id = old.id;
END;

-- Serves the claim (state 0 in the order of delivery), browsing, purging and counting.
CREATE INDEX message_by_state ON message (queue_id, state, priority DESC, id);
-- Serves the tick: whatever will happen to a message by itself.
CREATE INDEX message_by_due ON message (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX message_by_key ON message (queue_id, "key") WHERE "key" IS NOT NULL;

-- What was published under a dedup id, of one message or (batch = 1) of a whole batch.
CREATE TABLE dedup (
    queue_id    INTEGER NOT NULL,
    batch       INTEGER NOT NULL,
    "key"       TEXT NOT NULL,
    digest      BLOB NOT NULL,
    ids         TEXT NOT NULL,
    duplicates  TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (queue_id, batch, "key")
) WITHOUT ROWID;
CREATE INDEX dedup_by_end ON dedup (expires_at);
