-- What is billed by the piece: calls of the provider's own tools, images, seconds of audio.
ALTER TABLE entries ADD COLUMN file_search_requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN code_interpreter_requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN images INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN audio_seconds INTEGER NOT NULL DEFAULT 0;
