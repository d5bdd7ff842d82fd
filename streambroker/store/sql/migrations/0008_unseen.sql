-- 1: the broker made the user's password and does not know that anybody has read it. The next start makes another one.
ALTER TABLE users ADD COLUMN unseen INTEGER NOT NULL DEFAULT 0 CHECK (unseen IN (0, 1));
