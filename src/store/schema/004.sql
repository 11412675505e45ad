-- Files that were uploaded or that a batch wrote, and batches. What is in a file is in batch.files_dir, under its id.
CREATE TABLE files (
    id TEXT PRIMARY KEY,             -- 'file-' and random characters
    owner TEXT NOT NULL,             -- see api/batch/owner.h
    purpose TEXT NOT NULL,           -- batch, batch_output
    filename TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,            -- hex digits
    created_at BIGINT NOT NULL,      -- unix seconds
    expires_at BIGINT NOT NULL
);
CREATE INDEX files_by_owner ON files (owner, created_at);
CREATE INDEX files_by_expiry ON files (expires_at);

CREATE TABLE batches (
    id TEXT PRIMARY KEY,             -- 'batch_' and random characters
    owner TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_id TEXT NOT NULL,          -- no reference: the input may go when the batch has ended
    output_id TEXT NOT NULL,         -- of files that are there once it has ended, and only if something is in them
    error_id TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    metadata TEXT NOT NULL,          -- JSON: an object or null
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,      -- unix seconds, all of these
    expires_at BIGINT NOT NULL,
    in_progress_at BIGINT,
    finalizing_at BIGINT,
    cancelling_at BIGINT,
    ended_at BIGINT,                 -- when status became one that never changes
    delete_at BIGINT,
    total BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    has_output BIGINT NOT NULL,      -- 0 or 1
    has_errors BIGINT NOT NULL,
    errors TEXT NOT NULL             -- JSON: an array
);
CREATE INDEX batches_by_owner ON batches (owner, created_at);
