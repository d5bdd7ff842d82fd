-- What a message does not tell of its past by itself: attempts that did not end well, being given up, redrives. `mark`
-- is a number of core.timeline.Mark. A message that is delivered once and acked has no row here.
CREATE TABLE timeline (
    message_id        INTEGER NOT NULL,
    number            INTEGER NOT NULL,
    at                INTEGER NOT NULL,
    mark              INTEGER NOT NULL,
    attempt           INTEGER NOT NULL,
    consumer          TEXT,
    delivered_at      INTEGER,
    lease_expires_at  INTEGER,
    error             TEXT,
    PRIMARY KEY (message_id, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER message_gone_timeline AFTER DELETE ON message
BEGIN
    DELETE FROM timeline WHERE message_id = old.id;
END;
