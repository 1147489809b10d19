//! Every configuration key in one table: its place in the TOML file, its environment variable, what it may be, its
//! default and what it means. `docs/CONFIG.md` is made from [`KEYS`] and compared by a test.

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that is shown nowhere.
    Secret,
    /// A list of texts; comma separated in the environment.
    List,
    /// A whole number within bounds, both included.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// An address to listen on: `HOST:PORT`, `:PORT` or `PORT`; empty for off.
    Address,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The TOML table it stands in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// The default, as it would be written in the environment.
    pub default: &'static str,
    /// Unit and meaning.
    pub help: &'static str,
}

const fn key(
    section: &'static str,
    name: &'static str,
    env: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { section, name, env, kind, default, help }
}

const fn integer(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

/// A terabyte: no size setting needs more.
const TERABYTE: i64 = 1 << 40;

/// The table.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("http", "listen", "MUTTD_HTTP_LISTEN", Kind::Address, "127.0.0.1:8090", "Address of the web UI and the API."),
    key("ingest", "listen", "MUTTD_INGEST_LISTEN", Kind::Address, "127.0.0.1:8080", "Address of the HTTP ingest API."),
    key("ingest", "api_key", "MUTTD_INGEST_API_KEY", Kind::Secret, "", "Key that may send events. Made at first start and kept in secrets.toml when not set."),
    key("ingest", "api_key_next", "MUTTD_INGEST_API_KEY_NEXT", Kind::Secret, "", "A second ingest key that is accepted too, for rotation."),
    key("ingest", "required_fields", "MUTTD_INGEST_REQUIRED_FIELDS", Kind::List, "hostname,message,timestamp", "JSON members an event must have."),
    key("ingest", "max_body_bytes", "MUTTD_INGEST_MAX_BODY_BYTES", integer(1_024, 64 << 20), "4194304", "Largest body in bytes, before and after decompression."),
    key("admin", "api_key", "MUTTD_ADMIN_API_KEY", Kind::Secret, "", "Key that may do everything. Made at first start and kept in secrets.toml when not set."),
    key("admin", "api_key_next", "MUTTD_ADMIN_API_KEY_NEXT", Kind::Secret, "", "A second admin key that is accepted too, for rotation."),
    key("admin", "password", "MUTTD_ADMIN_PASSWORD", Kind::Secret, "", "Password of the user `admin` when it is made at first start; a random one is made and printed once when not set."),
    key("syslog", "udp_listen", "MUTTD_SYSLOG_UDP_LISTEN", Kind::Address, "0.0.0.0:5514", "Address for syslog over UDP."),
    key("syslog", "tcp_listen", "MUTTD_SYSLOG_TCP_LISTEN", Kind::Address, "0.0.0.0:5514", "Address for syslog over TCP."),
    key("syslog", "device_zone", "MUTTD_SYSLOG_DEVICE_ZONE", Kind::Text, "", "Time zone of device times that name none, as `+01:00` or `UTC`; empty for this system's zone."),
    key("syslog", "max_message_bytes", "MUTTD_SYSLOG_MAX_MESSAGE_BYTES", integer(1_024, 256 << 10), "65536", "Longest message kept, in bytes; what is beyond is cut and flagged."),
    key("syslog", "max_connections", "MUTTD_SYSLOG_MAX_CONNECTIONS", integer(1, 100_000), "1024", "TCP connections at once."),
    key("syslog", "idle_timeout_seconds", "MUTTD_SYSLOG_IDLE_TIMEOUT_SECONDS", integer(1, 604_800), "3600", "A TCP connection that sends nothing for so many seconds is closed."),
    key("syslog", "receive_buffer_bytes", "MUTTD_SYSLOG_RECEIVE_BUFFER_BYTES", integer(4_096, 1 << 30), "8388608", "Receive buffer asked of the kernel for UDP sockets (syslog and SNMP), in bytes; net.core.rmem_max bounds it unless the process may exceed it."),
    key("snmp", "listen", "MUTTD_SNMP_LISTEN", Kind::Address, "0.0.0.0:1162", "Address for SNMP traps and informs (UDP)."),
    key("snmp", "communities", "MUTTD_SNMP_COMMUNITIES", Kind::List, "public", "SNMP v1 and v2c communities accepted. `public` admits what unauthenticated syslog admits anyway; name your own to be stricter."),
    key("moog", "webhook_url", "MUTTD_MOOG_WEBHOOK_URL", Kind::Text, "", "Where alerts are posted; while it is empty alerts wait in their queue."),
    key("moog", "api_key", "MUTTD_MOOG_API_KEY", Kind::Secret, "", "Sent to Moogsoft as `Authorization: Bearer`."),
    key("moog", "api_key_next", "MUTTD_MOOG_API_KEY_NEXT", Kind::Secret, "", "Sent instead when api_key is refused, for rotation."),
    key("moog", "agent_location", "MUTTD_MOOG_AGENT_LOCATION", Kind::Text, "", "Where this appliance stands, for Moogsoft's `agent_location`; this machine's host name when not set."),
    key("log", "level", "MUTTD_LOG", Kind::Text, "info", "What is logged: error, warn, info, debug, trace, or a filter such as `info,muttd::forward=debug`."),
    key("log", "format", "MUTTD_LOG_FORMAT", Kind::Choice(&["text", "json"]), "text", "Log lines for people or for machines."),
    key("queue", "reserve_free_bytes", "MUTTD_QUEUE_RESERVE_FREE_BYTES", integer(1 << 20, TERABYTE), "268435456", "Bytes of free disk below which no more events are taken, so that what is stored can still be processed."),

    key("dynamic", "max_ingest_queue_size", "MUTTD_DYNAMIC_MAX_INGEST_QUEUE_SIZE", integer(1, 1_000_000_000), "5000000", "Events the ingest queue may hold: from 90 % on TCP is not read, from 95 % on datagrams are dropped and counted, beyond it HTTP is answered 503."),
    key("dynamic", "max_ingest_queue_bytes", "MUTTD_DYNAMIC_MAX_INGEST_QUEUE_BYTES", integer(1 << 20, TERABYTE), "4294967296", "Bytes the ingest queue may hold on disk."),
    key("dynamic", "ingest_max_rate", "MUTTD_DYNAMIC_INGEST_MAX_RATE", integer(0, 1_000_000_000), "0", "Events taken per ingest_rate_window over all inputs; 0 for no limit."),
    key("dynamic", "ingest_rate_window", "MUTTD_DYNAMIC_INGEST_RATE_WINDOW", integer(1, 86_400), "60", "Seconds over which ingest_max_rate is counted."),
    key("dynamic", "cache_reload_interval", "MUTTD_DYNAMIC_CACHE_RELOAD_INTERVAL", integer(1, 86_400), "300", "Seconds after which rules, hosts and teams are read again even if no change was noticed."),
    key("dynamic", "audit", "MUTTD_DYNAMIC_AUDIT", Kind::Choice(&["matched", "all", "sample"]), "matched", "Which events become audit rows: those a rule matched, all, or those matched and a sample of the others."),
    key("dynamic", "audit_sample_every", "MUTTD_DYNAMIC_AUDIT_SAMPLE_EVERY", integer(1, 1_000_000), "100", "With audit = sample: one in so many unmatched events becomes an audit row."),
    key("dynamic", "unhandled_threshold", "MUTTD_DYNAMIC_UNHANDLED_THRESHOLD", integer(1, 1_000_000_000), "100", "Events of one host and kind without a rule that make one meta-alert."),
    key("dynamic", "unhandled_expiry_seconds", "MUTTD_DYNAMIC_UNHANDLED_EXPIRY_SECONDS", integer(1, 31_536_000), "86400", "Seconds within which unhandled_threshold must be reached."),
    key("dynamic", "unhandled_default_team", "MUTTD_DYNAMIC_UNHANDLED_DEFAULT_TEAM", Kind::Text, "NETO", "Team of meta-alerts for hosts without a team."),
    key("dynamic", "alerter_max_retries", "MUTTD_DYNAMIC_ALERTER_MAX_RETRIES", integer(0, 100), "3", "Tries after which an event that cannot be processed becomes a dead letter."),
    key("dynamic", "alerter_queue_warn_threshold", "MUTTD_DYNAMIC_ALERTER_QUEUE_WARN_THRESHOLD", integer(1, 1_000_000_000), "10000", "Alerts waiting above which a warning is logged."),
    key("dynamic", "alerter_queue_shed_threshold", "MUTTD_DYNAMIC_ALERTER_QUEUE_SHED_THRESHOLD", integer(1, 1_000_000_000), "1000000", "Alerts waiting above which alerter_shed_mode applies."),
    key("dynamic", "alerter_shed_mode", "MUTTD_DYNAMIC_ALERTER_SHED_MODE", Kind::Choice(&["defer", "dlq"]), "defer", "Above the shed threshold: slow down (defer), or put alerts into the dead letter queue (dlq)."),
    key("dynamic", "alerter_defer_sleep_ms", "MUTTD_DYNAMIC_ALERTER_DEFER_SLEEP_MS", integer(1, 60_000), "250", "Milliseconds between batches while deferring."),
    key("dynamic", "moog_rate_limit", "MUTTD_DYNAMIC_MOOG_RATE_LIMIT", integer(0, 1_000_000), "50", "Alerts sent per moog_rate_period, at most; 0 for no limit."),
    key("dynamic", "moog_rate_period", "MUTTD_DYNAMIC_MOOG_RATE_PERIOD", integer(1, 3_600), "1", "Seconds over which moog_rate_limit is counted."),
    key("dynamic", "moog_max_retries", "MUTTD_DYNAMIC_MOOG_MAX_RETRIES", integer(1, 100), "5", "Deliveries tried before an alert becomes a dead letter."),
    key("dynamic", "moog_retry_base_ms", "MUTTD_DYNAMIC_MOOG_RETRY_BASE_MS", integer(10, 60_000), "1000", "Milliseconds before the first retry; doubled for each further one, with jitter."),
    key("dynamic", "moog_retry_cap_seconds", "MUTTD_DYNAMIC_MOOG_RETRY_CAP_SECONDS", integer(1, 3_600), "60", "Longest wait between two tries, in seconds."),
    key("dynamic", "moog_timeout_seconds", "MUTTD_DYNAMIC_MOOG_TIMEOUT_SECONDS", integer(1, 300), "10", "Seconds a delivery may take."),
    key("dynamic", "moog_concurrency", "MUTTD_DYNAMIC_MOOG_CONCURRENCY", integer(1, 256), "8", "Deliveries under way at once."),
    key("dynamic", "circuit_breaker_threshold", "MUTTD_DYNAMIC_CIRCUIT_BREAKER_THRESHOLD", integer(1, 10_000), "5", "Deliveries that fail in a row (connection, time-out, 5xx, 408) after which a target is left alone for circuit_breaker_timeout; alerts wait meanwhile and no try of theirs is used up. A target may have its own breaker_threshold."),
    key("dynamic", "circuit_breaker_timeout", "MUTTD_DYNAMIC_CIRCUIT_BREAKER_TIMEOUT", integer(1, 86_400), "60", "Seconds a failing target is left alone before one alert is tried. A target may have its own breaker_timeout_seconds."),
    key("dynamic", "remediation_enabled", "MUTTD_DYNAMIC_REMEDIATION_ENABLED", Kind::Choice(&["true", "false"]), "true", "Whether dead letters are put back by themselves; on request they always are."),
    key("dynamic", "remediation_interval", "MUTTD_DYNAMIC_REMEDIATION_INTERVAL", integer(1, 86_400), "300", "Seconds from one remediation run to the next."),
    key("dynamic", "remediation_batch_size", "MUTTD_DYNAMIC_REMEDIATION_BATCH_SIZE", integer(1, 100_000), "1000", "Dead letters put back in one remediation run, at most."),
    key("dynamic", "max_poison_retries", "MUTTD_DYNAMIC_MAX_POISON_RETRIES", integer(0, 1_000), "3", "A message that was put back so often and died again goes to the queue `dead` and is reported."),
    key("dynamic", "health_probe_ttl", "MUTTD_DYNAMIC_HEALTH_PROBE_TTL", integer(1, 3_600), "60", "Seconds for which a target's answer to a health probe counts; then it is asked again."),
    key("dynamic", "recent_max_bytes", "MUTTD_DYNAMIC_RECENT_MAX_BYTES", integer(1 << 20, TERABYTE), "2147483648", "Bytes the store of recent events may take on disk."),
    key("dynamic", "recent_max_days", "MUTTD_DYNAMIC_RECENT_MAX_DAYS", integer(1, 3_650), "7", "Days the store of recent events goes back, at most."),
];

