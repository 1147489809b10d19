//! `[[targets]]`: where alerts go, which of them, and how each receiver is spoken to.
//!
//! Keys that every target has are read here; all others are the options of its kind, which reads and checks them
//! itself. An unknown key is an error that names it. Without any `[[targets]]` there is one target, `moogsoft`, made of
//! `[moog]` and the `moog_*` keys. Nothing is connected to here.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::kept_targets::{is_legacy, table_of};
use super::secrets::NamedSecrets;
use super::values::Values;
use super::{ConfigError, narrow, size};
use crate::alerter::Route;
use crate::forward::{Guard, RawOptions, Secrets, Settings, TargetConfig, TargetKind};
use crate::model::{Handling, Severity, TargetName, Team};
use crate::store::KeptTarget;

/// Targets beyond this are a mistake; each has a queue on disk and a task.
const MOST_TARGETS: usize = 50;
/// The name of the target that `[moog]` defines, and of the one that takes what no route names.
pub const MOOGSOFT: &str = "moogsoft";
/// What its key is called.
pub const MOOG_API_KEY: &str = "moog_api_key";

/// Where alerts go.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Every target, in the order of the file; at least one.
    pub targets: Vec<TargetConfig>,
    /// Which alerts each takes.
    pub routes: BTreeMap<TargetName, Route>,
    /// What takes the alerts that no route names.
    pub default: TargetName,
    /// Targets kept in the store that cannot be used, and why.
    pub unusable: BTreeMap<String, String>,
}

impl Targets {
    /// Each secret that a target uses, with the target's name.
    pub(super) fn secret_users(&self) -> Vec<(String, String)> {
        let of = |target: &TargetConfig| -> Vec<(String, String)> {
            let pairs = target.secret.iter().chain(target.secrets.iter());
            pairs.map(|pair| (pair.name.to_string(), target.name.to_string())).collect()
        };
        self.targets.iter().flat_map(of).collect()
    }
}

/// The keys that every target has, as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Common {
    name: String,
    kind: String,
    secret: Option<String>,
    route: Option<RawRoute>,
    rate_limit: Option<u64>,
    rate_period_seconds: Option<u64>,
    max_tries: Option<u64>,
    retry_base_ms: Option<u64>,
    retry_cap_seconds: Option<u64>,
    timeout_seconds: Option<u64>,
    concurrency: Option<u64>,
    breaker_threshold: Option<u64>,
    breaker_timeout_seconds: Option<u64>,
    coalesce_seconds: Option<u64>,
    fallback: Option<String>,
    fallback_after_seconds: Option<u64>,
    allow_link_local: bool,
    allow_addresses: Vec<String>,
}

/// A key that every target has, for the reference page.
struct CommonKey {
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
}

