-- Users, what a key may do and how much, and tokens that were ended before their time.
CREATE TABLE users (
    id TEXT PRIMARY KEY,             -- 'user_' and random characters
    username TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,              -- admin, user, guest, service
    password_hash TEXT NOT NULL,     -- Argon2id, PHC form
    disabled BIGINT NOT NULL,        -- 0 or 1
    token_version BIGINT NOT NULL,   -- tokens of an earlier version are void
    created_at BIGINT NOT NULL,      -- unix seconds
    updated_at BIGINT NOT NULL,
    last_login_at BIGINT
);

ALTER TABLE api_keys ADD COLUMN public_id TEXT;                       -- 'key_' and random characters; NULL: 'key_' and id
ALTER TABLE api_keys ADD COLUMN hint TEXT;                            -- the last characters of the clear key
ALTER TABLE api_keys ADD COLUMN user_id TEXT REFERENCES users (id) ON DELETE CASCADE;
ALTER TABLE api_keys ADD COLUMN made_by BIGINT REFERENCES api_keys (id) ON DELETE CASCADE; -- a key that could make only its own
ALTER TABLE api_keys ADD COLUMN models TEXT;                          -- patterns, a line each; NULL: all
ALTER TABLE api_keys ADD COLUMN requests_per_minute BIGINT;           -- these and the next: NULL is the server's default
ALTER TABLE api_keys ADD COLUMN burst BIGINT;
ALTER TABLE api_keys ADD COLUMN tokens_per_minute BIGINT;
ALTER TABLE api_keys ADD COLUMN concurrent BIGINT;
ALTER TABLE api_keys ADD COLUMN priority TEXT;                        -- 'batch'; NULL: interactive
CREATE UNIQUE INDEX api_keys_by_public_id ON api_keys (public_id);

CREATE TABLE ended_tokens (
    token_hash {{BLOB}} PRIMARY KEY, -- SHA-256 of what names the token
    expires_at BIGINT NOT NULL       -- then the row may go
);
