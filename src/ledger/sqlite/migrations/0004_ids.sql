-- An id says when its request began, so the order of the ledger finds it, and keeps it from being written twice. For entries
-- whose ids do not say that, this does: the bills of responses that were made in the background.
CREATE TABLE undated (
  id         BLOB PRIMARY KEY,
  started_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO undated SELECT id, started_at FROM entries
  WHERE substr(id, 7, 1) NOT BETWEEN x'70' AND x'7f' OR hex(substr(id, 1, 6)) <> printf('%012X', started_at);
DROP INDEX entries_by_id;
