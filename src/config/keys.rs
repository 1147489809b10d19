//! Every configuration key in one table: its place in the TOML file, its environment variables, what it may be, its
//! default, its unit, who reads it and what it means. `docs/CONFIG.md`, the API, the command line and the form are made
//! from [`KEYS`]. Plain data: it reads nothing and keeps nothing.

use std::borrow::Cow;

pub use super::reference::reference;

/// The section whose keys can be changed at run time, by page, API and command line.
pub const DYNAMIC: &str = "dynamic";

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
    /// `true` or `false`.
    Truth,
    /// A share in per cent, above 0 and below 100.
    Percent,
    /// The name of a team.
    Team,
    /// A level or a filter for the log.
    LogFilter,
}

impl Kind {
    /// What it may be, for people: a range, the words, or what it is.
    pub fn range(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::List => "list",
            Self::Integer { min, max } => return Cow::Owned(format!("{min} to {max}")),
            Self::Address => "address",
            Self::Choice(words) => return Cow::Owned(words.join(", ")),
            Self::Truth => "true, false",
            Self::Percent => "above 0, below 100 (per cent)",
            Self::Team => "name of a team",
            Self::LogFilter => "level or filter",
        })
    }

    /// The kind's name, for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::List => "list",
            Self::Integer { .. } => "integer",
            Self::Address => "address",
            Self::Choice(_) => "choice",
            Self::Truth => "boolean",
            Self::Percent => "percent",
            Self::Team => "team",
            Self::LogFilter => "log_filter",
        }
    }
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
    /// Further environment variables, which MUTT 2.x had; `env` wins over them, and an earlier one over a later one.
    pub aliases: &'static [&'static str],
    /// What it may be.
    pub kind: Kind,
    /// The default, as it would be written in the environment.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
    /// What its number counts; empty if it is no number.
    pub unit: &'static str,
    /// The parts of the program that go by it.
    pub reader: &'static str,
    /// Whether a changed value acts at once; else after a restart.
    pub live: bool,
    /// Whether its value is shown nowhere.
    pub masked: bool,
}

impl Key {
    /// What its number counts.
    const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// Who goes by it.
    const fn read_by(self, reader: &'static str) -> Self {
        Self { reader, ..self }
    }

    /// Further environment variables.
    const fn also(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// A changed value acts only after a restart.
    const fn after_restart(self) -> Self {
        Self { live: false, ..self }
    }

    /// Its value is shown nowhere.
    const fn masked(self) -> Self {
        Self { masked: true, ..self }
    }

    /// Whether it can be changed at run time, by page, API and command line.
    pub fn is_dynamic(&self) -> bool {
        self.section == DYNAMIC
    }

    /// Its name among all keys: `unhandled_threshold`, `syslog.udp_listen`.
    pub fn id(&self) -> Cow<'static, str> {
        if self.is_dynamic() { Cow::Borrowed(self.name) } else { Cow::Owned(format!("{}.{}", self.section, self.name)) }
    }
}

