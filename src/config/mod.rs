//! Where settings and secrets come from: defaults < TOML file < environment < settings kept in the store. The only module
//! that knows.
//!
//! Everything is checked before anything is used: a [`Config`] that exists is valid as a whole. Each stage gets its own
//! `Settings`; none of them sees this module. [`Keeper`] is the one way by which a changed configuration comes into force.

mod api;
mod keeper;
mod kept_targets;
pub mod keys;
mod reference;
mod secrets;
mod setting;
mod targets;
mod tls;
pub mod transfer;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::FixedOffset;

pub use api::ApiSettings;
pub use keeper::{Changed, Commit, Keeper, NotChanged, Prepare, Wish};
pub use kept_targets::{TargetEdit, TargetOrigin, read_definition};
use keys::Key;
pub use secrets::{
    Edit, Fingerprint, HeldSecret, Keyring, NotEdited, OWN_SECRETS, OwnSecret, SECRETS_FILE, SecretSource, check_name,
    edit as edit_secret, kept_admin_key, own_secret, variable_name,
};
use secrets::{NamedSecrets, Places};
pub use setting::{Setting, settings_of};
pub use targets::Targets;
use values::Values;
pub use values::{ConfigError, Ignored, Origin};

use crate::access::Role;
use crate::clock::Clock;
use crate::model::Team;
use crate::net::tls::TlsPlan;
use crate::oidc;
use crate::secret::{Secret, SecretPair};
use crate::telemetry::logs::LogFormat;
use crate::telemetry::{otlp, trace};
use crate::vault::{self, SecretId, Vault};
use crate::{alerter, ingest, queue, remedy, store, upkeep};

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory that holds everything the process writes.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// Which listeners speak TLS, and with which certificates.
    pub tls: TlsPlan,
    /// Limits and options of the inputs.
    pub ingest: ingest::Settings,
    /// What senders must know.
    pub ingest_secrets: ingest::Secrets,
    /// The key that may do everything.
    pub admin_api_key: SecretPair,
    /// Password for the first user; `None` to have one made.
    pub admin_password: Option<Secret>,
    /// How long logins last.
    pub sessions: SessionLimits,
    /// What the API grants its callers.
    pub api: ApiSettings,
    /// How events are judged.
    pub alerter: alerter::Settings,
    /// Where alerts are delivered.
    pub targets: Targets,
    /// How dead letters come back.
    pub remedy: remedy::Settings,
    /// What the service levels ask for.
    pub slo: upkeep::slo::Settings,
    /// How long events are kept.
    pub retention: upkeep::retention::Settings,
    /// Bounds of the recent store.
    pub recent: store::RecentSettings,
    /// How the audit's partitions are made.
    pub audit: store::AuditSettings,
    /// Options of the queues.
    pub queue: queue::QueueOptions,
    /// What is logged.
    pub log_filter: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// The Prometheus server that is asked for service levels.
    pub prometheus: upkeep::slo::PrometheusSettings,
    /// Login by a provider.
    pub oidc: Option<oidc::Settings>,
    /// Where spans of traced events go.
    pub otlp: otlp::Settings,
    /// Which events are traced.
    pub trace: trace::Settings,
    /// Every secret, and where it comes from.
    pub secrets: Keyring,
    /// Ingest and admin key, when they were made by this call and should be shown once.
    pub fresh_keys: Option<(Secret, Secret)>,
    /// What it was made of.
    raw: Raw,
}

/// What a configuration is made of: all that was read, so that one setting can be changed without reading anything else
/// anew.
#[derive(Debug, Clone)]
struct Raw {
    sources: Sources,
    values: Values,
    secrets: NamedSecrets,
}

/// Where a configuration is read from.
#[derive(Clone)]
pub struct Sources {
    data_dir: PathBuf,
    file: Option<PathBuf>,
    /// Values that win over the environment's variables of these names.
    overrides: BTreeMap<String, String>,
    /// What Vault holds, if there is one.
    vault: Option<Vault>,
}

