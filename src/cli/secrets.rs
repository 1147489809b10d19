//! `muttd secrets`: how secrets are, and their exchange. Values come from standard input or a prompt and are never
//! arguments, where others could see them; one that the appliance made is printed once.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::api::{Api, ApiArgs, encode};
use crate::admin::{SecretAct, SecretChanged, SecretLine, SecretView, change_secret_offline, secrets_offline};
use crate::clock::Clock;
use crate::config::Sources;
use crate::model::Timestamp;
use crate::secret::{Secret, Slot};

/// A longer value is no key.
const MAX_VALUE: u64 = 64 << 10;

/// Arguments of `muttd secrets`.
#[derive(Debug, Args)]
pub struct SecretsArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Work on the files in this data directory; for when no appliance runs on it.
    #[arg(long, global = true, value_name = "DIR")]
    offline: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<SecretsCommand>,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// List every secret: where its values come from, since when, and when they were last used (the default).
    List,
    /// Show one secret, or how all sources are.
    Status {
        /// The secret.
        name: Option<String>,
    },
    /// Set a value, read from standard input or asked for.
    Set {
        /// The secret: one of the appliance's own, or one that a target names.
        name: String,
        /// Set the next value; the current one stays in force beside it.
        #[arg(long)]
        next: bool,
        #[command(flatten)]
        how: How,
    },
    /// Begin an exchange: set a next value beside the current one. The appliance makes keys of its own and prints them
    /// once; those of receivers are read from standard input or asked for.
    Rotate {
        /// The secret.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// End an exchange: the next value becomes the current one, which is forgotten.
    Promote {
        /// The secret.
        name: String,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Give up an exchange: the next value is forgotten.
    Cancel {
        /// The secret.
        name: String,
        /// Why, for the change log.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Where a value comes from, and when it counts.
#[derive(Debug, Clone, Args)]
struct How {
    /// Read the value from standard input, up to its end.
    #[arg(long)]
    from_stdin: bool,
    /// When the next value becomes the current one by itself, as 2026-03-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    promote_at: Option<String>,
    /// Why, for the change log.
    #[arg(long, default_value = "")]
    reason: String,
}

/// Asks the appliance, or works on its files, and prints the outcome.
pub async fn run(args: SecretsArgs) -> anyhow::Result<ExitCode> {
    let command = args.command.unwrap_or(SecretsCommand::List);
    let answer = match args.offline {
        Some(folder) => tokio::task::spawn_blocking(move || offline(&folder, command)).await??,
        None => ask(&Api::new(&args.api)?, command).await?,
    };
    let text = Zeroizing::new(if args.api.json { format!("{answer:#}\n") } else { in_words(&answer) });
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(api: &Api, command: SecretsCommand) -> anyhow::Result<Value> {
    let path = |name: &str, act: &str| format!("/secrets/{}{act}", encode(name));
    match command {
        SecretsCommand::List | SecretsCommand::Status { name: None } => api.ask(Method::GET, "/secrets", None).await,
        SecretsCommand::Status { name: Some(name) } => api.ask(Method::GET, &path(&name, ""), None).await,
        SecretsCommand::Set { name, next, how } => {
            let slot = if next { Slot::Next } else { Slot::Current };
            let value = value(&how, &name)?;
            let mut body = json!({"value": value.reveal(), "slot": slot.name(), "reason": how.reason});
            if let Some(at) = &how.promote_at {
                body["promote_at"] = json!(at);
            }
            api.ask(Method::PUT, &path(&name, ""), Some(&body)).await
        }
        SecretsCommand::Rotate { name, how } => {
            let line = api.ask(Method::GET, &path(&name, ""), None).await?;
            let mut body = json!({"reason": how.reason});
            if how.from_stdin || line["made_here"] != json!(true) {
                body["value"] = json!(value(&how, &name)?.reveal());
            }
            if let Some(at) = &how.promote_at {
                body["promote_at"] = json!(at);
            }
            api.ask(Method::POST, &path(&name, "/rotate"), Some(&body)).await
        }
        SecretsCommand::Promote { name, reason } => {
            api.ask_with_reason(Method::POST, &path(&name, "/promote"), given(&reason)).await
        }
        SecretsCommand::Cancel { name, reason } => {
            api.ask_with_reason(Method::POST, &path(&name, "/cancel"), given(&reason)).await
        }
    }
}

fn given(reason: &str) -> Option<&str> {
    Some(reason).filter(|reason| !reason.is_empty())
}

/// The same on the files.
fn offline(folder: &std::path::Path, command: SecretsCommand) -> anyhow::Result<Value> {
    if !folder.is_dir() {
        bail!("there is no data directory `{}`", folder.display());
    }
    let sources = Sources::new(folder, None);
    let lines = || secrets_offline(&sources).context("the secrets cannot be read");
    let find = |name: &str| {
        let found = lines()?.lines.into_iter().find(|line| line.name == name);
        found.with_context(|| format!("secret `{name}` does not exist"))
    };
    let (name, act) = match command {
        SecretsCommand::List | SecretsCommand::Status { name: None } => {
            return Ok(json!({"secrets": lines()?.lines.iter().map(line_json).collect::<Vec<_>>()}));
        }
        SecretsCommand::Status { name: Some(name) } => return Ok(line_json(&find(&name)?)),
        SecretsCommand::Set { name, next, how } => {
            let slot = if next { Slot::Next } else { Slot::Current };
            let act = SecretAct::Set { slot, value: value(&how, &name)?, promote_at: promote_at(&how)? };
            (name, act)
        }
        SecretsCommand::Rotate { name, how } => {
            let typed = how.from_stdin || !find(&name)?.made_here;
            let value = if typed { Some(value(&how, &name)?) } else { None };
            (name, SecretAct::Rotate { value, promote_at: promote_at(&how)? })
        }
        SecretsCommand::Promote { name, .. } => (name, SecretAct::Promote),
        SecretsCommand::Cancel { name, .. } => (name, SecretAct::Cancel),
    };
    let SecretChanged { line, made } = change_secret_offline(&sources, folder, &name, act, Clock::system().now())?;
    let mut answer = line_json(&line);
    if let Some(made) = made {
        answer["made"] = json!({"slot": Slot::Next.name(), "value": made.reveal()});
    }
    Ok(answer)
}

fn promote_at(how: &How) -> anyhow::Result<Option<Timestamp>> {
    let parse = |text: &String| {
        Timestamp::parse_rfc3339(text).with_context(|| format!("`{text}` is not a time such as 2026-03-01T12:00:00Z"))
    };
    how.promote_at.as_ref().map(parse).transpose()
}

/// The value from standard input; a terminal is asked, without showing what is typed.
fn value(how: &How, name: &str) -> anyhow::Result<Secret> {
    let mut text = Zeroizing::new(String::new());
    if how.from_stdin || !std::io::stdin().is_terminal() {
        std::io::stdin().take(MAX_VALUE).read_to_string(&mut text).context("standard input cannot be read")?;
    } else {
        let _quiet = quiet_terminal();
        eprint!("Value of {name} (not shown): ");
        std::io::stdin().read_line(&mut text).context("the terminal cannot be read")?;
        eprintln!();
    }
    let secret = Secret::new(text.trim());
    if secret.is_empty() {
        bail!("no value was given");
    }
    Ok(secret)
}

/// Puts the terminal's settings back when it goes out of scope.
struct QuietTerminal(libc::termios);

impl Drop for QuietTerminal {
    fn drop(&mut self) {
        // SAFETY: the settings are whole and were read from the same terminal; the call only reads them.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const self.0) };
    }
}

/// Has the terminal not show what is typed; `None` where that cannot be done.
fn quiet_terminal() -> Option<QuietTerminal> {
    let mut settings = std::mem::MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: `settings` is writable memory of the right size, and zeros are a valid `termios`.
    let settings = unsafe {
        if libc::tcgetattr(libc::STDIN_FILENO, settings.as_mut_ptr()) != 0 {
            return None;
        }
        settings.assume_init()
    };
    let mut quiet = settings;
    quiet.c_lflag &= !libc::ECHO;
    // SAFETY: `quiet` is a whole `termios` that outlives the call, which only reads it.
    let done = unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const quiet) };
    (done == 0).then_some(QuietTerminal(settings))
}

/// A secret as the API tells of it, but for its uses: only a running appliance knows those.
fn line_json(line: &SecretLine) -> Value {
    let mut told = json!(SecretView::from(line));
    for slot in [Slot::Current, Slot::Next] {
        if let Some(members) = told[slot.name()].as_object_mut() {
            drop(members.shift_remove("last_used"));
        }
    }
    told
}

fn in_words(answer: &Value) -> String {
    let mut text = String::new();
    let Some(secrets) = answer["secrets"].as_array() else {
        text.push_str(&secret_in_words(answer));
        if let Some(value) = answer["made"]["value"].as_str() {
            text.push_str(&format!("The next value; it is shown only now:\n  {value}\n"));
        }
        return text;
    };
    for secret in secrets {
        text.push_str(&secret_in_words(secret));
    }
    if let Some(why) = answer["fault"]["error"].as_str() {
        text.push_str(&format!("The sources cannot be read again; what was read before stays in force: {why}\n"));
    }
    if let Some(address) = answer["vault"]["address"].as_str() {
        let trouble = answer["vault"]["trouble"]["error"].as_str();
        let state = trouble.map_or_else(
            || format!("answered {}", answer["vault"]["last_success"].as_str().unwrap_or("never")),
            |why| format!("not well: {why}"),
        );
        text.push_str(&format!("Vault at {address}: {state}\n"));
    }
    text
}

fn secret_in_words(secret: &Value) -> String {
    let of = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
    let mut text =
        format!("{:<24} {}\n", secret["name"].as_str().unwrap_or("-"), secret["purpose"].as_str().unwrap_or(""));
    for slot in [Slot::Current, Slot::Next] {
        let told = &secret[slot.name()];
        let Some(source) = of(told, "source") else { continue };
        let since = of(told, "since").map(|at| format!(" since {at}")).unwrap_or_default();
        // Nothing is known of uses where no appliance was asked.
        let used = match told.get("last_used") {
            None => String::new(),
            Some(Value::String(at)) => format!(", last used {at}"),
            Some(_) => ", not used since the start".to_owned(),
        };
        text.push_str(&format!("  {:<8} from {source}{since}{used}\n", slot.name()));
    }
    if let Some(at) = of(secret, "promote_at") {
        text.push_str(&format!("  next becomes current at {at}\n"));
    }
    if secret["awaited"] == json!(true) {
        text.push_str("  awaited from Vault, which did not answer yet\n");
    }
    if let Some(elsewhere) = of(secret, "elsewhere") {
        text.push_str(&format!("  {elsewhere}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_in_words() {
        let check = |answer: Value, expected: &[&str]| {
            let words = in_words(&answer);
            for part in expected {
                assert!(words.contains(part), "{words:?} should contain {part:?}");
            }
        };
        let secret = json!({
            "name": "ingest_api_key", "purpose": "opens the ingest API", "promote_at": "2026-03-02T00:00:00Z",
            "current": {"set": true, "source": "secrets.toml", "since": null, "last_used": null},
            "next": {"set": true, "source": "secrets.toml", "since": "2026-03-01T00:00:00Z", "last_used": "2026-03-01T12:00:00Z"},
        });
        let parts = [
            "current  from secrets.toml, not used since the start",
            "next     from secrets.toml since 2026-03-01T00:00:00Z, last used 2026-03-01T12:00:00Z",
            "next becomes current at 2026-03-02",
        ];
        check(secret.clone(), &parts);
        let vault = json!({"address": "https://v", "trouble": {"error": "it is sealed"}});
        check(
            json!({"secrets": [secret], "fault": {"error": "line 2"}, "vault": vault}),
            &["line 2", "not well: it is sealed"],
        );
        check(json!({"name": "a", "made": {"value": "k3y"}}), &["shown only now:\n  k3y\n"]);
    }
}
