-- An id says when its request began, so the order of the ledger finds it, and keeps it from being written twice. Of entries
-- whose ids do not say, this does: bills of responses that were made in the background.
CREATE TABLE undated (
  id         BLOB PRIMARY KEY,
  started_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO undated SELECT id, started_at FROM entries WHERE substr(id, 7, 1) NOT BETWEEN x'70' AND x'7f';
DROP INDEX entries_by_id;