impl std::fmt::Debug for Sources {
    /// Without the values that may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("data_dir", &self.data_dir).field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sources {
    /// A data directory, and the file if it is not the one in there.
    pub fn new(data_dir: &Path, file: Option<&Path>) -> Self {
        let (data_dir, file) = (data_dir.to_owned(), file.map(Path::to_owned));
        Self { data_dir, file, overrides: BTreeMap::new(), vault: None }
    }

    /// The same with secrets from Vault.
    #[must_use]
    pub fn with_vault(self, vault: Vault) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// The way to Vault, if there is one.
    pub fn vault(&self) -> Option<&Vault> {
        self.vault.as_ref()
    }

    /// How Vault is to be spoken to; `None` if it is not configured. Makes the data directory where it is missing.
    pub fn vault_settings(&self) -> Result<Option<vault::Settings>, ConfigError> {
        make_data_dir(&self.data_dir)?;
        vault_settings(&self.values()?, |name| self.variable(name))
    }

    /// What is logged, and how: known before anything else is.
    pub fn logging(&self) -> Result<(String, LogFormat), ConfigError> {
        make_data_dir(&self.data_dir)?;
        let values = self.values()?;
        Ok((log_filter(&values), log_format(&values)))
    }

    /// Reads the secrets of every source; `earlier` is what was read before.
    fn secrets(&self, values: &Values, earlier: Option<&NamedSecrets>) -> Result<NamedSecrets, ConfigError> {
        let set =
            std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        let own = set.filter(|(name, _)| !self.overrides.contains_key(name));
        let places = Places {
            data_dir: &self.data_dir,
            variables: own.chain(self.overrides.clone()).collect(),
            values,
            vault: self.vault.as_ref().map(|vault| (*vault.secrets.get()).clone()),
            now: Clock::system().now(),
        };
        NamedSecrets::read(places, earlier)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.overrides.get(name).cloned().or_else(|| std::env::var(name).ok())
    }

    /// Defaults, file, environment and what is kept in the data directory's store; makes nothing.
    fn values(&self) -> Result<Values, ConfigError> {
        let beside = self.data_dir.join("muttd.toml");
        let file = self.file.as_deref().or_else(|| beside.exists().then_some(beside.as_path()));
        let mut values = Values::read(file, |name| self.variable(name))?;
        let kept = store::kept_settings(&self.data_dir.join("store"));
        values.keep(&kept.map_err(|error| ConfigError(error.to_string()))?)?;
        let targets = store::kept_targets(&self.data_dir.join("store"));
        values.keep_targets(targets.map_err(|error| ConfigError(error.to_string()))?);
        Ok(values)
    }

    /// Reads everything, and makes the data directory and its `secrets.toml` where they are missing. Blocks on the disk.
    pub fn load(&self) -> Result<Config, ConfigError> {
        make_data_dir(&self.data_dir)?;
        let values = self.values()?;
        let secrets = self.secrets(&values, None)?;
        Raw { sources: self.clone(), values, secrets }.assemble()
    }
}

/// How long logins last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// At the longest.
    pub longest: Duration,
    /// Without use.
    pub idle: Duration,
}

/// Addresses to listen on; `None` is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Web UI and API.
    pub http: Option<SocketAddr>,
    /// HTTP ingest.
    pub ingest: Option<SocketAddr>,
    /// Syslog over UDP.
    pub syslog_udp: Option<SocketAddr>,
    /// Syslog over TCP.
    pub syslog_tcp: Option<SocketAddr>,
    /// Syslog over TLS.
    pub syslog_tls: Option<SocketAddr>,
    /// SNMP notifications.
    pub snmp: Option<SocketAddr>,
}

impl Config {
    /// Reads the file (`data_dir/muttd.toml` if `file` is not given and it exists) and the environment, and makes the
    /// data directory and its `secrets.toml` where they are missing.
    pub fn load(data_dir: &Path, file: Option<&Path>) -> Result<Self, ConfigError> {
        Sources::new(data_dir, file).load()
    }