const fn key(
    section: &'static str,
    name: &'static str,
    env: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Key {
    let masked = matches!(kind, Kind::Secret);
    Key { section, name, env, aliases: &[], kind, default, help, unit: "", reader: "", live: true, masked }
}

const fn integer(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

/// Whether clients show certificates.
const CLIENT_CERTIFICATES: &[&str] = &["off", "optional", "required"];

/// Ways to write log lines.
const LOG_FORMATS: &[&str] = &["auto", "text", "json", "journald"];

/// Times that can count as slow: bounds of the histograms, in seconds.
const SLOW: &[&str] = &["0.05", "0.1", "0.25", "0.5", "1", "2", "5", "10"];

/// A terabyte: no size setting needs more.
const TERABYTE: i64 = 1 << 40;

/// The table.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("http", "listen", "MUTTD_HTTP_LISTEN", Kind::Address, "127.0.0.1:8090", "Address of the web UI and the API.").read_by("web"),
    key("http", "tls", "MUTTD_HTTP_TLS", Kind::Choice(&["off", "on"]), "off", "Whether the web UI and the API are served over TLS.").read_by("web"),
    key("http", "allow_plain", "MUTTD_HTTP_ALLOW_PLAIN", Kind::Truth, "false", "Whether they may be served without TLS on an address that others reach: only where something else encrypts.").read_by("web"),
    key("http", "client_certificates", "MUTTD_HTTP_CLIENT_CERTIFICATES", Kind::Choice(CLIENT_CERTIFICATES), "off", "Whether clients show a certificate signed by tls.client_ca, besides their key or login: not asked, checked if shown, or required.").read_by("web"),
    key("http", "tls_cert", "MUTTD_HTTP_TLS_CERT", Kind::Text, "", "Certificate for this listener in the place of tls.cert.").read_by("web"),
    key("http", "tls_key", "MUTTD_HTTP_TLS_KEY", Kind::Text, "", "Its key.").read_by("web"),
    key("http", "cors_origins", "MUTTD_HTTP_CORS_ORIGINS", Kind::List, "", "Origins, such as `https://noc.example`, whose pages may read the API with a key of their own; none when empty. Cookies are never accepted from elsewhere.").read_by("web"),
    key("http", "request_timeout_seconds", "MUTTD_HTTP_REQUEST_TIMEOUT_SECONDS", integer(5, 3_600), "120", "Seconds a request to the API may be worked on until its answer begins; then it is answered 503.").unit("seconds").read_by("web"),
    key("ingest", "listen", "MUTTD_INGEST_LISTEN", Kind::Address, "127.0.0.1:8080", "Address of the HTTP ingest API.").read_by("ingest"),
    key("ingest", "tls", "MUTTD_INGEST_TLS", Kind::Choice(&["off", "on"]), "off", "Whether the HTTP ingest API is served over TLS.").read_by("ingest"),
    key("ingest", "allow_plain", "MUTTD_INGEST_ALLOW_PLAIN", Kind::Truth, "false", "Whether it may be served without TLS on an address that others reach.").read_by("ingest"),
    key("ingest", "client_certificates", "MUTTD_INGEST_CLIENT_CERTIFICATES", Kind::Choice(CLIENT_CERTIFICATES), "off", "Whether senders show a certificate signed by tls.client_ca, besides their key.").read_by("ingest"),
    key("ingest", "tls_cert", "MUTTD_INGEST_TLS_CERT", Kind::Text, "", "Certificate for this listener in the place of tls.cert.").read_by("ingest"),
    key("ingest", "tls_key", "MUTTD_INGEST_TLS_KEY", Kind::Text, "", "Its key.").read_by("ingest"),
    key("ingest", "api_key", "MUTTD_INGEST_API_KEY", Kind::Secret, "", "Key that may send events. Made at first start and kept in secrets.toml when not set.").read_by("ingest"),
    key("ingest", "api_key_next", "MUTTD_INGEST_API_KEY_NEXT", Kind::Secret, "", "A second ingest key that is accepted too, for rotation.").read_by("ingest"),
    key("ingest", "required_fields", "MUTTD_INGEST_REQUIRED_FIELDS", Kind::List, "hostname,message,timestamp", "JSON members an event must have.").read_by("ingest"),
    key("ingest", "max_body_bytes", "MUTTD_INGEST_MAX_BODY_BYTES", integer(1_024, 64 << 20), "4194304", "Largest body in bytes, before and after decompression.").unit("bytes").read_by("ingest"),
    key("admin", "api_key", "MUTTD_ADMIN_API_KEY", Kind::Secret, "", "Key that may do everything. Made at first start and kept in secrets.toml when not set.").read_by("web"),
    key("admin", "api_key_next", "MUTTD_ADMIN_API_KEY_NEXT", Kind::Secret, "", "A second admin key that is accepted too, for rotation.").read_by("web"),
    key("admin", "password", "MUTTD_ADMIN_PASSWORD", Kind::Secret, "", "Password of the user `admin` when it is made at first start; a random one is made and printed once when not set.").read_by("web").after_restart(),
    key("admin", "session_seconds", "MUTTD_ADMIN_SESSION_SECONDS", integer(300, 2_592_000), "43200", "How long a login lasts at the longest; sessions that began before a change keep their end.").unit("seconds").read_by("web"),
    key("admin", "session_idle_seconds", "MUTTD_ADMIN_SESSION_IDLE_SECONDS", integer(300, 2_592_000), "7200", "How long a login lasts that nobody uses. A page that refreshes itself uses it.").unit("seconds").read_by("web"),
    key("syslog", "udp_listen", "MUTTD_SYSLOG_UDP_LISTEN", Kind::Address, "0.0.0.0:5514", "Address for syslog over UDP.").read_by("ingest"),
    key("syslog", "tcp_listen", "MUTTD_SYSLOG_TCP_LISTEN", Kind::Address, "0.0.0.0:5514", "Address for syslog over TCP.").read_by("ingest"),
    key("syslog", "tls_listen", "MUTTD_SYSLOG_TLS_LISTEN", Kind::Address, "", "Address for syslog over TLS (RFC 5425; its port is 6514).").read_by("ingest"),
    key("syslog", "client_certificates", "MUTTD_SYSLOG_CLIENT_CERTIFICATES", Kind::Choice(CLIENT_CERTIFICATES), "off", "Whether senders of syslog over TLS show a certificate signed by tls.client_ca.").read_by("ingest"),
    key("syslog", "tls_cert", "MUTTD_SYSLOG_TLS_CERT", Kind::Text, "", "Certificate for syslog over TLS in the place of tls.cert.").read_by("ingest"),
    key("syslog", "tls_key", "MUTTD_SYSLOG_TLS_KEY", Kind::Text, "", "Its key.").read_by("ingest"),
    key("syslog", "device_zone", "MUTTD_SYSLOG_DEVICE_ZONE", Kind::Text, "", "Time zone of device times that name none, as `+01:00` or `UTC`; empty for this system's zone.").read_by("ingest"),
    key("syslog", "max_message_bytes", "MUTTD_SYSLOG_MAX_MESSAGE_BYTES", integer(1_024, 256 << 10), "65536", "Longest message kept, in bytes; what is beyond is cut and flagged.").unit("bytes").read_by("ingest"),
    key("syslog", "max_connections", "MUTTD_SYSLOG_MAX_CONNECTIONS", integer(1, 100_000), "1024", "TCP connections at once.").unit("connections").read_by("ingest"),
    key("syslog", "idle_timeout_seconds", "MUTTD_SYSLOG_IDLE_TIMEOUT_SECONDS", integer(1, 604_800), "3600", "A TCP connection that sends nothing for so many seconds is closed.").unit("seconds").read_by("ingest"),
    key("syslog", "receive_buffer_bytes", "MUTTD_SYSLOG_RECEIVE_BUFFER_BYTES", integer(4_096, 1 << 30), "8388608", "Receive buffer asked of the kernel for UDP sockets (syslog and SNMP), in bytes; net.core.rmem_max bounds it unless the process may exceed it.").unit("bytes").read_by("ingest"),
    key("tls", "cert", "MUTTD_TLS_CERT", Kind::Text, "", "Certificate of every listener that speaks TLS, with its chain, as a PEM file; read again when it changes. While it is empty a self-signed one is made and kept in the folder `tls` of the data directory.").read_by("web, ingest"),
    key("tls", "key", "MUTTD_TLS_KEY", Kind::Text, "", "The certificate's private key, as a PEM file that not everyone can read.").read_by("web, ingest"),
    key("tls", "client_ca", "MUTTD_TLS_CLIENT_CA", Kind::Text, "", "PEM file of the authorities that sign certificates of clients, for listeners with client_certificates.").read_by("web, ingest"),
    key("tls", "names", "MUTTD_TLS_NAMES", Kind::List, "", "Further names and addresses for the self-signed certificate, besides this machine's own; used when it is made.").read_by("web, ingest"),
    key("snmp", "listen", "MUTTD_SNMP_LISTEN", Kind::Address, "0.0.0.0:1162", "Address for SNMP traps and informs (UDP).").read_by("ingest"),
    key("snmp", "communities", "MUTTD_SNMP_COMMUNITIES", Kind::List, "public", "SNMP v1 and v2c communities accepted. `public` admits what unauthenticated syslog admits anyway; name your own to be stricter.").read_by("ingest").masked(),
    key("moog", "webhook_url", "MUTTD_MOOG_WEBHOOK_URL", Kind::Text, "", "Where alerts are posted; while it is empty alerts wait in their queue.").read_by("forward").masked(),
    key("moog", "api_key", "MUTTD_MOOG_API_KEY", Kind::Secret, "", "Sent to Moogsoft as `Authorization: Bearer`.").read_by("forward"),
    key("moog", "api_key_next", "MUTTD_MOOG_API_KEY_NEXT", Kind::Secret, "", "Sent instead when api_key is refused, for rotation.").read_by("forward"),
    key("moog", "agent_location", "MUTTD_MOOG_AGENT_LOCATION", Kind::Text, "", "Where this appliance stands, for Moogsoft's `agent_location`; this machine's host name when not set.").read_by("forward"),
    key("vault", "address", "MUTTD_VAULT_ADDRESS", Kind::Text, "", "Address of HashiCorp Vault, as `https://vault.example:8200`; empty for none. Needs a build with the feature `vault`; see SECRETS.md.").read_by("vault").after_restart(),
    key("vault", "role_id", "MUTTD_VAULT_ROLE_ID", Kind::Text, "", "The AppRole's role id.").read_by("vault").after_restart(),
    key("vault", "secret_id", "MUTTD_VAULT_SECRET_ID", Kind::Secret, "", "The AppRole's secret id; better a systemd credential `vault_secret_id` or secret_id_file.").read_by("vault").after_restart(),
    key("vault", "secret_id_file", "MUTTD_VAULT_SECRET_ID_FILE", Kind::Text, "", "A file with the secret id, read at each login.").read_by("vault").after_restart(),
    key("vault", "approle_mount", "MUTTD_VAULT_APPROLE_MOUNT", Kind::Text, "approle", "Where the AppRole method is mounted.").read_by("vault").after_restart(),
    key("vault", "mount", "MUTTD_VAULT_MOUNT", Kind::Text, "secret", "Where the KV engine (version 2) is mounted.").read_by("vault").after_restart(),
    key("vault", "path", "MUTTD_VAULT_PATH", Kind::Text, "muttd", "The secret whose members are the appliance's secrets.").read_by("vault").after_restart(),
    key("vault", "namespace", "MUTTD_VAULT_NAMESPACE", Kind::Text, "", "Vault's namespace; empty for none.").read_by("vault").after_restart(),
    key("vault", "ca_file", "MUTTD_VAULT_CA_FILE", Kind::Text, "", "Certificates (PEM) to trust for Vault instead of the system's.").read_by("vault").after_restart(),
    key("vault", "poll_seconds", "MUTTD_VAULT_POLL_SECONDS", integer(1, 3_600), "30", "Time from one look at the secret to the next.").unit("seconds").read_by("vault").after_restart(),
    key("vault", "start_wait_seconds", "MUTTD_VAULT_START_WAIT_SECONDS", integer(0, 600), "30", "How long a start waits for Vault's first answer.").unit("seconds").read_by("vault").after_restart(),
    key("vault", "required", "MUTTD_VAULT_REQUIRED", Kind::Truth, "false", "Whether a start without an answer of Vault is refused; else it goes on with the secrets of other sources, and alerts for targets without theirs wait.").read_by("vault").after_restart(),
    key("oidc", "issuer", "MUTTD_OIDC_ISSUER", Kind::Text, "", "Issuer of an OpenID Connect provider by which people may log in, as `https://login.example/realms/ops`; empty for none. Needs a build with the feature `oidc`; see SECURITY.md.").read_by("web").after_restart(),
    key("oidc", "client_id", "MUTTD_OIDC_CLIENT_ID", Kind::Text, "muttd", "As what the provider knows this appliance.").read_by("web").after_restart(),
    key("oidc", "client_secret", "MUTTD_OIDC_CLIENT_SECRET", Kind::Secret, "", "What proves that; empty for a public client.").read_by("web").after_restart(),
    key("oidc", "redirect_url", "MUTTD_OIDC_REDIRECT_URL", Kind::Text, "", "Where the provider sends browsers back: this appliance's address as browsers reach it, and `/login/oidc/callback`.").read_by("web").after_restart(),
    key("oidc", "scopes", "MUTTD_OIDC_SCOPES", Kind::Text, "openid profile email", "What the provider is asked for; `openid` must be among it.").read_by("web").after_restart(),
    key("oidc", "name_claim", "MUTTD_OIDC_NAME_CLAIM", Kind::Text, "preferred_username", "The claim that becomes the user's name, after `oidc:`.").read_by("web").after_restart(),
    key("oidc", "role_claim", "MUTTD_OIDC_ROLE_CLAIM", Kind::Text, "groups", "The claim that decides the role: a text or a list, or a path to one, as `realm_access.roles`.").read_by("web").after_restart(),
    key("oidc", "admin_values", "MUTTD_OIDC_ADMIN_VALUES", Kind::List, "", "Its values that make an admin.").read_by("web").after_restart(),
    key("oidc", "operator_values", "MUTTD_OIDC_OPERATOR_VALUES", Kind::List, "", "Its values that make an operator.").read_by("web").after_restart(),
    key("oidc", "viewer_values", "MUTTD_OIDC_VIEWER_VALUES", Kind::List, "", "Its values that make a viewer. Without any of these values nobody gets in.").read_by("web").after_restart(),
    key("oidc", "domains", "MUTTD_OIDC_DOMAINS", Kind::List, "", "Domains of verified mail addresses whose owners may log in; empty for all.").read_by("web").after_restart(),
    key("oidc", "ca_file", "MUTTD_OIDC_CA_FILE", Kind::Text, "", "Certificates (PEM) to trust for the provider instead of the system's.").read_by("web").after_restart(),
    key("slo", "prometheus_url", "MUTTD_SLO_PROMETHEUS_URL", Kind::Text, "", "Address of a Prometheus server that scrapes this appliance, as `http://prometheus.example:9090`: its figures are shown beside our own. Empty for none.").read_by("upkeep").after_restart().also(&["PROMETHEUS_URL"]),
    key("slo", "prometheus_matchers", "MUTTD_SLO_PROMETHEUS_MATCHERS", Kind::Text, "", "Matchers that choose this appliance among those which that server scrapes, as `instance=\"10.0.0.7:8090\"`; empty for all.").read_by("upkeep").after_restart(),
    key("slo", "prometheus_ca_file", "MUTTD_SLO_PROMETHEUS_CA_FILE", Kind::Text, "", "Certificates (PEM) to trust for it instead of the system's.").read_by("upkeep").after_restart(),
    key("telemetry", "otlp_endpoint", "MUTTD_TELEMETRY_OTLP_ENDPOINT", Kind::Text, "", "Address of a collector for traces, by OTLP over HTTP, as `http://collector:4318`; empty for none. Needs a build with the feature `otlp`; see MONITORING.md.").read_by("telemetry").after_restart(),
    key("telemetry", "otlp_headers", "MUTTD_TELEMETRY_OTLP_HEADERS", Kind::Secret, "", "Headers for it, as `name=value,name=value`.").read_by("telemetry").after_restart(),
    key("telemetry", "otlp_ca_file", "MUTTD_TELEMETRY_OTLP_CA_FILE", Kind::Text, "", "Certificates (PEM) to trust for it instead of the system's.").read_by("telemetry").after_restart(),
    key("log", "level", "MUTTD_LOG", Kind::LogFilter, "info", "What is logged: error, warn, info, debug, trace, or a filter such as `info,muttd::forward=debug`. The setting log_level, which is changed at run time, wins over it.").read_by("telemetry"),
    key("log", "format", "MUTTD_LOG_FORMAT", Kind::Choice(LOG_FORMATS), "auto", "How log lines are written: text for people, json for machines, journald with their fields into systemd's journal; auto is journald if standard error is the journal's, else text.").read_by("telemetry").after_restart(),
    key("queue", "reserve_free_bytes", "MUTTD_QUEUE_RESERVE_FREE_BYTES", integer(1 << 20, TERABYTE), "268435456", "Bytes of free disk below which no more events are taken, so that what is stored can still be processed.").unit("bytes").read_by("queue").after_restart(),

    key("dynamic", "max_ingest_queue_size", "MUTTD_DYNAMIC_MAX_INGEST_QUEUE_SIZE", integer(1, 1_000_000_000), "5000000", "Events the ingest queue may hold: from 90 % on TCP is not read, from 95 % on datagrams are dropped and counted, beyond it HTTP is answered 503.").unit("events").read_by("ingest").also(&["MAX_INGEST_QUEUE_SIZE"]),
    key("dynamic", "max_ingest_queue_bytes", "MUTTD_DYNAMIC_MAX_INGEST_QUEUE_BYTES", integer(1 << 20, TERABYTE), "4294967296", "Bytes the ingest queue may hold on disk.").unit("bytes").read_by("ingest"),
    key("dynamic", "ingest_max_rate", "MUTTD_DYNAMIC_INGEST_MAX_RATE", integer(0, 1_000_000_000), "0", "Events taken per ingest_rate_window over all inputs; 0 for no limit.").unit("events").read_by("ingest").also(&["INGEST_MAX_RATE"]),
    key("dynamic", "ingest_rate_window", "MUTTD_DYNAMIC_INGEST_RATE_WINDOW", integer(1, 86_400), "60", "Seconds over which ingest_max_rate is counted.").unit("seconds").read_by("ingest").also(&["INGEST_RATE_WINDOW"]),
    key("dynamic", "cache_reload_interval", "MUTTD_DYNAMIC_CACHE_RELOAD_INTERVAL", integer(1, 86_400), "300", "Seconds after which rules, hosts and teams are read again even if no change was noticed.").unit("seconds").read_by("alerter").also(&["CACHE_RELOAD_INTERVAL"]),
    key("dynamic", "audit", "MUTTD_DYNAMIC_AUDIT", Kind::Choice(&["matched", "all", "sample"]), "matched", "Which events become audit rows: those a rule matched, all, or those matched and a sample of the others.").read_by("alerter"),
    key("dynamic", "audit_sample_every", "MUTTD_DYNAMIC_AUDIT_SAMPLE_EVERY", integer(1, 1_000_000), "100", "With audit = sample: one in so many unmatched events becomes an audit row.").unit("events").read_by("alerter"),
    key("dynamic", "unhandled_threshold", "MUTTD_DYNAMIC_UNHANDLED_THRESHOLD", integer(1, 1_000_000_000), "100", "Events of one host and kind without a rule that make one meta-alert.").unit("events").read_by("alerter").also(&["UNHANDLED_THRESHOLD"]),
    key("dynamic", "unhandled_expiry_seconds", "MUTTD_DYNAMIC_UNHANDLED_EXPIRY_SECONDS", integer(1, 31_536_000), "86400", "Seconds within which unhandled_threshold must be reached.").unit("seconds").read_by("alerter").also(&["UNHANDLED_EXPIRY_SECONDS"]),
    key("dynamic", "unhandled_default_team", "MUTTD_DYNAMIC_UNHANDLED_DEFAULT_TEAM", Kind::Team, "NETO", "Team of meta-alerts for hosts without a team.").read_by("alerter, remedy").also(&["UNHANDLED_DEFAULT_TEAM"]),
    key("dynamic", "alerter_max_retries", "MUTTD_DYNAMIC_ALERTER_MAX_RETRIES", integer(0, 100), "3", "Tries after which an event that cannot be processed becomes a dead letter.").unit("tries").read_by("alerter").also(&["ALERTER_MAX_RETRIES"]),
    key("dynamic", "alerter_queue_warn_threshold", "MUTTD_DYNAMIC_ALERTER_QUEUE_WARN_THRESHOLD", integer(1, 1_000_000_000), "10000", "Alerts waiting above which a warning is logged.").unit("alerts").read_by("alerter").also(&["ALERTER_QUEUE_WARN_THRESHOLD"]),
    key("dynamic", "alerter_queue_shed_threshold", "MUTTD_DYNAMIC_ALERTER_QUEUE_SHED_THRESHOLD", integer(1, 1_000_000_000), "1000000", "Alerts waiting above which alerter_shed_mode applies.").unit("alerts").read_by("alerter").also(&["ALERTER_QUEUE_SHED_THRESHOLD"]),
    key("dynamic", "alerter_shed_mode", "MUTTD_DYNAMIC_ALERTER_SHED_MODE", Kind::Choice(&["defer", "dlq"]), "defer", "Above the shed threshold: slow down (defer), or put alerts into the dead letter queue (dlq).").read_by("alerter").also(&["ALERTER_SHED_MODE"]),
    key("dynamic", "alerter_defer_sleep_ms", "MUTTD_DYNAMIC_ALERTER_DEFER_SLEEP_MS", integer(1, 60_000), "250", "Milliseconds between batches while deferring.").unit("milliseconds").read_by("alerter").also(&["ALERTER_DEFER_SLEEP_MS"]),
    key("dynamic", "moog_rate_limit", "MUTTD_DYNAMIC_MOOG_RATE_LIMIT", integer(0, 1_000_000), "50", "Alerts sent per moog_rate_period, at most; 0 for no limit.").unit("alerts").read_by("forward").also(&["MOOG_RATE_LIMIT"]),
    key("dynamic", "moog_rate_period", "MUTTD_DYNAMIC_MOOG_RATE_PERIOD", integer(1, 3_600), "1", "Seconds over which moog_rate_limit is counted.").unit("seconds").read_by("forward").also(&["MOOG_RATE_PERIOD"]),
    key("dynamic", "moog_max_retries", "MUTTD_DYNAMIC_MOOG_MAX_RETRIES", integer(1, 100), "5", "Deliveries tried before an alert becomes a dead letter.").unit("tries").read_by("forward").also(&["MOOG_MAX_RETRIES"]),
    key("dynamic", "moog_retry_base_ms", "MUTTD_DYNAMIC_MOOG_RETRY_BASE_MS", integer(10, 60_000), "1000", "Milliseconds before the first retry; doubled for each further one, with jitter.").unit("milliseconds").read_by("forward"),
    key("dynamic", "moog_retry_cap_seconds", "MUTTD_DYNAMIC_MOOG_RETRY_CAP_SECONDS", integer(1, 3_600), "60", "Longest wait between two tries, in seconds.").unit("seconds").read_by("forward"),
    key("dynamic", "moog_timeout_seconds", "MUTTD_DYNAMIC_MOOG_TIMEOUT_SECONDS", integer(1, 300), "10", "Seconds a delivery may take.").unit("seconds").read_by("forward"),
    key("dynamic", "moog_concurrency", "MUTTD_DYNAMIC_MOOG_CONCURRENCY", integer(1, 256), "8", "Deliveries under way at once.").unit("deliveries").read_by("forward"),
    key("dynamic", "circuit_breaker_threshold", "MUTTD_DYNAMIC_CIRCUIT_BREAKER_THRESHOLD", integer(1, 10_000), "5", "Deliveries that fail in a row (connection, time-out, 5xx, 408) after which a target is left alone for circuit_breaker_timeout; alerts wait meanwhile and no try of theirs is used up. A target may have its own breaker_threshold.").unit("failures").read_by("forward").also(&["MOOG_CIRCUIT_BREAKER_THRESHOLD", "CIRCUIT_BREAKER_THRESHOLD"]),
    key("dynamic", "circuit_breaker_timeout", "MUTTD_DYNAMIC_CIRCUIT_BREAKER_TIMEOUT", integer(1, 86_400), "60", "Seconds a failing target is left alone before one alert is tried. A target may have its own breaker_timeout_seconds.").unit("seconds").read_by("forward").also(&["MOOG_CIRCUIT_BREAKER_TIMEOUT", "CIRCUIT_BREAKER_TIMEOUT"]),
    key("dynamic", "remediation_enabled", "MUTTD_DYNAMIC_REMEDIATION_ENABLED", Kind::Truth, "true", "Whether dead letters are put back by themselves; on request they always are.").read_by("remedy").also(&["REMEDIATION_ENABLED"]),
    key("dynamic", "remediation_interval", "MUTTD_DYNAMIC_REMEDIATION_INTERVAL", integer(1, 86_400), "300", "Seconds from one remediation run to the next.").unit("seconds").read_by("remedy").also(&["REMEDIATION_INTERVAL"]),
    key("dynamic", "remediation_batch_size", "MUTTD_DYNAMIC_REMEDIATION_BATCH_SIZE", integer(1, 100_000), "1000", "Dead letters put back in one remediation run, at most.").unit("letters").read_by("remedy").also(&["REMEDIATION_BATCH_SIZE"]),
    key("dynamic", "max_poison_retries", "MUTTD_DYNAMIC_MAX_POISON_RETRIES", integer(0, 1_000), "3", "A message that was put back so often and died again goes to the queue `dead` and is reported.").unit("tries").read_by("remedy").also(&["MAX_POISON_RETRIES"]),
    key("dynamic", "health_probe_ttl", "MUTTD_DYNAMIC_HEALTH_PROBE_TTL", integer(1, 3_600), "60", "Seconds for which a target's answer to a health probe counts; then it is asked again.").unit("seconds").read_by("remedy"),
    key("dynamic", "trace_per_million", "MUTTD_DYNAMIC_TRACE_PER_MILLION", integer(0, 1_000_000), "1000", "Of a million events whose sender decided nothing, so many are traced. Acts while telemetry.otlp_endpoint is set.").unit("events").read_by("telemetry"),
    key("dynamic", "log_level", "MUTTD_DYNAMIC_LOG_LEVEL", Kind::LogFilter, "", "What is logged, in the place of log.level: a level, or a filter such as `info,muttd::forward=debug`. Empty for what log.level says.").read_by("telemetry"),
    key("dynamic", "recent_max_bytes", "MUTTD_DYNAMIC_RECENT_MAX_BYTES", integer(1 << 20, TERABYTE), "2147483648", "Bytes the store of recent events may take on disk.").unit("bytes").read_by("store"),
    key("dynamic", "recent_max_days", "MUTTD_DYNAMIC_RECENT_MAX_DAYS", integer(1, 3_650), "7", "Days the store of recent events goes back, at most.").unit("days").read_by("store"),
    key("dynamic", "partition_advance_months", "MUTTD_DYNAMIC_PARTITION_ADVANCE_MONTHS", integer(0, 24), "3", "Months after the current one whose audit files are made ahead.").unit("months").read_by("store").also(&["PARTITION_ADVANCE_MONTHS"]),
    key("dynamic", "partition_max_bytes", "MUTTD_DYNAMIC_PARTITION_MAX_BYTES", integer(16 << 20, TERABYTE), "4294967296", "Bytes of an audit file from which on its month goes on in a further one (events-2026-11.2.db).").unit("bytes").read_by("store"),
    key("dynamic", "api_rate_limit_per_minute", "MUTTD_DYNAMIC_API_RATE_LIMIT_PER_MINUTE", integer(0, 100_000_000), "60000", "Requests that one key or user may send to the API in a minute; 0 for no limit.").unit("requests").read_by("web"),
    key("dynamic", "api_address_rate_limit_per_minute", "MUTTD_DYNAMIC_API_ADDRESS_RATE_LIMIT_PER_MINUTE", integer(0, 100_000_000), "120000", "Requests that one address may send to the API in a minute, with or without a valid key; 0 for no limit.").unit("requests").read_by("web"),
    key("dynamic", "retention_enabled", "MUTTD_DYNAMIC_RETENTION_ENABLED", Kind::Truth, "true", "Whether the appliance runs retention by itself once a day; on request it always runs.").read_by("upkeep").also(&["RETENTION_ENABLED"]),
    key("dynamic", "retention_hour", "MUTTD_DYNAMIC_RETENTION_HOUR", integer(0, 23), "2", "Hour of local time at which retention runs; a run that was missed is made up for at the next start.").unit("hour").read_by("upkeep"),
    key("dynamic", "event_retention_days", "MUTTD_DYNAMIC_EVENT_RETENTION_DAYS", integer(1, 36_500), "90", "Whole days an event stays in the audit after its own (UTC); then it moves to the archive.").unit("days").read_by("upkeep").also(&["EVENT_RETENTION_DAYS"]),
    key("dynamic", "archive_retention_days", "MUTTD_DYNAMIC_ARCHIVE_RETENTION_DAYS", integer(1, 36_500), "2555", "Whole days an event is kept in all, audit and archive; then it is deleted for good, unless a legal hold covers it.").unit("days").read_by("upkeep").also(&["ARCHIVE_RETENTION_DAYS"]),
    key("dynamic", "config_audit_retention_days", "MUTTD_DYNAMIC_CONFIG_AUDIT_RETENTION_DAYS", integer(1, 36_500), "2555", "Whole days a line of the change trail is kept after its own.").unit("days").read_by("upkeep").also(&["CONFIG_AUDIT_RETENTION_DAYS"]),
    key("dynamic", "audit_max_bytes", "MUTTD_DYNAMIC_AUDIT_MAX_BYTES", integer(0, TERABYTE), "0", "Bytes in use in the audit's files above which the oldest days move to the archive before their time; 0 for no limit. Freed room goes back to the disk when a file is empty, so leave room for one file more (partition_max_bytes).").unit("bytes").read_by("upkeep"),
    key("dynamic", "archive_max_bytes", "MUTTD_DYNAMIC_ARCHIVE_MAX_BYTES", integer(0, TERABYTE), "0", "Bytes of archives above which the oldest are deleted before their time, except what a legal hold covers; 0 for no limit.").unit("bytes").read_by("upkeep"),
    key("dynamic", "retention_min_free_bytes", "MUTTD_DYNAMIC_RETENTION_MIN_FREE_BYTES", integer(0, TERABYTE), "268435456", "Bytes of free disk below which no archive is written.").unit("bytes").read_by("upkeep"),
    key("dynamic", "slo_ingest_availability_target", "MUTTD_DYNAMIC_SLO_INGEST_AVAILABILITY_TARGET", Kind::Percent, "99.9", "Service level: per cent of received events that are stored.").read_by("upkeep"),
    key("dynamic", "slo_ingest_latency_target", "MUTTD_DYNAMIC_SLO_INGEST_LATENCY_TARGET", Kind::Percent, "99", "Service level: per cent of HTTP ingest requests answered within slo_ingest_latency_seconds.").read_by("upkeep"),
    key("dynamic", "slo_ingest_latency_seconds", "MUTTD_DYNAMIC_SLO_INGEST_LATENCY_SECONDS", Kind::Choice(SLOW), "0.5", "Seconds after which an HTTP ingest request counts as slow.").read_by("upkeep"),
    key("dynamic", "slo_forward_success_target", "MUTTD_DYNAMIC_SLO_FORWARD_SUCCESS_TARGET", Kind::Percent, "99.5", "Service level: per cent of deliveries that the target takes.").read_by("upkeep"),
    key("dynamic", "slo_forward_latency_target", "MUTTD_DYNAMIC_SLO_FORWARD_LATENCY_TARGET", Kind::Percent, "99", "Service level: per cent of deliveries done within slo_forward_latency_seconds.").read_by("upkeep"),
    key("dynamic", "slo_forward_latency_seconds", "MUTTD_DYNAMIC_SLO_FORWARD_LATENCY_SECONDS", Kind::Choice(SLOW), "2", "Seconds after which a delivery counts as slow.").read_by("upkeep"),
    key("dynamic", "slo_processing_success_target", "MUTTD_DYNAMIC_SLO_PROCESSING_SUCCESS_TARGET", Kind::Percent, "99.9", "Service level: per cent of events that are judged and do not become dead letters.").read_by("upkeep"),
    key("dynamic", "slo_rule_reload_success_target", "MUTTD_DYNAMIC_SLO_RULE_RELOAD_SUCCESS_TARGET", Kind::Percent, "99", "Service level: per cent of reloads of rules, hosts and teams that succeed.").read_by("upkeep"),
];

/// The key of that name.
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// The key that people call so: `unhandled_threshold`, `dynamic.unhandled_threshold` or `syslog.udp_listen`.
pub fn find_id(id: &str) -> Option<&'static Key> {
    let (section, name) = id.split_once('.').unwrap_or((DYNAMIC, id));
    find(section, name)
}

