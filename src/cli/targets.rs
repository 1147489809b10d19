//! `muttd targets`: how delivery targets are and are defined, a test, the breaker's reset, and alerts of targets that are gone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, ApiArgs};

/// Arguments of `muttd targets`.
#[derive(Debug, Args)]
pub struct TargetsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: Option<TargetsCommand>,
}

#[derive(Debug, Subcommand)]
enum TargetsCommand {
    /// List every target (the default).
    List,
    /// Print how a target is defined.
    Show {
        /// The target.
        name: String,
    },
    /// Add a target to those kept in the store; it is spoken to at once.
    Add {
        /// A file with what would stand below `[[targets]]` in a configuration file.
        file: PathBuf,
        /// Keep it without speaking to it.
        #[arg(long)]
        disabled: bool,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Give a target of the store another definition.
    Edit {
        /// The target.
        name: String,
        /// A file with the whole definition.
        file: PathBuf,
        /// Keep it without speaking to it.
        #[arg(long)]
        disabled: bool,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Remove a target of the store; what waits in its outbox is kept.
    Remove {
        /// The target.
        name: String,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Send a test alert past the queue and show what the target answers.
    Test {
        /// The target.
        name: String,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Speak to a target again that is left alone because of failures.
    Reset {
        /// The target.
        name: String,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Move what waits for a target that is not configured to one that is.
    Move {
        /// The target that is gone.
        name: String,
        /// Where its alerts go.
        to: String,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Discard what waits for a target that is not configured.
    Discard {
        /// The target that is gone.
        name: String,
        /// Why, for the change log.
        #[arg(long)]
        reason: String,
    },
}

/// Asks the appliance and prints its answer. A test that the target did not take ends with 1.
pub async fn run(args: TargetsArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.api)?;
    let answer = ask(&api, args.command.as_ref()).await?;
    let taken = answer["taken"] != json!(false);
    let text = if args.api.json { format!("{answer:#}\n") } else { in_words(&answer) };
    print!("{text}");
    Ok(if taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(api: &Api, command: Option<&TargetsCommand>) -> anyhow::Result<Value> {
    match command {
        None | Some(TargetsCommand::List) => api.ask(Method::GET, "/targets", None).await,
        Some(TargetsCommand::Show { name }) => {
            api.ask(Method::GET, &format!("/targets/{}", segment(name)?), None).await
        }
        Some(TargetsCommand::Add { file, disabled, reason }) => {
            let body = json!({"definition": definition(file)?, "enabled": !disabled, "reason": reason});
            api.ask(Method::POST, "/targets", Some(&body)).await
        }
        Some(TargetsCommand::Edit { name, file, disabled, reason }) => {
            let body = json!({"definition": definition(file)?, "enabled": !disabled, "reason": reason});
            api.ask(Method::PUT, &format!("/targets/{}", segment(name)?), Some(&body)).await
        }
        Some(TargetsCommand::Remove { name, reason }) => {
            api.ask_with_reason(Method::DELETE, &format!("/targets/{}", segment(name)?), given(reason)).await?;
            Ok(json!({"removed": name}))
        }
        Some(TargetsCommand::Test { name, reason }) => {
            api.ask_with_reason(Method::POST, &format!("/targets/{}/test", segment(name)?), given(reason)).await
        }
        Some(TargetsCommand::Reset { name, reason }) => {
            api.ask_with_reason(Method::POST, &format!("/targets/{}/reset", segment(name)?), given(reason)).await
        }
        Some(TargetsCommand::Move { name, to, reason }) => {
            let path = format!("/outboxes/{}/move", segment(name)?);
            api.ask(Method::POST, &path, Some(&json!({"to": to, "reason": reason}))).await
        }
        Some(TargetsCommand::Discard { name, reason }) => {
            api.ask_with_reason(Method::DELETE, &format!("/outboxes/{}", segment(name)?), given(reason)).await
        }
    }
}

fn definition(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}

/// A reason, if one was given.
fn given(reason: &str) -> Option<&str> {
    Some(reason).filter(|reason| !reason.is_empty())
}

/// A target's name as a part of a path: every name that can exist is one as it is.
fn segment(name: &str) -> anyhow::Result<&str> {
    crate::model::TargetName::new(name)?;
    Ok(name)
}

fn in_words(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(targets) = answer["targets"].as_array() {
        return list(targets, &answer["abandoned"]);
    }
    if let Some(taken) = answer["taken"].as_bool() {
        let taken = if taken { "taken" } else { "NOT taken" };
        return format!("{taken} after {} ms: {}\n", answer["took_ms"], text(&answer["answer"]));
    }
    let members = answer.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name}: {}\n", text(value))).collect()
}

fn list(targets: &[Value], abandoned: &Value) -> String {
    let mut lines = String::new();
    for target in targets {
        let of = |name: &str| target[name].as_str().unwrap_or("-").to_owned();
        let number = |name: &str| target[name].as_u64().unwrap_or(0);
        let state = match (target["breaker"]["state"].as_str(), target["up"].as_bool()) {
            (Some("open"), _) => "left alone",
            (Some("half_open"), _) => "being tried",
            (_, Some(true)) => "delivering",
            (_, Some(false)) => "failing",
            (_, None) => "nothing sent yet",
        };
        lines.push_str(&format!(
            "{:<20} {:<16} {state:<16} waiting {} delivered {} retried {} given up {}  {}\n",
            of("name"),
            of("kind"),
            number("waiting"),
            number("delivered"),
            number("retried"),
            number("dead"),
            of("address"),
        ));
        if let Some(error) = target["last_error"]["error"].as_str() {
            lines.push_str(&format!("  last error {}: {error}\n", target["last_error"]["at"].as_str().unwrap_or("-")));
        }
    }
    for outbox in abandoned.as_array().into_iter().flatten() {
        let name = outbox["name"].as_str().unwrap_or("-");
        lines.push_str(&format!("{name:<20} not configured   waiting {}\n", outbox["waiting"]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let check = |answer: Value, expected: &[&str]| {
            let words = in_words(&answer);
            for part in expected {
                assert!(words.contains(part), "{words:?} should contain {part:?}");
            }
        };
        let target = json!({
            "name": "chat", "kind": "slack", "address": "https://hooks.example", "up": false, "waiting": 7, "delivered": 1,
            "retried": 2, "dead": 0, "breaker": {"state": "open"},
            "last_error": {"at": "2026-03-01T12:00:00Z", "error": "503 Service Unavailable"},
        });
        let listed = json!({"targets": [target], "abandoned": [{"name": "old", "waiting": 3}]});
        check(listed, &["chat", "left alone", "waiting 7", "503 Service", "old", "not configured   waiting 3"]);
        check(json!({"taken": false, "answer": "401", "took_ms": 12}), &["NOT taken after 12 ms: 401"]);
        check(json!({"outbox": "old", "moved": 3}), &["outbox: old\n", "moved: 3\n"]);
        assert!(segment("../x").is_err());
    }
}