const fn key(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> CommonKey {
    CommonKey { name, value, default, help }
}

/// The fields of [`Common`].
#[rustfmt::skip]
const COMMON: &[CommonKey] = &[
    key("name", "1 to 40 lower-case letters, digits, `-`, `_`", "", "What the target is called everywhere, and its outbox on disk."),
    key("kind", "a kind", "", "What kind of receiver it is; see TARGETS.md."),
    key("secret", "a name", "", "The secret that proves who we are, by its name: `MUTTD_SECRET_<NAME>`, a systemd credential, Vault, or a line of [secrets] in secrets.toml. The same with `_next` behind it is tried when this one is refused; see SECRETS.md."),
    key("route", "a table", "everything", "Which alerts it takes; all members given must agree: `teams`, `handlings` (Page_and_ticket, ...), `hosts` (patterns with `*` and `?`), `severities` (numbers or names), `unhandled` (true: only alerts about unhandled events, false: none of them), `only_fallback` (true: only what a failing target leaves)."),
    key("rate_limit", "0 to 1000000", "50", "Deliveries per rate_period_seconds; 0 for no limit."),
    key("rate_period_seconds", "1 to 3600", "1", "Seconds over which rate_limit is counted."),
    key("max_tries", "1 to 100", "5", "Tries before an alert becomes a dead letter; those of an outage do not count."),
    key("retry_base_ms", "10 to 60000", "1000", "Milliseconds before the first retry; doubled for each further one, with jitter."),
    key("retry_cap_seconds", "1 to 3600", "60", "Longest wait between two tries."),
    key("timeout_seconds", "1 to 300", "10", "Seconds a delivery may take."),
    key("concurrency", "1 to 256", "8", "Deliveries under way at once, for kinds that send each alert alone."),
    key("breaker_threshold", "1 to 10000", "circuit_breaker_threshold", "Failures in a row after which the target is left alone."),
    key("breaker_timeout_seconds", "1 to 86400", "circuit_breaker_timeout", "Seconds it is left alone before one alert is tried."),
    key("coalesce_seconds", "0 to 3600", "0", "At most one message in so many seconds, for kinds that put several alerts into one."),
    key("fallback", "a target's name", "", "Takes over the alerts of this target while it fails."),
    key("fallback_after_seconds", "1 to 86400", "300", "Seconds of failures before that."),
    key("allow_link_local", "true, false", "false", "Link-local addresses may be spoken to."),
    key("allow_addresses", "list of addresses", "", "Addresses that may be spoken to whatever they are."),
];

/// The section of the reference page, as Markdown.
pub fn reference() -> String {
    let mut section = String::from(
        "\n## [[targets]]\n\nWhere alerts go; as many as there are such tables. Without any there is one target, `moogsoft`, made of \
         `[moog]` and the `moog_*` keys; with `webhook_url` set it is there beside them. An alert that no target's route takes \
         goes to `moogsoft`, or to the first target. Targets are changed, \
         added and removed with `SIGHUP`, and at run time in the store (TARGETS.md). Further keys are options of the kind: see `TARGETS.md`.\n\n\
         ```toml\n[[targets]]\nname = \"chat\"\nkind = \"moogsoft\"\nurl = \"https://moog.example.net/events/webhook_noc\"\n\
         secret = \"noc\"\n\n[targets.route]\nteams = [\"NETO\"]\nseverities = [0, 1, 2, 3]\n```\n\n\
         | key | value | default | meaning |\n|---|---|---|---|\n",
    );
    for key in COMMON {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        section.push_str(&format!("| `{}` | {} | {default} | {} |\n", key.name, key.value, key.help));
    }
    section
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    teams: Option<Vec<String>>,
    handlings: Option<Vec<String>>,
    hosts: Option<Vec<String>>,
    severities: Option<Vec<toml::Value>>,
    unhandled: Option<bool>,
    #[serde(default)]
    only_fallback: bool,
}

/// The targets of a configuration: those of the file, and those kept in the store that can be used.
pub fn read(values: &Values, secrets: &NamedSecrets) -> Result<Targets, ConfigError> {
    let kept = values.kept_targets();
    match read_with(values, secrets, kept) {
        // The file and what is kept contradict each other: the file alone is in force.
        Err(ConfigError(why)) if !kept.is_empty() => {
            let mut targets = read_with(values, secrets, &[])?;
            targets.unusable =
                kept.iter().filter(|kept| kept.enabled).map(|kept| (kept.name.clone(), why.clone())).collect();
            Ok(targets)
        }
        outcome => outcome,
    }
}

fn read_with(values: &Values, secrets: &NamedSecrets, kept: &[KeptTarget]) -> Result<Targets, ConfigError> {
    let tables = values.targets();
    if tables.len() + kept.len() > MOST_TARGETS {
        let number = tables.len() + kept.len();
        return Err(ConfigError(format!("{number} [[targets]] are too many; {MOST_TARGETS} is the most")));
    }
    let legacy = legacy(values, secrets)?;
    let mut targets = Vec::new();
    let mut routes = BTreeMap::new();
    for (number, table) in tables.iter().enumerate() {
        let named = table.get("name").and_then(toml::Value::as_str).unwrap_or_default();
        let place =
            if named.is_empty() { format!("[[targets]] number {}", number + 1) } else { format!("target `{named}`") };
        let (target, route) =
            target(table, &legacy.settings, secrets).map_err(|why| ConfigError(format!("{place}: {why}")))?;
        if routes.insert(target.name.clone(), route).is_some() {
            return Err(ConfigError(format!("{place}: there is another target of this name; choose one of its own")));
        }
        targets.push(target);
    }
    let webhook = !values.text("moog", "webhook_url").is_empty();
    if webhook && routes.contains_key(&legacy.name) {
        return Err(ConfigError(format!(
            "target `{MOOGSOFT}` is defined by `webhook_url` in [moog] and by [[targets]]; remove one of them"
        )));
    }
    let mut unusable = BTreeMap::new();
    for kept in kept.iter().filter(|kept| kept.enabled) {
        let taken = webhook && is_legacy(&kept.name) || targets.iter().any(|target| target.name.as_str() == kept.name);
        let read = if taken {
            Err("the configuration file defines a target of this name".to_owned())
        } else {
            table_of(&kept.definition).and_then(|table| target(&table, &legacy.settings, secrets))
        };
        match read {
            Ok((target, route)) => {
                routes.insert(target.name.clone(), route);
                targets.push(target);
            }
            Err(why) => {
                unusable.insert(kept.name.clone(), why);
            }
        }
    }
    if webhook || targets.is_empty() {
        routes.insert(legacy.name.clone(), Route::default());
        targets.insert(0, legacy);
    }
    let idle = kept.iter().filter(|kept| !kept.enabled).map(|kept| kept.name.as_str());
    let known: Vec<&str> = idle.chain(unusable.keys().map(String::as_str)).collect();
    check_fallbacks(&targets, &known)?;
    let default = targets.iter().find(|target| target.name.as_str() == MOOGSOFT).or_else(|| targets.first());
    let default = default.map(|target| target.name.clone()).ok_or_else(|| ConfigError("there is no target".into()))?;
    Ok(Targets { targets, routes, default, unusable })
}

/// The target that `[moog]` and the `moog_*` keys define; its pace and patience are no one else's, but its breaker's
/// keys are the defaults of all.
fn legacy(values: &Values, secrets: &NamedSecrets) -> Result<TargetConfig, ConfigError> {
    let wrong = |why: &dyn Display| ConfigError(format!("`webhook_url` in [moog]: {why}"));
    let kind = TargetKind::find(MOOGSOFT).ok_or_else(|| wrong(&"this build knows no Moogsoft"))?;
    let mut options = RawOptions::new();
    options.insert("url".into(), json!(values.text("moog", "webhook_url")));
    options.insert("agent_location".into(), json!(agent_location(values.text("moog", "agent_location"))));
    kind.prepare(options.clone()).map_err(|why| wrong(&why))?;
    let held = secrets.held(MOOG_API_KEY);
    // With a key that Vault did not tell yet alerts wait; without any they go as they are.
    let secret = (held.awaited || held.pair.keys().next().is_some()).then_some(held.pair);
    Ok(TargetConfig {
        name: TargetName::new(MOOGSOFT).map_err(|why| wrong(&why))?,
        kind,
        options,
        secret,
        secrets: Secrets::default(),
        guard: Guard::default(),
        settings: Settings {
            rate_limit: Some(narrow(values.number("dynamic", "moog_rate_limit"))).filter(|limit| *limit > 0),
            rate_period: Duration::from_secs(values.number("dynamic", "moog_rate_period")),
            retry_base: Duration::from_millis(values.number("dynamic", "moog_retry_base_ms")),
            retry_cap: Duration::from_secs(values.number("dynamic", "moog_retry_cap_seconds")),
            max_tries: narrow(values.number("dynamic", "moog_max_retries")),
            timeout: Duration::from_secs(values.number("dynamic", "moog_timeout_seconds")),
            concurrency: size(values.number("dynamic", "moog_concurrency")),
            breaker_threshold: narrow(values.number("dynamic", "circuit_breaker_threshold")),
            breaker_timeout: Duration::from_secs(values.number("dynamic", "circuit_breaker_timeout")),
            ..Settings::default()
        },
    })
}

/// As configured, else this machine's host name, so that a receiver of several appliances can tell them apart.
fn agent_location(configured: String) -> String {
    if !configured.is_empty() {
        return configured;
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn target(table: &toml::Table, legacy: &Settings, secrets: &NamedSecrets) -> Result<(TargetConfig, Route), String> {
    let (common, options): (toml::Table, toml::Table) =
        table.clone().into_iter().partition(|(name, _)| COMMON.iter().any(|key| key.name == name));
    let common: Common = from_table(common)?;
    let name = TargetName::new(&common.name).map_err(|error| format!("`name`: {error}"))?;
    let kind = TargetKind::find(&common.kind)
        .ok_or_else(|| format!("`kind` is `{}`, but must be one of {}", common.kind, kinds()))?;
    // Options are JSON values from here on: kinds know nothing of the file's format.
    let options: RawOptions = from_table(options)?;
    let prepared = kind.prepare(options.clone()).map_err(|why| format!("{why} (kind `{}`)", kind.name))?;
    let secret = common.secret.as_deref().map(|name| secrets.find(name)).transpose()?;
    if prepared.needs_secret && secret.is_none() {
        return Err(format!("`secret` is missing: name the secret that kind `{}` needs", kind.name));
    }
    let mut further = BTreeMap::new();
    for name in &prepared.secrets {
        further.insert(name.clone(), secrets.find(name)?);
    }
    let route = common.route.as_ref().map_or_else(|| Ok(Route::default()), route)?;
    let guard =
        Guard { allow_link_local: common.allow_link_local, allow_addresses: addresses(&common.allow_addresses)? };
    let settings = settings(&common, legacy)?;
    Ok((TargetConfig { name, kind, options, secret, secrets: Secrets::new(further), guard, settings }, route))
}

fn from_table<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    table.try_into().map_err(|error| error.message().to_owned())
}

fn kinds() -> String {
    crate::forward::KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, String> {
    let parse = |text: &String| {
        text.parse().map_err(|_| format!("`allow_addresses` has `{text}`, but must be a list of IP addresses"))
    };
    texts.iter().map(parse).collect()
}

fn settings(common: &Common, legacy: &Settings) -> Result<Settings, String> {
    let default = Settings::default();
    let number = |name: &str, value: Option<u64>, min: u64, max: u64, default: u64| match value {
        None => Ok(default),
        Some(value) if (min..=max).contains(&value) => Ok(value),
        Some(value) => Err(format!("`{name}` is {value}, but must be a whole number from {min} to {max}")),
    };
    let seconds = |name: &str, value: Option<u64>, min: u64, max: u64, default: Duration| {
        number(name, value, min, max, default.as_secs()).map(Duration::from_secs)
    };
    let fallback = common.fallback.as_deref().map(TargetName::new).transpose();
    Ok(Settings {
        rate_limit: Some(narrow(number("rate_limit", common.rate_limit, 0, 1_000_000, 50)?)).filter(|limit| *limit > 0),
        rate_period: seconds("rate_period_seconds", common.rate_period_seconds, 1, 3_600, default.rate_period)?,
        retry_base: Duration::from_millis(number("retry_base_ms", common.retry_base_ms, 10, 60_000, 1_000)?),
        retry_cap: seconds("retry_cap_seconds", common.retry_cap_seconds, 1, 3_600, default.retry_cap)?,
        max_tries: narrow(number("max_tries", common.max_tries, 1, 100, default.max_tries.into())?),
        timeout: seconds("timeout_seconds", common.timeout_seconds, 1, 300, default.timeout)?,
        concurrency: size(number("concurrency", common.concurrency, 1, 256, default.concurrency as u64)?),
        breaker_threshold: narrow(number(
            "breaker_threshold",
            common.breaker_threshold,
            1,
            10_000,
            legacy.breaker_threshold.into(),
        )?),
        breaker_timeout: seconds(
            "breaker_timeout_seconds",
            common.breaker_timeout_seconds,
            1,
            86_400,
            legacy.breaker_timeout,
        )?,
        coalesce: seconds("coalesce_seconds", common.coalesce_seconds, 0, 3_600, default.coalesce)?,
        fallback: fallback.map_err(|error| format!("`fallback`: {error}"))?,
        fallback_after: seconds(
            "fallback_after_seconds",
            common.fallback_after_seconds,
            1,
            86_400,
            default.fallback_after,
        )?,
    })
}

fn route(raw: &RawRoute) -> Result<Route, String> {
    let teams = raw.teams.as_ref().map(|teams| teams.iter().map(|team| Team::new(team)).collect());
    let severities = raw.severities.as_ref().map(|severities| severities.iter().map(severity).collect());
    let handlings = raw.handlings.as_ref().map(|handlings| handlings.iter().map(|text| handling(text)).collect());
    let route = Route {
        teams: teams.transpose().map_err(|error| format!("`teams` in `route`: {error}"))?,
        handlings: handlings.transpose()?,
        hosts: raw.hosts.clone(),
        severities: severities.transpose()?,
        unhandled: raw.unhandled,
        only_fallback: raw.only_fallback,
    };
    route.check().map(|()| route)
}

fn handling(text: &str) -> Result<Handling, String> {
    let handling = Handling::new(text).map_err(|error| format!("`handlings` in `route`: {error}"))?;
    if handling.is_forwarded() {
        return Ok(handling);
    }
    Err(format!(
        "`handlings` in `route` has `{text}`, but only Page_and_ticket, Page_only and Ticket_only are sent anywhere"
    ))
}

fn severity(value: &toml::Value) -> Result<Severity, String> {
    let found = match value {
        toml::Value::Integer(number) => u8::try_from(*number).ok().and_then(Severity::new),
        toml::Value::String(text) => text.parse().ok(),
        _ => None,
    };
    found.ok_or_else(|| {
        format!(
            "`severities` in `route` has {value}, but must be a list of numbers from 0 to 7 or names such as \"error\""
        )
    })
}

/// A fallback must be another target, and following fallbacks must come to an end. One that is kept and not in use is
/// waited for.
fn check_fallbacks(targets: &[TargetConfig], idle: &[&str]) -> Result<(), ConfigError> {
    let next = |name: &TargetName| {
        let target = targets.iter().find(|target| target.name == *name)?;
        target.settings.fallback.as_ref()
    };
    for target in targets {
        let mut last = &target.name;
        for _ in 0..=targets.len() {
            let Some(fallback) = next(last) else { break };
            if idle.contains(&fallback.as_str()) {
                break;
            }
            if !targets.iter().any(|target| target.name == *fallback) {
                return Err(ConfigError(format!("target `{last}`: `fallback` names `{fallback}`, which is no target")));
            }
            if *fallback == target.name {
                return Err(ConfigError(format!("target `{}`: its `fallback` leads back to itself", target.name)));
            }
            last = fallback;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Targets, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("it can be written");
        let values = Values::read(Some(file.path()), |_| None)?;
        let moog = ["api_key", "api_key_next"].map(|name| values.secret("moog", name).0);
        let moog = [("moog_api_key", moog[0].reveal()), ("moog_api_key_next", moog[1].reveal())];
        let kept = [[("noc", "k3y"), ("noc_next", "n3xt")], [("in-env", "e"), ("other", "o")], moog].concat();
        read(&values, &NamedSecrets::kept(&kept))
    }

    fn target(name: &str, more: &str) -> String {
        format!("[[targets]]\nname = \"{name}\"\nkind = \"moogsoft\"\nurl = \"http://192.0.2.1/x\"\n{more}\n")
    }

    fn names(targets: &Targets) -> Vec<&str> {
        targets.targets.iter().map(|target| target.name.as_str()).collect()
    }

    #[test]
    fn without_targets_there_is_moogsoft_as_ever() {
        let targets = read_text("[moog]\napi_key = \"a\"\napi_key_next = \"b\"").expect("valid");
        assert_eq!((names(&targets), targets.default.as_str()), (vec!["moogsoft"], "moogsoft"));
        assert_eq!(targets.targets[0].secret.as_ref().map(|pair| pair.keys().count()), Some(2));
        assert_eq!(targets.routes.values().collect::<Vec<_>>(), [&Route::default()]);
    }

    #[test]
    fn targets_stand_beside_a_configured_webhook_and_replace_an_empty_one() {
        let with =
            read_text(&format!("[moog]\nwebhook_url = \"http://192.0.2.1/\"\n{}", target("chat", ""))).expect("valid");
        assert_eq!((names(&with), with.default.as_str()), (vec!["moogsoft", "chat"], "moogsoft"));
        let without = read_text(&format!("{}{}", target("chat", ""), target("mail", ""))).expect("valid");
        assert_eq!((names(&without), without.default.as_str()), (vec!["chat", "mail"], "chat"));
        let own = read_text(&format!("{}{}", target("chat", ""), target("moogsoft", ""))).expect("valid");
        assert_eq!((names(&own), own.default.as_str()), (vec!["chat", "moogsoft"], "moogsoft"));
    }

    #[test]
    fn what_every_target_has_is_read() {
        let text = target(
            "chat",
            "secret = \"noc\"\nrate_limit = 0\nmax_tries = 7\nbreaker_threshold = 9\ncoalesce_seconds = 30\n\
             allow_addresses = [\"169.254.1.1\"]\n[targets.route]\nteams = [\"NETO\"]\nhandlings = [\"page_only\"]\n\
             hosts = [\"core-*\"]\nseverities = [0, \"error\"]\nunhandled = false",
        );
        let targets = read_text(&format!("[dynamic]\ncircuit_breaker_timeout = 77\n{text}")).expect("valid");
        let chat = &targets.targets[0];
        let settings = &chat.settings;
        assert_eq!((settings.rate_limit, settings.max_tries, settings.breaker_threshold), (None, 7, 9));
        assert_eq!((settings.coalesce.as_secs(), settings.breaker_timeout.as_secs()), (30, 77));
        assert_eq!(chat.secret.as_ref().map(|pair| pair.keys().count()), Some(2));
        assert_eq!(chat.guard.allow_addresses.len(), 1);
        let route = &targets.routes[&chat.name];
        assert_eq!(route.handlings, Some(vec![Handling::PageOnly]));
        assert_eq!(route.severities.as_ref().map(Vec::len), Some(2));
        assert_eq!(route.unhandled, Some(false));
        assert!(!format!("{targets:?}").contains("k3y"));
        assert!(read_text(&target("chat", "secret = \"in-env\"")).is_ok(), "names may have a dash");
    }

    #[test]
    fn faults_name_the_target_the_key_and_what_it_may_be() {
        let check = |text: &str, expected: &[&str]| {
            let error = read_text(text).expect_err("a fault").to_string();
            for part in expected {
                assert!(error.contains(part), "{error:?} should contain {part:?}");
            }
            assert!(!error.contains("k3y"), "{error}");
        };
        check(&target("chat", "urll = \"x\""), &["target `chat`", "unknown field `urll`", "moogsoft"]);
        check(&target("chat", "max_tries = 0"), &["`max_tries` is 0", "from 1 to 100"]);
        check(&target("chat", "max_tries = \"many\""), &["target `chat`", "invalid type"]);
        check(&target("chat", "secret = \"nope\""), &["`nope` is not set", "MUTTD_SECRET_NOPE", "secrets.toml"]);
        check(&target("chat", "fallback = \"mail\""), &["`fallback` names `mail`"]);
        check(&target("chat", "fallback = \"chat\""), &["leads back to itself"]);
        let ring = format!("{}{}", target("a", "fallback = \"b\""), target("b", "fallback = \"a\""));
        check(&ring, &["leads back to itself"]);
        check(&target("chat", "allow_addresses = [\"x\"]"), &["allow_addresses", "IP addresses"]);
        check(&target("chat", "[targets.route]\nteam = [\"a\"]"), &["unknown field `team`"]);
        check(&target("chat", "[targets.route]\nteams = []"), &["`teams` in `route` is empty"]);
        check(&target("chat", "[targets.route]\nseverities = [9]"), &["severities", "0 to 7"]);
        check(&target("chat", "[targets.route]\nhandlings = [\"Ignore\"]"), &["Ignore", "Page_only"]);
        check(&target("Chat", ""), &["target `Chat`", "lower-case"]);
        check(&format!("{}{}", target("chat", ""), target("chat", "")), &["another target of this name"]);
        check("[[targets]]\nname = \"a\"\nkind = \"pigeon\"", &["`kind` is `pigeon`", "moogsoft"]);
        check("[[targets]]\nkind = \"moogsoft\"", &["[[targets]] number 1", "`name`"]);
        check("[targets]\nname = \"a\"", &["[[targets]]"]);
        let twice = format!("[moog]\nwebhook_url = \"http://192.0.2.1/\"\n{}", target("moogsoft", ""));
        check(&twice, &["`moogsoft` is defined by `webhook_url`"]);
    }
}
