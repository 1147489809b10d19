//! The tables of every database, as numbered migrations. A migration that was released is never edited: a change is a
//! further one at the end of its list.

use super::connect::Schema;

/// `config.db`: rules, hosts, teams, users and the log of their changes, under upstream's names.
pub(super) const CONFIG: Schema = Schema {
    checkpoint_pages: 1_000,
    migrations: &[
        "
CREATE TABLE alert_rules (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    match_string TEXT,
    trap_oid TEXT,
    syslog_severity INTEGER,
    match_type TEXT NOT NULL,
    priority INTEGER NOT NULL,
    prod_handling TEXT NOT NULL,
    dev_handling TEXT NOT NULL,
    team_assignment TEXT NOT NULL,
    is_active INTEGER NOT NULL
);
CREATE TABLE development_hosts (hostname TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE device_teams (hostname TEXT NOT NULL PRIMARY KEY, team_assignment TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE users (
    name TEXT NOT NULL PRIMARY KEY,
    password_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sessions (
    token_hash BLOB NOT NULL PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    csrf_token TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user);
CREATE INDEX sessions_expiry ON sessions (expires_at);
CREATE TABLE config_audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    operation TEXT NOT NULL CHECK (operation IN ('CREATE', 'UPDATE', 'DELETE')),
    table_name TEXT NOT NULL,
    record_id TEXT NOT NULL,
    old_values TEXT,
    new_values TEXT,
    reason TEXT,
    correlation_id TEXT NOT NULL
);
CREATE INDEX config_audit_log_record ON config_audit_log (table_name, record_id);
CREATE INDEX config_audit_log_time ON config_audit_log (changed_at);
CREATE TRIGGER config_audit_log_no_update BEFORE UPDATE ON config_audit_log
BEGIN SELECT RAISE(ABORT, 'config_audit_log is append-only'); END;
CREATE TRIGGER config_audit_log_no_delete BEFORE DELETE ON config_audit_log
BEGIN SELECT RAISE(ABORT, 'config_audit_log is append-only'); END;
CREATE TABLE versions (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO versions VALUES ('ruling', 1);
",
        "
CREATE TABLE dynamic_config (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
",
        "
ALTER TABLE config_audit_log ADD COLUMN changed_via TEXT;
ALTER TABLE config_audit_log ADD COLUMN changed_from TEXT;
ALTER TABLE config_audit_log ADD COLUMN row_hash BLOB;
ALTER TABLE config_audit_log ADD COLUMN row_marks BLOB;
CREATE TABLE config_audit_seal (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    lines INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    head BLOB NOT NULL,
    doubt TEXT NOT NULL,
    mac BLOB NOT NULL
);
DROP TRIGGER config_audit_log_no_update;
CREATE TRIGGER config_audit_log_no_update BEFORE UPDATE ON config_audit_log WHEN OLD.row_hash IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'config_audit_log is append-only'); END;
",
        "
ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT 'admin' CHECK (role IN ('viewer', 'operator', 'admin'));
ALTER TABLE users ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1;
ALTER TABLE users ADD COLUMN must_change_password INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN last_login INTEGER;
DELETE FROM sessions;
ALTER TABLE sessions ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN last_seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN peer TEXT NOT NULL DEFAULT '';
CREATE TABLE api_keys (
    name TEXT NOT NULL PRIMARY KEY,
    scopes TEXT NOT NULL,
    networks TEXT NOT NULL,
    expires_at INTEGER,
    current_hash BLOB NOT NULL,
    next_hash BLOB,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    rotated_at INTEGER,
    last_used INTEGER,
    last_peer TEXT
) WITHOUT ROWID;
",
        "
CREATE TABLE delivery_targets (
    name TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    definition TEXT NOT NULL,
    enabled INTEGER NOT NULL
) WITHOUT ROWID;
",
        "
CREATE INDEX config_audit_log_table ON config_audit_log (table_name);
CREATE INDEX config_audit_log_user ON config_audit_log (changed_by);
CREATE INDEX config_audit_log_operation ON config_audit_log (operation);
CREATE INDEX config_audit_log_request ON config_audit_log (correlation_id);
",
        "
CREATE TABLE legal_holds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    hostname TEXT,
    from_micros INTEGER,
    to_micros INTEGER,
    reason TEXT NOT NULL,
    placed_by TEXT NOT NULL,
    placed_at INTEGER NOT NULL
);
CREATE TABLE erasures (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hostname TEXT NOT NULL,
    reason TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    finished_at INTEGER,
    erased TEXT NOT NULL
);
CREATE TABLE config_audit_base (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    lines INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    head BLOB NOT NULL,
    mac BLOB NOT NULL
);
",
        "
CREATE TABLE repeats (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    request BLOB NOT NULL,
    at INTEGER NOT NULL,
    state INTEGER NOT NULL,
    correlation_id TEXT NOT NULL,
    status INTEGER,
    headers TEXT,
    body BLOB,
    bytes INTEGER NOT NULL
);
CREATE INDEX repeats_age ON repeats (at, bytes);
",
        // Rows of before belong to nobody in particular.
        "
ALTER TABLE repeats ADD COLUMN caller BLOB NOT NULL DEFAULT x'';
CREATE INDEX repeats_caller ON repeats (caller, at, bytes);
",
    ],
};

/// `audit/events-YYYY-MM.db`: one month of events. `ordinal` is the event id's time and counter, so rows lie in the
/// order of time and paging needs no index; `body` is the whole event with its decision, `crc` its checksum.
/// The other columns repeat what searches filter by. Rows are found by host, rule, severity and protocol through
/// `batches`, `runs`, `ordinals` and `postings`; see `index`.
pub(super) const AUDIT: Schema = Schema {
    // 16 MiB: with the default of 4 MiB every large transaction would be followed by a copy back and its two syncs.
    checkpoint_pages: 4_000,
    migrations: &[
        "
CREATE TABLE hosts (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE events (
    ordinal INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    host INTEGER NOT NULL,
    severity INTEGER,
    protocol INTEGER NOT NULL,
    rule INTEGER,
    environment INTEGER NOT NULL,
    forwarded INTEGER NOT NULL,
    correlation TEXT,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE digests (
    id INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    hosts BLOB NOT NULL,
    rules BLOB NOT NULL
);
CREATE INDEX events_correlation ON events (correlation) WHERE correlation IS NOT NULL;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    event BLOB NOT NULL,
    target TEXT NOT NULL,
    at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    answer TEXT NOT NULL
);
CREATE INDEX deliveries_event ON deliveries (event);
CREATE TABLE facts (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('rows', 0), ('least_skew_ms', 0), ('greatest_skew_ms', 0);
",
        "
DROP TABLE digests;
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    chunks BLOB NOT NULL
);
CREATE TABLE ordinals (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE postings (
    run INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    key INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (run, kind, key)
) WITHOUT ROWID;
INSERT INTO facts SELECT 'unindexed', value FROM facts WHERE name = 'rows';
",
    ],
};

/// `state.db`: counters of unhandled events as of the last checkpoint, what was counted since, and the answers given.
pub(super) const STATE: Schema = Schema {
    checkpoint_pages: 4_000,
    migrations: &["
CREATE TABLE counters (
    id INTEGER PRIMARY KEY,
    hostname TEXT NOT NULL,
    signature TEXT NOT NULL,
    count INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    fired INTEGER NOT NULL,
    last BLOB NOT NULL,
    at INTEGER NOT NULL,
    sample TEXT NOT NULL
);
CREATE TABLE journal (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE answers (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
"],
};

/// `levels.db`: what the service levels counted in each minute and hour, and the state last told of each.
pub(super) const LEVELS: Schema = Schema {
    checkpoint_pages: 1_000,
    migrations: &["
CREATE TABLE levels (
    width INTEGER NOT NULL,
    number INTEGER NOT NULL,
    level TEXT NOT NULL,
    bad INTEGER NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY (width, number, level)
) WITHOUT ROWID;
CREATE TABLE states (level TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
"],
};
