-- The user whose quotas a queue counts against; empty where it is nobody's.
ALTER TABLE queue ADD COLUMN owner TEXT NOT NULL DEFAULT '';