    /// The same with values that win over the environment's variables of these names.
    pub fn load_with(
        data_dir: &Path,
        file: Option<&Path>,
        overrides: BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        Sources { overrides, ..Sources::new(data_dir, file) }.load()
    }

    /// Reads everything again. Unlike at a start a missing `secrets.toml` is an error, and secrets that did not change go
    /// on with when they were used. Blocks on the disk.
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        let values = self.raw.sources.values()?;
        self.with_secrets_of(values)
    }

    /// Reads the secrets again, and nothing else. Blocks on the disk.
    pub fn read_secrets_again(&self) -> Result<Self, ConfigError> {
        self.with_secrets_of(self.raw.values.clone())
    }

    fn with_secrets_of(&self, values: Values) -> Result<Self, ConfigError> {
        let sources = self.raw.sources.clone();
        let secrets = sources.secrets(&values, Some(&self.raw.secrets))?;
        Raw { sources, values, secrets }.assemble()
    }

    /// Every key with its value and where that comes from.
    pub fn settings(&self) -> Vec<Setting> {
        setting::all(&self.raw.values)
    }

    /// One key with its value.
    pub fn setting(&self, key: &'static Key) -> Setting {
        setting::one(&self.raw.values, key)
    }

    /// Tells people of kept settings that are not in force, but for those they know of.
    pub fn tell_ignored(&self, known: &[Ignored]) {
        for ignored in self.ignored().iter().filter(|ignored| !known.contains(ignored)) {
            tracing::warn!(
                key = ignored.key,
                value = ignored.value,
                "A kept setting cannot be used and is ignored: {}",
                ignored.why
            );
        }
    }

    /// The same without one of the kept settings that are not in force.
    fn without_ignored(&self, name: &str) -> Self {
        let mut config = self.clone();
        config.raw.values.forget_ignored(name);
        config
    }

    /// Settings that are kept and not in force.
    pub fn ignored(&self) -> &[Ignored] {
        self.raw.values.ignored()
    }

    /// Where it was read from.
    pub fn sources(&self) -> &Sources {
        &self.raw.sources
    }

    /// The same with some settings changed; nothing is read or kept.
    fn with_settings(&self, wishes: &[Wish]) -> Result<Self, ConfigError> {
        let mut raw = self.raw.clone();
        raw.values.set(wishes.iter().map(|wish| (wish.key, wish.value.as_deref())))?;
        raw.assemble()
    }
}

impl Raw {
    fn assemble(self) -> Result<Config, ConfigError> {
        let (values, secrets) = (&self.values, &self.secrets);
        let targets = targets::read(values, secrets)?;
        let keyring = secrets.keyring(&targets.secret_users());
        let alerter = alerter::Settings {
            routes: targets.routes.clone(),
            default_targets: vec![targets.default.clone()],
            ..alerter_settings(values)?
        };
        let own = |name: &str| keyring.get(name).map(|held| held.pair.clone()).unwrap_or_default();
        let (ingest_api_key, admin_api_key) = (own("ingest_api_key"), own("admin_api_key"));
        let communities = values.list("snmp", "communities").into_iter().map(Secret::new).collect();
        Ok(Config {
            data_dir: self.sources.data_dir.clone(),
            listen: listen(values),
            tls: tls::read(values, &self.sources.data_dir)?,
            ingest: ingest_settings(values)?,
            // The admin key works on every call, so it may ingest too.
            ingest_secrets: ingest::Secrets { api_keys: vec![ingest_api_key, admin_api_key.clone()], communities },
            admin_api_key,
            sessions: SessionLimits {
                longest: Duration::from_secs(values.number("admin", "session_seconds")),
                idle: Duration::from_secs(values.number("admin", "session_idle_seconds")),
            },
            api: api::read(values)?,
            admin_password: Some(values.secret("admin", "password").0).filter(|password| !password.is_empty()),
            alerter,
            targets,
            remedy: remedy_settings(values)?,
            slo: slo_settings(values)?,
            retention: retention_settings(values)?,
            audit: store::AuditSettings {
                advance_months: narrow(values.number("dynamic", "partition_advance_months")),
                max_bytes: values.number("dynamic", "partition_max_bytes"),
            },
            recent: store::RecentSettings {
                max_bytes: values.number("dynamic", "recent_max_bytes"),
                max_days: narrow(values.number("dynamic", "recent_max_days")),
            },
            queue: queue::QueueOptions {
                reserve_free_bytes: values.number("queue", "reserve_free_bytes"),
                ..queue::QueueOptions::default()
            },
            log_filter: log_filter(values),
            log_format: log_format(values),
            prometheus: upkeep::slo::PrometheusSettings {
                url: values.text("slo", "prometheus_url"),
                matchers: values.text("slo", "prometheus_matchers"),
                ca_file: file(values, "slo", "prometheus_ca_file"),
            },
            oidc: oidc_settings(values),
            otlp: otlp_settings(values),
            trace: trace::Settings { per_million: values.number("dynamic", "trace_per_million") },
            fresh_keys: secrets.fresh_keys(),
            secrets: keyring,
            raw: self,
        })
    }
}

