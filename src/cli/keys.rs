//! `muttd keys`: API keys, through the API of the running appliance. A value is printed once, when it is made.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, ApiArgs, encode};

/// Arguments of `muttd keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Why, for the change log.
    #[arg(long, global = true)]
    reason: Option<String>,
    #[command(subcommand)]
    command: Option<KeysCommand>,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List every key (the default).
    List,
    /// Make a key and print its value.
    Add {
        /// Its name: lower-case letters, digits, `.`, `_`, `-`.
        name: String,
        /// What it may do: ingest, read, write, admin; several separated by commas.
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// Networks it may be used from, as 192.0.2.0/24; several separated by commas. Default: everywhere.
        #[arg(long, value_delimiter = ',')]
        networks: Vec<String>,
        /// When it ends, as 2027-01-01T00:00:00Z. Default: never.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// Make a NEXT value that is accepted beside the current one, and print it.
    Rotate {
        /// The key.
        name: String,
    },
    /// Make NEXT the key; the old value works no more.
    Promote {
        /// The key.
        name: String,
    },
    /// Revoke a key at once.
    Revoke {
        /// The key.
        name: String,
    },
}

/// Asks the appliance and prints its answer.
pub async fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.api)?;
    let command = args.command.unwrap_or(KeysCommand::List);
    let answer = ask(&api, &command, args.reason.as_deref()).await?;
    let text = if args.api.json { format!("{answer:#}\n") } else { in_words(&answer) };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

async fn ask(api: &Api, command: &KeysCommand, reason: Option<&str>) -> anyhow::Result<Value> {
    let key = |name: &str, act: &str| format!("/keys/{}{act}", encode(name));
    match command {
        KeysCommand::List => api.ask(Method::GET, "/keys", None).await,
        KeysCommand::Add { name, scopes, networks, expires_at } => {
            let body = json!({
                "name": name, "scopes": scopes, "networks": networks, "expires_at": expires_at, "reason": reason,
            });
            api.ask(Method::POST, "/keys", Some(&body)).await
        }
        KeysCommand::Rotate { name } => api.ask_with_reason(Method::POST, &key(name, "/rotate"), reason).await,
        KeysCommand::Promote { name } => api.ask_with_reason(Method::POST, &key(name, "/promote"), reason).await,
        KeysCommand::Revoke { name } => api.ask_with_reason(Method::DELETE, &key(name, ""), reason).await,
    }
}

fn in_words(answer: &Value) -> String {
    if let Some(keys) = answer["keys"].as_array() {
        return keys.iter().map(line).collect();
    }
    if answer.is_null() {
        return "done\n".to_owned();
    }
    let mut told = line(answer);
    if let Some(value) = answer["value"].as_str() {
        told.push_str(&format!("value, shown only now: {value}\n"));
    }
    told
}

fn line(key: &Value) -> String {
    let list = |name: &str| {
        let items = key[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        items.collect::<Vec<_>>().join(",")
    };
    let or = |name: &str, none: &str| key[name].as_str().unwrap_or(none).to_owned();
    let networks = list("networks");
    let networks = if networks.is_empty() { "everywhere" } else { &networks };
    let next = if key["has_next"] == json!(true) { "  NEXT waits" } else { "" };
    format!(
        "{:<24} {:<18} from {networks:<20} ends {}  last used {}{next}\n",
        or("name", ""),
        list("scopes"),
        or("expires_at", "never"),
        or("last_used", "never")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_in_one_line_and_its_value_below() {
        let key = json!({"name": "rsyslog", "scopes": ["ingest"], "networks": [], "has_next": true, "value": "mutt_1"});
        let told = in_words(&key);
        for part in ["rsyslog", "ingest", "everywhere", "NEXT waits", "shown only now: mutt_1"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