/// The key of that name.
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// The reference page, as Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n`muttd serve --data DIR` reads `DIR/muttd.toml` when it is there (or the file given by `--config`), then the \
         environment, which wins. An unknown key or a value out of range stops the start with a message that names it. `SIGHUP` reads \
         both again without a restart: everything but addresses, `[queue]` and the log's format takes effect at once, and a file \
         that cannot be used changes nothing.\n\n```toml\n[syslog]\nudp_listen = \"0.0.0.0:514\"\ntcp_listen = \"0.0.0.0:514\"\n\n\
         [snmp]\nlisten = \"0.0.0.0:162\"\ncommunities = [\"our-community\"]\n\n[moog]\nwebhook_url = \"https://moog.example.net/events/webhook_mutt\"\n\n\
         [dynamic]\nunhandled_threshold = 50\n```\n\nThis page is made from the table in `src/config/keys.rs` by \
         `muttd config-reference`.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            page.push_str(&format!(
                "\n## [{section}]\n\n| key | environment | value | default | meaning |\n|---|---|---|---|---|\n"
            ));
        }
        let value = match key.kind {
            Kind::Text => "text".to_owned(),
            Kind::Secret => "secret".to_owned(),
            Kind::List => "list".to_owned(),
            Kind::Integer { min, max } => format!("{min} to {max}"),
            Kind::Address => "address".to_owned(),
            Kind::Choice(words) => words.join(", "),
        };
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        page.push_str(&format!("| `{}` | `{}` | {value} | {default} | {} |\n", key.name, key.env, key.help));
    }
    page.push_str(&super::targets::reference());
    page
}