/// Makes the directory, for the owner only, when it is missing.
fn make_data_dir(path: &Path) -> Result<(), ConfigError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        ConfigError(format!(
            "cannot make the data directory `{}`: {error}; give another one with --data or make it writable",
            path.display()
        ))
    })
}

fn listen(values: &Values) -> Listen {
    Listen {
        http: values.address("http", "listen"),
        ingest: values.address("ingest", "listen"),
        syslog_udp: values.address("syslog", "udp_listen"),
        syslog_tcp: values.address("syslog", "tcp_listen"),
        syslog_tls: values.address("syslog", "tls_listen"),
        snmp: values.address("snmp", "listen"),
    }
}

fn ingest_settings(values: &Values) -> Result<ingest::Settings, ConfigError> {
    Ok(ingest::Settings {
        max_queue_items: values.number("dynamic", "max_ingest_queue_size"),
        max_queue_bytes: values.number("dynamic", "max_ingest_queue_bytes"),
        max_rate: Some(narrow(values.number("dynamic", "ingest_max_rate"))).filter(|rate| *rate > 0),
        rate_window: Duration::from_secs(values.number("dynamic", "ingest_rate_window")),
        required_fields: values.list("ingest", "required_fields"),
        max_body_bytes: size(values.number("ingest", "max_body_bytes")),
        max_message_bytes: size(values.number("syslog", "max_message_bytes")),
        device_zone: device_zone(&values.text("syslog", "device_zone"))?,
        max_connections: size(values.number("syslog", "max_connections")),
        idle_timeout: Duration::from_secs(values.number("syslog", "idle_timeout_seconds")),
        receive_buffer_bytes: size(values.number("syslog", "receive_buffer_bytes")),
    })
}

fn alerter_settings(values: &Values) -> Result<alerter::Settings, ConfigError> {
    let team = values.text("dynamic", "unhandled_default_team");
    Ok(alerter::Settings {
        unhandled_threshold: values.number("dynamic", "unhandled_threshold"),
        unhandled_expiry: Duration::from_secs(values.number("dynamic", "unhandled_expiry_seconds")),
        unhandled_default_team: Team::new(&team)
            .map_err(|error| ConfigError(format!("`unhandled_default_team` in [dynamic]: {error}")))?,
        max_retries: narrow(values.number("dynamic", "alerter_max_retries")),
        queue_warn_threshold: values.number("dynamic", "alerter_queue_warn_threshold"),
        queue_shed_threshold: values.number("dynamic", "alerter_queue_shed_threshold"),
        shed_mode: match values.text("dynamic", "alerter_shed_mode").as_str() {
            "dlq" => alerter::ShedMode::Dlq,
            _ => alerter::ShedMode::Defer,
        },
        defer_sleep: Duration::from_millis(values.number("dynamic", "alerter_defer_sleep_ms")),
        audit: match values.text("dynamic", "audit").as_str() {
            "all" => alerter::AuditScope::All,
            "sample" => alerter::AuditScope::Sample(narrow(values.number("dynamic", "audit_sample_every"))),
            _ => alerter::AuditScope::Matched,
        },
        reload_interval: Duration::from_secs(values.number("dynamic", "cache_reload_interval")),
        ..alerter::Settings::default()
    })
}

