-- Failed logins of the last hour, by digest: of a network, of a user, and of a user from a network. Digests, because
-- people type their password where their name belongs.
CREATE TABLE login_failures (
    subject BLOB PRIMARY KEY,
    failures INTEGER NOT NULL,
    since INTEGER NOT NULL,
    level INTEGER NOT NULL,
    barred_until INTEGER NOT NULL,
    failed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
