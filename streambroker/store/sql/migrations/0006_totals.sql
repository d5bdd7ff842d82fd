-- Counters that say "total": they outlive a restart. Written now and then, so a crash loses the last seconds of them.
CREATE TABLE totals (
    name TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