fn remedy_settings(values: &Values) -> Result<remedy::Settings, ConfigError> {
    Ok(remedy::Settings {
        enabled: values.truth("dynamic", "remediation_enabled"),
        interval: Duration::from_secs(values.number("dynamic", "remediation_interval")),
        batch_size: size(values.number("dynamic", "remediation_batch_size")),
        max_poison_retries: narrow(values.number("dynamic", "max_poison_retries")),
        health_probe_ttl: Duration::from_secs(values.number("dynamic", "health_probe_ttl")),
        team: alerter_settings(values)?.unhandled_default_team,
    })
}

fn retention_settings(values: &Values) -> Result<upkeep::retention::Settings, ConfigError> {
    let number = |name| values.number("dynamic", name);
    let days = |name| i64::try_from(number(name)).unwrap_or(i64::MAX);
    Ok(upkeep::retention::Settings {
        enabled: values.truth("dynamic", "retention_enabled"),
        hour: narrow(number("retention_hour")),
        event_days: days("event_retention_days"),
        archive_days: days("archive_retention_days"),
        config_audit_days: days("config_audit_retention_days"),
        archive_max_bytes: number("archive_max_bytes"),
        audit_max_bytes: number("audit_max_bytes"),
        min_free_bytes: number("retention_min_free_bytes"),
        team: alerter_settings(values)?.unhandled_default_team,
    })
}

fn slo_settings(values: &Values) -> Result<upkeep::slo::Settings, ConfigError> {
    let target = |name| values.share("dynamic", name);
    Ok(upkeep::slo::Settings {
        objectives: [
            target("slo_ingest_availability_target"),
            target("slo_ingest_latency_target"),
            target("slo_forward_success_target"),
            target("slo_forward_latency_target"),
            target("slo_processing_success_target"),
            target("slo_rule_reload_success_target"),
        ],
        ingest_latency: values.seconds("dynamic", "slo_ingest_latency_seconds"),
        forward_latency: values.seconds("dynamic", "slo_forward_latency_seconds"),
        team: alerter_settings(values)?.unhandled_default_team,
    })
}

/// `UTC`, `Z`, `+01:00`, `-0530`; empty for the system's zone.
fn device_zone(text: &str) -> Result<Option<FixedOffset>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let text = if text.eq_ignore_ascii_case("utc") || text.eq_ignore_ascii_case("z") { "+00:00" } else { text };
    text.parse().map(Some).map_err(|_| {
        ConfigError(format!("`device_zone` in [syslog] is `{text}`, but must be an offset such as `+01:00`, or `UTC`, or empty for this system's zone"))
    })
}

fn log_format(values: &Values) -> LogFormat {
    match values.text("log", "format").as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        "journald" => LogFormat::Journald,
        _ => LogFormat::Auto,
    }
}

/// Without an issuer there is none.
fn oidc_settings(values: &Values) -> Option<oidc::Settings> {
    let text = |name: &'static str| values.text("oidc", name);
    let roles = |role, name: &'static str| (role, values.list("oidc", name));
    let settings = oidc::Settings {
        issuer: text("issuer"),
        client_id: text("client_id"),
        client_secret: values.secret("oidc", "client_secret").0,
        redirect_url: text("redirect_url"),
        scopes: text("scopes"),
        name_claim: text("name_claim"),
        role_claim: text("role_claim"),
        roles: [
            roles(Role::Admin, "admin_values"),
            roles(Role::Operator, "operator_values"),
            roles(Role::Viewer, "viewer_values"),
        ],
        domains: values.list("oidc", "domains"),
        ca_file: file(values, "oidc", "ca_file"),
    };
    Some(settings).filter(|settings| !settings.issuer.is_empty())
}

