-- Texts that repeat (accounts, models, …), each once. 0 is never used: it stands for "none" in rollup keys.
CREATE TABLE names (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
);

-- One row a request, in the order of the ledger. Times are milliseconds since 1970, money is pico-dollars: an integer,
-- or a big-endian 16-byte blob beyond 64 bits. `lineage` is the path of accounts from the root down, joined by "/".
CREATE TABLE entries (
  started_at INTEGER NOT NULL,
  id BLOB NOT NULL,
  ended_at INTEGER NOT NULL,
  lineage INTEGER NOT NULL,
  account INTEGER NOT NULL,
  key INTEGER NOT NULL,
  plan INTEGER NOT NULL,
  endpoint INTEGER NOT NULL,
  model INTEGER,
  served_model INTEGER,
  upstream INTEGER,
  service_tier INTEGER,
  status INTEGER NOT NULL,
  outcome INTEGER NOT NULL,
  reason TEXT,
  streamed INTEGER NOT NULL,
  usage_source INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cache_read_input_tokens INTEGER NOT NULL,
  cache_write_input_tokens INTEGER NOT NULL,
  cache_write_1h_input_tokens INTEGER NOT NULL,
  audio_input_tokens INTEGER NOT NULL,
  image_input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  reasoning_output_tokens INTEGER NOT NULL,
  audio_output_tokens INTEGER NOT NULL,
  image_output_tokens INTEGER NOT NULL,
  web_search_requests INTEGER NOT NULL,
  cost_input NOT NULL,
  cost_cache_read_input NOT NULL,
  cost_cache_write_input NOT NULL,
  cost_media_input NOT NULL,
  cost_output NOT NULL,
  cost_reasoning_output NOT NULL,
  cost_media_output NOT NULL,
  cost_other NOT NULL,
  undiscounted NOT NULL,
  priced_by INTEGER,
  first_token_ms INTEGER,
  duration_ms INTEGER NOT NULL,
  retries INTEGER NOT NULL,
  end_user TEXT,
  tags TEXT,
  corrects BLOB,
  PRIMARY KEY (started_at, id)
) WITHOUT ROWID;

-- What makes an entry unique, whatever else it says.
CREATE UNIQUE INDEX entries_by_id ON entries (id);

-- Sums of entries: derived, written in the same transaction, encoded as in src/ledger/rollup.rs.
CREATE TABLE rollup_hours (
  hour INTEGER NOT NULL,
  lineage INTEGER NOT NULL,
  plan INTEGER NOT NULL,
  key INTEGER NOT NULL,
  model INTEGER NOT NULL,
  served_model INTEGER NOT NULL,
  upstream INTEGER NOT NULL,
  service_tier INTEGER NOT NULL,
  input_band INTEGER NOT NULL,
  sums BLOB NOT NULL,
  PRIMARY KEY (hour, lineage, plan, key, model, served_model, upstream, service_tier, input_band)
) WITHOUT ROWID;

CREATE TABLE rollup_days (
  day INTEGER NOT NULL,
  lineage INTEGER NOT NULL,
  plan INTEGER NOT NULL,
  model INTEGER NOT NULL,
  served_model INTEGER NOT NULL,
  service_tier INTEGER NOT NULL,
  input_band INTEGER NOT NULL,
  sums BLOB NOT NULL,
  PRIMARY KEY (day, lineage, plan, model, served_model, service_tier, input_band)
) WITHOUT ROWID;

-- `entries`: how many there are. `stored_version`: grows with each change by hand. `pepper`: the secret for key digests.
CREATE TABLE facts (
  name  TEXT PRIMARY KEY,
  value NOT NULL
) WITHOUT ROWID;
INSERT INTO facts VALUES ('entries', 0), ('stored_version', 0);

-- What operators made by hand; `body` is JSON as in src/ledger/stored.rs.
CREATE TABLE plans    (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE accounts (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE keys     (id TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE revocations (digest BLOB PRIMARY KEY, key TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE account_events (
  number  INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  account TEXT NOT NULL,
  change  TEXT NOT NULL
);
CREATE INDEX account_events_by_time ON account_events (at);

CREATE TABLE audit (
  number  INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL
);

-- For people with a SQL prompt: entries with their names. Costs beyond 64 bits are left out of the sum.
CREATE VIEW ledger AS SELECT
  lower(hex(e.id)) AS id,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.started_at / 1000.0, 'unixepoch') AS started_at,
  account.name AS account, key.name AS key, plan.name AS plan, endpoint.name AS endpoint,
  model.name AS model, served.name AS served_model, upstream.name AS upstream, e.status,
  CASE e.outcome WHEN 0 THEN 'completed' WHEN 1 THEN 'client_closed' WHEN 2 THEN 'upstream_failed'
    WHEN 3 THEN 'interrupted' ELSE 'rejected' END AS outcome,
  e.reason, e.input_tokens, e.output_tokens,
  e.cost_input + e.cost_cache_read_input + e.cost_cache_write_input + e.cost_media_input
    + e.cost_output + e.cost_reasoning_output + e.cost_media_output + e.cost_other AS cost_picos
FROM entries e
  JOIN names account ON account.id = e.account
  JOIN names key ON key.id = e.key
  JOIN names plan ON plan.id = e.plan
  JOIN names endpoint ON endpoint.id = e.endpoint
  LEFT JOIN names model ON model.id = e.model
  LEFT JOIN names served ON served.id = e.served_model
  LEFT JOIN names upstream ON upstream.id = e.upstream;
