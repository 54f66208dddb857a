-- Which terms plans had from when on; `terms` is JSON as in src/ledger/stored.rs.
CREATE TABLE plan_events (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at     bigint NOT NULL,
  terms  text NOT NULL
);
CREATE INDEX account_events_by_account ON account_events (account);
