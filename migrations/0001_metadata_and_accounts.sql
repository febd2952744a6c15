-- Manifests, accounts and what nodes share, as rustaccio keeps them.
-- Records are JSON as bytes: nothing in here is read by Postgres, and no text is refused.

CREATE SEQUENCE manifest_stamps;

CREATE TABLE manifests (
    name text COLLATE "C" PRIMARY KEY,
    json bytea NOT NULL,
    -- SHA-256 of `json`.
    revision text NOT NULL,
    -- Another one with each write.
    stamp bigint NOT NULL DEFAULT nextval('manifest_stamps'),
    changed timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    name text COLLATE "C" PRIMARY KEY,
    record bytea NOT NULL
);

CREATE TABLE tokens (
    -- SHA-256 of the token.
    key text COLLATE "C" PRIMARY KEY,
    user_name text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    -- Milliseconds since the Unix epoch.
    expires bigint,
    record bytea NOT NULL
);
CREATE INDEX tokens_user_name ON tokens (user_name);
CREATE INDEX tokens_expires ON tokens (expires) WHERE expires IS NOT NULL;

CREATE TABLE organisations (
    name text COLLATE "C" PRIMARY KEY,
    -- All members, also those of teams alone.
    users text[] NOT NULL,
    record bytea NOT NULL
);
CREATE INDEX organisations_users ON organisations USING gin (users);

-- Logins and second factors that wait for a browser.
CREATE TABLE sessions (
    page text COLLATE "C" PRIMARY KEY,
    done text COLLATE "C" NOT NULL UNIQUE,
    begun bigint GENERATED ALWAYS AS IDENTITY,
    owner text COLLATE "C" NOT NULL,
    expires bigint NOT NULL,
    is_answered boolean NOT NULL DEFAULT false,
    -- The token that the client gets, sealed.
    token text,
    record bytea NOT NULL
);
CREATE INDEX sessions_owner ON sessions (owner, begun);
CREATE INDEX sessions_expires ON sessions (expires);

-- One-time passes that a browser fetched, by their SHA-256.
CREATE TABLE passes (
    hash text COLLATE "C" PRIMARY KEY,
    user_name text COLLATE "C" NOT NULL,
    expires bigint NOT NULL
);
CREATE INDEX passes_expires ON passes (expires);

-- Who used a one-time pass first.
CREATE TABLE claims (
    key text COLLATE "C" PRIMARY KEY,
    claimed_by text NOT NULL,
    claimed_at bigint NOT NULL,
    expires bigint NOT NULL
);
CREATE INDEX claims_expires ON claims (expires);

-- Keys that all nodes share.
CREATE TABLE keys (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);
