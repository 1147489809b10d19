//! `muttd users`: users and their sessions, through the API of the running appliance. A temporary password is printed
//! once.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, ApiArgs, encode};

/// Arguments of `muttd users`.
#[derive(Debug, Args)]
pub struct UsersArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Why, for the change log.
    #[arg(long, global = true)]
    reason: Option<String>,
    #[command(subcommand)]
    command: Option<UsersCommand>,
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// List every user (the default).
    List,
    /// Make a user; prints a temporary password that must be changed at the first login.
    Add {
        /// The login name.
        name: String,
        /// viewer, operator or admin.
        #[arg(long, default_value = "viewer")]
        role: String,
    },
    /// Give a user another role.
    Role {
        /// The login name.
        name: String,
        /// viewer, operator or admin.
        role: String,
    },
    /// Let a user no longer log in.
    Disable {
        /// The login name.
        name: String,
    },
    /// Let a user log in again.
    Enable {
        /// The login name.
        name: String,
    },
    /// Give a user a temporary password and print it.
    ResetPassword {
        /// The login name.
        name: String,
    },
    /// Remove a user.
    Remove {
        /// The login name.
        name: String,
    },
    /// List open sessions.
    Sessions,
    /// End an open session.
    EndSession {
        /// Its id, as `sessions` shows it.
        id: String,
    },
}

/// Asks the appliance and prints its answer.
pub async fn run(args: UsersArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.api)?;
    let command = args.command.unwrap_or(UsersCommand::List);
    let answer = ask(&api, &command, args.reason.as_deref()).await?;
    let text = if args.api.json { format!("{answer:#}\n") } else { in_words(&answer) };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

async fn ask(api: &Api, command: &UsersCommand, reason: Option<&str>) -> anyhow::Result<Value> {
    let user = |name: &str| format!("/users/{}", encode(name));
    match command {
        UsersCommand::List => api.ask(Method::GET, "/users", None).await,
        UsersCommand::Add { name, role } => {
            let body = json!({"name": name, "role": role, "reason": reason});
            api.ask(Method::POST, "/users", Some(&body)).await
        }
        UsersCommand::Role { name, role } => {
            api.ask(Method::PATCH, &user(name), Some(&json!({"role": role, "reason": reason}))).await
        }
        UsersCommand::Disable { name } => {
            api.ask(Method::PATCH, &user(name), Some(&json!({"enabled": false, "reason": reason}))).await
        }
        UsersCommand::Enable { name } => {
            api.ask(Method::PATCH, &user(name), Some(&json!({"enabled": true, "reason": reason}))).await
        }
        UsersCommand::ResetPassword { name } => {
            api.ask_with_reason(Method::POST, &format!("{}/password", user(name)), reason).await
        }
        UsersCommand::Remove { name } => api.ask_with_reason(Method::DELETE, &user(name), reason).await,
        UsersCommand::Sessions => api.ask(Method::GET, "/sessions", None).await,
        UsersCommand::EndSession { id } => {
            api.ask_with_reason(Method::DELETE, &format!("/sessions/{}", encode(id)), reason).await
        }
    }
}

fn in_words(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("never").to_owned();
    if let Some(users) = answer["users"].as_array() {
        return users.iter().map(line).collect();
    }
    if let Some(sessions) = answer["sessions"].as_array() {
        let line = |session: &Value| {
            let [id, user, peer, seen] = ["id", "user", "peer", "last_seen"].map(|name| text(&session[name]));
            format!("{id}  {user:<24} {peer:<40} last used {seen}\n")
        };
        return sessions.iter().map(line).collect();
    }
    if answer.is_null() {
        return "done\n".to_owned();
    }
    let mut told = line(answer);
    if let Some(password) = answer["temporary_password"].as_str() {
        told.push_str(&format!("temporary password, shown only now: {password}\n"));
    }
    told
}

fn line(user: &Value) -> String {
    let text = |name: &str| user[name].as_str().unwrap_or("never").to_owned();
    let state = match (&user["enabled"], &user["must_change_password"]) {
        (Value::Bool(false), _) => "disabled",
        (_, Value::Bool(true)) => "temporary password",
        _ => "may log in",
    };
    format!("{:<24} {:<9} {state:<19} last login {}\n", text("name"), text("role"), text("last_login"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_password_is_told_with_its_user() {
        let user = json!({"name": "anna", "role": "operator", "enabled": true, "must_change_password": true});
        let mut made = user.clone();
        made["temporary_password"] = json!("abc-def");
        assert!(in_words(&made).contains("abc-def"));
        let listed = in_words(&json!({"users": [user]}));
        assert!(listed.contains("anna") && listed.contains("operator") && listed.contains("temporary"), "{listed}");
        assert_eq!(in_words(&Value::Null), "done\n");
    }
}
