-- The ids of a user's sessions end in it while they hold, so a new one ends them all. Sessions from before have none.
ALTER TABLE users ADD COLUMN generation TEXT NOT NULL DEFAULT '';

-- Keys for workers, stored hashed. Without grants (NULL) a key may do what its user may.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    grants TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE INDEX api_keys_by_user ON api_keys (username);
