-- One text for SQLite and PostgreSQL. {{BLOB}} is the engine's type for bytes. Ids come from counters, so that both
-- engines number alike and an id is never used twice.
CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counters (name, value) VALUES ('instances', 0), ('api_keys', 0);

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE instances (
    id BIGINT PRIMARY KEY,
    node TEXT NOT NULL,
    name TEXT NOT NULL,
    wanted TEXT NOT NULL,            -- 'running' or 'stopped': what the last command asked for
    options TEXT NOT NULL,           -- JSON object as in the API
    created_at BIGINT NOT NULL,      -- unix seconds
    updated_at BIGINT NOT NULL,
    UNIQUE (node, name)
);

CREATE TABLE api_keys (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    key_hash {{BLOB}},               -- SHA-256 of the key; NULL while only the legacy hash is known
    legacy_hash TEXT,                -- Argon2id, from an imported llamactl database
    scopes TEXT NOT NULL,            -- blank-separated: management inference
    permission_mode TEXT NOT NULL,   -- allow_all or per_instance
    expires_at BIGINT,               -- unix seconds; NULL: never
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_used_at BIGINT
);
CREATE UNIQUE INDEX api_keys_by_hash ON api_keys (key_hash);

CREATE TABLE key_permissions (
    key_id BIGINT NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    instance_id BIGINT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    PRIMARY KEY (key_id, instance_id)
);