/// The key whose name is most like `id`, if one is like it.
pub fn nearest(id: &str) -> Option<Cow<'static, str>> {
    let wanted: String = id.chars().take(64).flat_map(char::to_lowercase).collect();
    let likeness = |key: &Key| {
        let full = key.id();
        let names = [distance(&wanted, &full), distance(&wanted, key.name)];
        (names.into_iter().min().unwrap_or(usize::MAX), full)
    };
    let (distance, found) = KEYS.iter().map(likeness).min_by_key(|(distance, _)| *distance)?;
    (distance <= wanted.chars().count() / 3).then_some(found)
}

/// Letters that must be put in, taken out or exchanged to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_what_people_call_them() {
        let check = |id: &str, expected: Option<&str>| {
            assert_eq!(find_id(id).map(|key| key.id().into_owned()).as_deref(), expected, "{id}");
        };
        check("unhandled_threshold", Some("unhandled_threshold"));
        check("dynamic.unhandled_threshold", Some("unhandled_threshold"));
        check("syslog.udp_listen", Some("syslog.udp_listen"));
        check("udp_listen", None);
        check("", None);
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let check = |id: &str, expected: Option<&str>| assert_eq!(nearest(id).as_deref(), expected, "{id}");
        check("unhandled_treshold", Some("unhandled_threshold"));
        check("MOOG_RATE_LIMITS", Some("moog_rate_limit"));
        check("udp_listen", Some("syslog.udp_listen"));
        check("flux_capacitor", None);
        check("", None);
    }

    #[test]
    fn every_key_says_who_reads_it_and_every_number_what_it_counts() {
        for key in KEYS {
            assert!(!key.reader.is_empty(), "{} has no reader", key.id());
            assert_eq!(matches!(key.kind, Kind::Integer { .. }), !key.unit.is_empty(), "{}", key.id());
            assert!(!key.is_dynamic() || (key.live && !key.masked), "{}", key.id());
        }
        let mut names: Vec<&str> = KEYS.iter().flat_map(|key| key.aliases.iter().chain([&key.env])).copied().collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "two keys share a variable");
    }
}
