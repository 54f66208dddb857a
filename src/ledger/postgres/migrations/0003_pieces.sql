-- What is billed by the piece: calls of the provider's own tools, images, seconds of audio.
ALTER TABLE entries
  ADD COLUMN file_search_requests bigint NOT NULL DEFAULT 0,
  ADD COLUMN code_interpreter_requests bigint NOT NULL DEFAULT 0,
  ADD COLUMN images bigint NOT NULL DEFAULT 0,
  ADD COLUMN audio_seconds bigint NOT NULL DEFAULT 0;
ALTER TABLE rollup_hours
  ADD COLUMN file_search_requests bigint NOT NULL DEFAULT 0,
  ADD COLUMN code_interpreter_requests bigint NOT NULL DEFAULT 0,
  ADD COLUMN images bigint NOT NULL DEFAULT 0,
  ADD COLUMN audio_seconds bigint NOT NULL DEFAULT 0;
ALTER TABLE rollup_days
  ADD COLUMN file_search_requests bigint NOT NULL DEFAULT 0,
  ADD COLUMN code_interpreter_requests bigint NOT NULL DEFAULT 0,
  ADD COLUMN images bigint NOT NULL DEFAULT 0,
  ADD COLUMN audio_seconds bigint NOT NULL DEFAULT 0;