fn otlp_settings(values: &Values) -> otlp::Settings {
    otlp::Settings {
        endpoint: values.text("telemetry", "otlp_endpoint"),
        headers: values.secret("telemetry", "otlp_headers").0,
        ca_file: file(values, "telemetry", "otlp_ca_file"),
    }
}

/// A file that is named, if one is.
fn file(values: &Values, section: &'static str, name: &'static str) -> Option<PathBuf> {
    Some(values.text(section, name)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The setting that can be changed at run time, else the one of file and environment.
fn log_filter(values: &Values) -> String {
    Some(values.text("dynamic", "log_level"))
        .filter(|filter| !filter.is_empty())
        .unwrap_or_else(|| values.text("log", "level"))
}

/// Vault answers in milliseconds or is not well.
const VAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How Vault is to be spoken to; without an address it is not.
fn vault_settings(
    values: &Values,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<vault::Settings>, ConfigError> {
    let text = |name: &'static str| values.text("vault", name);
    if text("address").is_empty() {
        return Ok(None);
    }
    let wrong = |why: &str| Err(ConfigError(format!("[vault]: {why}")));
    let file = |name: &'static str| Some(text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
    let credential = variable("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join("vault_secret_id"));
    let given = values.secret("vault", "secret_id").0;
    let secret_id = match (file("secret_id_file"), credential.filter(|path| path.exists())) {
        _ if !given.is_empty() => SecretId::Value(given),
        (Some(path), _) | (None, Some(path)) => SecretId::File(path),
        (None, None) => {
            return wrong(
                "give the secret id in MUTTD_VAULT_SECRET_ID, the systemd credential `vault_secret_id` or `secret_id_file`",
            );
        }
    };
    if text("role_id").is_empty() {
        return wrong("`role_id` is missing");
    }
    let trimmed = |name: &'static str| text(name).trim_matches('/').to_owned();
    Ok(Some(vault::Settings {
        address: text("address"),
        approle_mount: trimmed("approle_mount"),
        role_id: text("role_id"),
        secret_id,
        mount: trimmed("mount"),
        path: trimmed("path"),
        namespace: text("namespace"),
        ca_file: file("ca_file"),
        poll: Duration::from_secs(values.number("vault", "poll_seconds")),
        timeout: VAULT_TIMEOUT,
        start_wait: Duration::from_secs(values.number("vault", "start_wait_seconds")),
        required: values.truth("vault", "required"),
    }))
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_file_and_environment_every_stage_gets_its_own_defaults() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let values = Values::read(None, |_| None).expect("valid defaults");
        assert_eq!(ingest_settings(&values).expect("valid"), ingest::Settings::default());
        assert_eq!(alerter_settings(&values).expect("valid"), alerter::Settings::default());
        let targets = targets::read(&values, &NamedSecrets::default()).expect("valid");
        assert_eq!(targets.targets[0].settings, crate::forward::Settings::default());
        let team = alerter::Settings::default().unhandled_default_team;
        assert_eq!(remedy_settings(&values).expect("valid"), remedy::Settings::for_team(team.clone()));
        let retention = upkeep::retention::Settings::for_team(team.clone());
        assert_eq!(retention_settings(&values).expect("valid"), retention);
        assert_eq!(slo_settings(&values).expect("valid"), upkeep::slo::Settings::for_team(team));
        let config = Config::load(dir.path(), None).expect("valid");
        assert!(config.fresh_keys.is_some(), "keys were made and are to be shown");
        assert_eq!(config.ingest_secrets.api_keys.len(), 2, "the ingest key and the admin key");
        let again = Config::load(dir.path(), None).expect("valid");
        assert!(again.fresh_keys.is_none(), "kept keys are not shown again");
    }

    #[test]
    fn a_webhook_that_is_no_address_is_refused() {
        let values = Values::read(None, |name| (name == "MUTTD_MOOG_WEBHOOK_URL").then(|| "moog".to_owned()));
        let values = values.expect("a text");
        let error = targets::read(&values, &NamedSecrets::default()).expect_err("it cannot be posted to");
        assert!(error.to_string().contains("webhook_url"), "{error}");
    }
}
