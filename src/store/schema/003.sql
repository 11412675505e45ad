-- Turns of the Responses API, kept so that a conversation can go on from any of them.
INSERT INTO counters (name, value) VALUES ('responses', 0);

CREATE TABLE responses (
    id TEXT PRIMARY KEY,
    number BIGINT NOT NULL,          -- counts up: the oldest go when there are too many
    owner BIGINT NOT NULL,           -- a key's id; 0: keys of the configuration; -1: made without a key
    previous_id TEXT,                -- no reference: what was before may be deleted
    created_at BIGINT NOT NULL,      -- unix seconds
    expires_at BIGINT NOT NULL,
    chain_length BIGINT NOT NULL,    -- turns up to this one
    chain_bytes BIGINT NOT NULL,     -- of input and body of all of them
    input TEXT NOT NULL,             -- JSON array: this turn's own items
    body TEXT NOT NULL               -- JSON object: the response
);
CREATE UNIQUE INDEX responses_by_number ON responses (number);
CREATE INDEX responses_by_expiry ON responses (expires_at);
