-- One text for SQLite and PostgreSQL. Times are milliseconds since the epoch. What is sealed is text; see seal.rs.

CREATE TABLE registry_facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE sites (
    site TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    product TEXT NOT NULL,
    base_url TEXT NOT NULL,
    api_base TEXT NOT NULL,
    display_url TEXT,
    aliases TEXT NOT NULL,             -- a JSON array
    joined_by TEXT NOT NULL,
    added_ms BIGINT NOT NULL,
    joined_ms BIGINT NOT NULL,         -- the last time
    state TEXT NOT NULL,               -- as the site has it
    state_ms BIGINT NOT NULL,          -- what happened before changes it no more
    uninstalled_ms BIGINT,
    paused_ms BIGINT,                  -- by the operator
    last_event_ms BIGINT,
    last_success_ms BIGINT,
    last_full_ms BIGINT,
    credential TEXT,                   -- sealed
    credential_until_ms BIGINT NOT NULL,
    hook_secret TEXT,                  -- sealed
    former_secret TEXT,                -- sealed
    former_until_ms BIGINT
);

CREATE TABLE pages (
    site TEXT NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    page BIGINT NOT NULL,
    title TEXT NOT NULL,
    space_id BIGINT,
    space_key TEXT,
    version BIGINT NOT NULL,
    status TEXT,
    read_ms BIGINT,                    -- start of the fetch that the columns above are of
    event TEXT,
    event_ms BIGINT,
    fetch_ms BIGINT,
    fetch_result TEXT,
    sweep BIGINT NOT NULL,
    PRIMARY KEY (site, page)
);

CREATE INDEX pages_by_space_key ON pages (site, space_key, page);
CREATE INDEX pages_by_space_id ON pages (site, space_id, page);
CREATE INDEX pages_gone ON pages (site, page) WHERE status IS NULL;

CREATE TABLE runs (
    site TEXT NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    scope TEXT NOT NULL,
    since_ms BIGINT,
    asked_ms BIGINT NOT NULL,
    began_ms BIGINT,
    watermark_ms BIGINT,
    phase TEXT NOT NULL,
    cursor TEXT,
    pages_seen BIGINT NOT NULL,
    pages_changed BIGINT NOT NULL,
    pages_swept BIGINT NOT NULL,
    waiting_until_ms BIGINT,
    waiting_why TEXT,
    lease_owner TEXT,
    lease_until_ms BIGINT,
    ended_ms BIGINT,
    error TEXT,
    PRIMARY KEY (site, number)
);

-- At most one is open per site.
CREATE UNIQUE INDEX runs_open ON runs (site) WHERE ended_ms IS NULL;
