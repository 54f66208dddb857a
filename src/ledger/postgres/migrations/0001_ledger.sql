-- One row a request. Partitioned by the month in which its id (a UUIDv7) was made: so an id is unique over all
-- partitions, whatever the entry says its time was. Times are milliseconds since 1970, money is whole pico-dollars.
-- `lineage` is the path of accounts from the root down, joined by "/".
CREATE TABLE entries (
  id uuid NOT NULL PRIMARY KEY,
  started_at bigint NOT NULL,
  ended_at bigint NOT NULL,
  lineage text NOT NULL,
  account text NOT NULL,
  key text NOT NULL,
  plan text NOT NULL,
  endpoint text NOT NULL,
  model text,
  served_model text,
  upstream text,
  service_tier text,
  status integer NOT NULL,
  outcome smallint NOT NULL,
  reason text,
  streamed boolean NOT NULL,
  usage_source smallint NOT NULL,
  input_tokens bigint NOT NULL,
  cache_read_input_tokens bigint NOT NULL,
  cache_write_input_tokens bigint NOT NULL,
  cache_write_1h_input_tokens bigint NOT NULL,
  audio_input_tokens bigint NOT NULL,
  image_input_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  reasoning_output_tokens bigint NOT NULL,
  audio_output_tokens bigint NOT NULL,
  image_output_tokens bigint NOT NULL,
  web_search_requests bigint NOT NULL,
  cost_input numeric NOT NULL,
  cost_cache_read_input numeric NOT NULL,
  cost_cache_write_input numeric NOT NULL,
  cost_media_input numeric NOT NULL,
  cost_output numeric NOT NULL,
  cost_reasoning_output numeric NOT NULL,
  cost_media_output numeric NOT NULL,
  cost_other numeric NOT NULL,
  undiscounted numeric NOT NULL,
  priced_by text,
  first_token_ms bigint,
  duration_ms bigint NOT NULL,
  retries smallint NOT NULL,
  end_user text,
  tags text,
  corrects uuid
) PARTITION BY RANGE (id);

CREATE INDEX entries_by_time ON entries (started_at, id);

-- Ids that are no UUIDv7 of our time.
CREATE TABLE entries_other PARTITION OF entries DEFAULT;

-- Sums of entries: derived, written in the same transaction. '' where an entry has no such name.
CREATE TABLE rollup_hours (
  hour bigint NOT NULL,
  lineage text NOT NULL,
  plan text NOT NULL,
  key text NOT NULL,
  model text NOT NULL,
  served_model text NOT NULL,
  upstream text NOT NULL,
  service_tier text NOT NULL,
  input_band smallint NOT NULL,
  requests bigint NOT NULL,
  unpriced_requests bigint NOT NULL,
  completed bigint NOT NULL,
  client_closed bigint NOT NULL,
  upstream_failed bigint NOT NULL,
  interrupted bigint NOT NULL,
  rejected bigint NOT NULL,
  retries bigint NOT NULL,
  input_tokens bigint NOT NULL,
  cache_read_input_tokens bigint NOT NULL,
  cache_write_input_tokens bigint NOT NULL,
  cache_write_1h_input_tokens bigint NOT NULL,
  audio_input_tokens bigint NOT NULL,
  image_input_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  reasoning_output_tokens bigint NOT NULL,
  audio_output_tokens bigint NOT NULL,
  image_output_tokens bigint NOT NULL,
  web_search_requests bigint NOT NULL,
  cost_input numeric NOT NULL,
  cost_cache_read_input numeric NOT NULL,
  cost_cache_write_input numeric NOT NULL,
  cost_media_input numeric NOT NULL,
  cost_output numeric NOT NULL,
  cost_reasoning_output numeric NOT NULL,
  cost_media_output numeric NOT NULL,
  cost_other numeric NOT NULL,
  undiscounted numeric NOT NULL,
  client_closed_cost numeric NOT NULL,
  failed_cost numeric NOT NULL,
  PRIMARY KEY (hour, lineage, plan, key, model, served_model, upstream, service_tier, input_band)
);

CREATE TABLE rollup_days (
  LIKE rollup_hours INCLUDING DEFAULTS
);
ALTER TABLE rollup_days RENAME COLUMN hour TO day;
ALTER TABLE rollup_days DROP COLUMN key, DROP COLUMN upstream;
ALTER TABLE rollup_days
  ADD PRIMARY KEY (day, lineage, plan, model, served_model, service_tier, input_band);

-- `stored_version`: grows with each change by hand. `pepper`: the secret for key digests, in hexadecimal.
CREATE TABLE facts (
  name  text PRIMARY KEY,
  value text NOT NULL
);
INSERT INTO facts VALUES ('stored_version', '0');

-- What operators made by hand; `body` is JSON as in src/ledger/stored.rs.
CREATE TABLE plans    (id text PRIMARY KEY, body text NOT NULL);
CREATE TABLE accounts (id text PRIMARY KEY, body text NOT NULL);
CREATE TABLE keys     (id text PRIMARY KEY, digest bytea NOT NULL UNIQUE, body text NOT NULL);
CREATE TABLE revocations (digest bytea PRIMARY KEY, key text NOT NULL, at bigint NOT NULL);

CREATE TABLE account_events (
  number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      bigint NOT NULL,
  account text NOT NULL,
  change  text NOT NULL
);
CREATE INDEX account_events_by_time ON account_events (at);

CREATE TABLE audit (
  number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      bigint NOT NULL,
  actor   text NOT NULL,
  action  text NOT NULL,
  subject text NOT NULL,
  detail  text NOT NULL
);

-- For people with a SQL prompt.
CREATE VIEW ledger AS SELECT
  id, to_timestamp(started_at / 1000.0) AS started_at, account, key, plan, endpoint, model, served_model, upstream, status,
  (ARRAY['completed', 'client_closed', 'upstream_failed', 'interrupted', 'rejected'])[outcome + 1] AS outcome,
  reason, input_tokens, output_tokens,
  (cost_input + cost_cache_read_input + cost_cache_write_input + cost_media_input + cost_output
    + cost_reasoning_output + cost_media_output + cost_other) / 1e12 AS cost_usd
FROM entries;
