-- Which terms plans had from when on; `terms` is JSON as in src/ledger/stored.rs.
CREATE TABLE plan_events (
  number INTEGER PRIMARY KEY,
  at     INTEGER NOT NULL,
  terms  TEXT NOT NULL
);
CREATE INDEX account_events_by_account ON account_events (account);
