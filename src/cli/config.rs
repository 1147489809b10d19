//! `muttd config`: every setting with its value and origin, changing the dynamic ones, their history and going back.
//!
//! Changes go through the API of the running appliance. When none runs, `list`, `get` and `diff` show what one would start
//! with; they read the data directory and change nothing in it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, ApiArgs, encode};
use crate::admin::{IgnoredSetting, SettingView};
use crate::config::keys::{KEYS, find_id, nearest};
use crate::config::{Sources, settings_of};

/// Arguments of `muttd config`.
#[derive(Debug, Args)]
#[command(after_long_help = keys_help())]
pub struct ConfigArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// The configuration file the appliance is started with, for when it does not run; else DIR/muttd.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// List every key with its value and where that comes from.
    List {
        /// Only keys of this section.
        #[arg(long)]
        section: Option<String>,
    },
    /// Show one key: value, origin, default, range and meaning.
    Get {
        /// The key.
        key: String,
    },
    /// Set a dynamic key; it acts at once and is kept over restarts.
    #[command(after_long_help = keys_help())]
    Set {
        /// The key.
        key: String,
        /// Its value.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
        /// Only if this is its value now.
        #[arg(long)]
        expected: Option<String>,
    },
    /// Have a dynamic key come from environment, file or default again.
    Reset {
        /// The key.
        key: String,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show who changed settings, when and why, newest first.
    History {
        /// Only this key.
        key: Option<String>,
        /// Changes shown, at most.
        #[arg(long, default_value_t = 20)]
        limit: u16,
    },
    /// Give a key the value it had before a change.
    Revert {
        /// The key.
        key: String,
        /// The number of the change, from the history.
        change: i64,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show only what differs from the built-in defaults.
    Diff,
}

/// The dynamic keys with what they may be, for the help.
fn keys_help() -> String {
    let mut help = String::from("Keys that can be changed at run time:\n");
    for key in KEYS.iter().filter(|key| key.is_dynamic()) {
        help.push_str(&format!("  {:<30} {} {}\n", key.name, key.kind.range(), key.unit));
    }
    help
}

/// Asks the appliance, or reads its data directory, and prints.
pub async fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let answer = match &args.command {
        ConfigCommand::List { section } => {
            let mut all = all(&args).await?;
            if let (Some(section), Some(settings)) = (section, all["settings"].as_array_mut()) {
                settings.retain(|setting| setting["section"] == section.as_str());
            }
            all
        }
        ConfigCommand::Get { key } => one(&args, key).await?,
        ConfigCommand::Diff => {
            let mut all = all(&args).await?;
            if let Some(settings) = all["settings"].as_array_mut() {
                settings.retain(differs);
            }
            all
        }
        command => ask(&Api::new(&args.api)?, command).await?,
    };
    let text = if args.api.json { format!("{answer:#}\n") } else { in_words(&args.command, &answer) };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// A masked value differs from its default if there is one.
fn differs(setting: &Value) -> bool {
    if setting["masked"] == true { setting["set"] == true } else { setting["value"] != setting["default"] }
}

/// Every setting: of the running appliance, else of its data directory.
async fn all(args: &ConfigArgs) -> anyhow::Result<Value> {
    let asked = match Api::new(&args.api) {
        Ok(api) if args.api.data().is_none() || api.answers().await => {
            return api.ask(Method::GET, "/config", None).await;
        }
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let data = match (args.api.data(), asked) {
        (Some(data), _) => data,
        (None, Some(error)) => return Err(error),
        (None, None) => anyhow::bail!("give the appliance's data directory with --data"),
    };
    eprintln!("The appliance does not answer: this is what it would start with, given this environment.");
    let (settings, ignored) = settings_of(&Sources::new(data, args.config.as_deref()))?;
    Ok(json!({
        "total": settings.len(),
        "settings": settings.iter().map(SettingView::from).collect::<Vec<_>>(),
        "ignored": ignored.iter().map(IgnoredSetting::from).collect::<Vec<_>>(),
    }))
}

async fn one(args: &ConfigArgs, key: &str) -> anyhow::Result<Value> {
    let Some(wanted) = find_id(key) else {
        let near = nearest(key).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        anyhow::bail!("there is no setting `{key}`{near}");
    };
    let all = all(args).await?;
    let settings = all["settings"].as_array().into_iter().flatten();
    let found = settings.into_iter().find(|setting| setting["key"] == *wanted.id());
    found.cloned().ok_or_else(|| anyhow::anyhow!("the appliance knows no setting `{key}`; is it of another version?"))
}

async fn ask(api: &Api, command: &ConfigCommand) -> anyhow::Result<Value> {
    let path = |key: &str| format!("/config/{}", encode(key));
    match command {
        ConfigCommand::Set { key, value, reason, expected } => {
            let mut body = json!({"value": value, "reason": reason});
            if let Some(expected) = expected {
                body["expected"] = json!(expected);
            }
            api.ask(Method::PUT, &path(key), Some(&body)).await
        }
        ConfigCommand::Reset { key, reason } => {
            let reason = Some(reason.as_str()).filter(|reason| !reason.is_empty());
            api.ask_with_reason(Method::DELETE, &path(key), reason).await
        }
        ConfigCommand::Revert { key, change, reason } => {
            let body = json!({"change": change, "reason": reason});
            api.ask(Method::POST, &format!("{}/revert", path(key)), Some(&body)).await
        }
        ConfigCommand::History { key, limit } => {
            let key = key.as_ref().map(|key| format!("&key={}", encode(key))).unwrap_or_default();
            api.ask(Method::GET, &format!("/config/history?limit={limit}{key}"), None).await
        }
        ConfigCommand::List { .. } | ConfigCommand::Get { .. } | ConfigCommand::Diff => {
            api.ask(Method::GET, "/config", None).await
        }
    }
}

fn in_words(command: &ConfigCommand, answer: &Value) -> String {
    match command {
        ConfigCommand::List { .. } => list(answer),
        ConfigCommand::Diff => {
            let listed = list(answer);
            if listed.is_empty() { "Every setting has its built-in default.\n".to_owned() } else { listed }
        }
        ConfigCommand::Get { .. } => details(answer),
        ConfigCommand::History { .. } => history(answer),
        ConfigCommand::Set { .. } | ConfigCommand::Reset { .. } | ConfigCommand::Revert { .. } => changed(answer),
    }
}

/// A value as people read it.
fn shown(setting: &Value) -> String {
    match (setting["masked"].as_bool(), setting["set"].as_bool(), &setting["value"]) {
        (Some(true), Some(true), _) => "(set, not shown)".to_owned(),
        (Some(true), ..) => "(not set here)".to_owned(),
        (_, _, value) => plain(value),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "(empty)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "(empty)".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn origin(setting: &Value) -> String {
    let origin = plain(&setting["origin"]);
    setting["variable"].as_str().map_or(origin.clone(), |variable| format!("{origin} {variable}"))
}

fn list(answer: &Value) -> String {
    let mut lines = String::new();
    for setting in answer["settings"].as_array().into_iter().flatten() {
        let unit = setting["unit"].as_str().unwrap_or_default();
        let value = format!("{} {unit}", shown(setting));
        lines.push_str(&format!("{:<38} {:<32} {}\n", plain(&setting["key"]), value.trim(), origin(setting)));
    }
    for ignored in answer["ignored"].as_array().into_iter().flatten() {
        let (key, value, why) = (plain(&ignored["key"]), plain(&ignored["value"]), plain(&ignored["why"]));
        lines.push_str(&format!("{key:<38} {value:<32} kept, but ignored: {why}\n"));
    }
    lines
}

fn details(setting: &Value) -> String {
    let unit = plain(&setting["unit"]);
    let unit = if unit == "(empty)" { String::new() } else { format!(" {unit}") };
    let acts = if setting["live"] == true { "at once" } else { "after a restart" };
    let change = match setting["writable"] == true {
        true => "at run time".to_owned(),
        false => format!("by [{}] of the file, or {}", plain(&setting["section"]), plain(&setting["environment"])),
    };
    let beneath = &setting["beneath"];
    let reset = match beneath.is_object() {
        true => format!("after reset {} ({})\n", plain(&beneath["value"]), plain(&beneath["origin"])),
        false => String::new(),
    };
    format!(
        "{}\n  {}\nvalue       {}{unit}\norigin      {}\n{reset}default     {}\nmay be      {}{unit}\nread by     {}\nacts        \
         {acts}\nis changed  {change}\n",
        plain(&setting["key"]),
        plain(&setting["description"]),
        shown(setting),
        origin(setting),
        plain(&setting["default"]),
        plain(&setting["range"]),
        plain(&setting["read_by"]),
    )
}

fn history(answer: &Value) -> String {
    let mut lines = String::new();
    for change in answer["changes"].as_array().into_iter().flatten() {
        let value = |row: &Value| if row.is_null() { "(not set here)".to_owned() } else { plain(&row["value"]) };
        let reason = change["reason"].as_str().map(|reason| format!("  {reason}")).unwrap_or_default();
        lines.push_str(&format!(
            "{:>6}  {}  {:<16} {}: {} -> {}{reason}\n",
            plain(&change["id"]),
            plain(&change["changed_at"]),
            plain(&change["changed_by"]),
            plain(&change["record_id"]),
            value(&change["old_values"]),
            value(&change["new_values"]),
        ));
    }
    if lines.is_empty() { "No setting was changed at run time.\n".to_owned() } else { lines }
}

fn changed(answer: &Value) -> String {
    if answer["forgotten"] == true {
        return format!("{}: forgotten\n", plain(&answer["key"]));
    }
    let before = &answer["previous"];
    format!(
        "{}: {} -> {} ({})\n",
        plain(&answer["key"]),
        plain(&before["value"]),
        plain(&answer["value"]),
        plain(&answer["origin"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let check = |words: String, expected: &[&str]| {
            for part in expected {
                assert!(words.contains(part), "{words:?} should contain {part:?}");
            }
        };
        let limit = json!({
            "key": "moog_rate_limit", "section": "dynamic", "value": 7, "unit": "alerts", "origin": "store", "default": 50,
            "range": "0 to 1000000", "live": true, "writable": true, "description": "Alerts sent.", "read_by": "forward",
            "beneath": {"value": "9", "origin": "file"},
        });
        let key = json!({
            "key": "moog.api_key", "section": "moog", "value": null, "masked": true, "set": true, "origin": "environment",
            "variable": "MUTTD_MOOG_API_KEY", "default": null, "environment": "MUTTD_MOOG_API_KEY", "live": true,
        });
        let ignored = json!({"key": "old_key", "value": "1", "why": "this version has no such key"});
        let listed = json!({"settings": [limit, key], "ignored": [ignored]});
        check(list(&listed), &["7 alerts", "store", "(set, not shown)", "environment MUTTD_MOOG", "kept, but ignored"]);
        check(details(&limit), &["7 alerts", "after reset 9 (file)", "0 to 1000000 alerts", "at once", "at run time"]);
        check(details(&key), &["by [moog] of the file, or MUTTD_MOOG_API_KEY"]);
        let line = json!({
            "id": 3, "changed_at": "2026-03-01T12:00:00Z", "changed_by": "alice", "record_id": "moog_rate_limit",
            "old_values": null, "new_values": {"key": "moog_rate_limit", "value": "7"}, "reason": "CHG-1",
        });
        check(history(&json!({"changes": [line]})), &["3", "alice", "(not set here) -> 7", "CHG-1"]);
        check(
            changed(&json!({"key": "a", "value": 7, "origin": "store", "previous": {"value": 5}})),
            &["a: 5 -> 7 (store)"],
        );
        assert!(differs(&limit) && differs(&key));
        assert!(keys_help().contains("alerter_shed_mode"));
    }
}
