//! `muttd rules`: list, show, add, change, remove, put in order, switch on and off, and test rules of a running appliance, on a
//! message or on what came in during the last days. Keeps nothing; every change is made by the appliance's API.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::api::{Api, ApiArgs};

/// Arguments of `muttd rules`.
#[derive(Debug, Args)]
pub struct RulesArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: Option<RulesCommand>,
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// List every rule, in the order in which they are tried (the default).
    List,
    /// Show one rule.
    Show {
        /// Its number.
        id: i64,
    },
    /// Add a rule.
    Add {
        #[command(flatten)]
        rule: RuleArgs,
        #[command(flatten)]
        why: Why,
    },
    /// Change what is given of a rule; the rest stays as it is.
    Change {
        /// Its number.
        id: i64,
        #[command(flatten)]
        rule: RuleArgs,
        #[command(flatten)]
        why: Why,
    },
    /// Remove rules, all of them or none.
    Delete {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<i64>,
        #[command(flatten)]
        why: Why,
    },
    /// Put rules into force, all of them or none.
    Enable {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<i64>,
        #[command(flatten)]
        why: Why,
    },
    /// Take rules out of force, all of them or none; they are kept.
    Disable {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<i64>,
        #[command(flatten)]
        why: Why,
    },
    /// Say which rule a message would meet, and why.
    Test {
        /// The message.
        message: String,
        /// The host that says it; decides the environment.
        #[arg(long, default_value = "")]
        host: String,
        /// Its severity: 0 to 7, or a name.
        #[arg(long)]
        severity: Option<String>,
        /// For a trap: its OID.
        #[arg(long)]
        trap_oid: Option<String>,
    },
    /// Try a rule on the events of the last days: a new one, one as it is (--id), or one as it would be (--id and changes).
    Try {
        /// The number of a rule that is there.
        #[arg(long)]
        id: Option<i64>,
        #[command(flatten)]
        rule: RuleArgs,
        /// How many days back.
        #[arg(long, default_value_t = 7)]
        days: u32,
        /// How many seconds it may take.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
    /// Put rules in an order: several in the order given, or one before or after another.
    Reorder {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Put the one rule directly before this one.
        #[arg(long, conflicts_with = "after")]
        before: Option<i64>,
        /// Put the one rule directly after this one.
        #[arg(long)]
        after: Option<i64>,
        #[command(flatten)]
        why: Why,
    },
}

/// Why something is changed.
#[derive(Debug, Args)]
struct Why {
    /// Why, for the change log.
    #[arg(long, default_value = "")]
    reason: String,
}

/// Members of a rule.
#[derive(Debug, Args, Default)]
struct RuleArgs {
    /// Text or regular expression to be found in the message.
    #[arg(long = "match", value_name = "TEXT")]
    match_string: Option<String>,
    /// How it is compared.
    #[arg(long = "type", value_name = "TYPE", value_parser = ["contains", "regex", "oid_prefix"])]
    match_type: Option<String>,
    /// Prefix of the trap's OID.
    #[arg(long)]
    oid: Option<String>,
    /// The severity that the event must have: 0 to 7, or a name.
    #[arg(long)]
    severity: Option<String>,
    /// The lowest wins.
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// What is done with events of production hosts: Page_and_ticket, Page_only, Ticket_only, Ignore.
    #[arg(long)]
    prod: Option<String>,
    /// What is done with events of development hosts.
    #[arg(long)]
    dev: Option<String>,
    /// The team whose work it is.
    #[arg(long)]
    team: Option<String>,
    /// Whether it is in force.
    #[arg(long, value_name = "TRUE|FALSE")]
    active: Option<bool>,
}

impl RuleArgs {
    fn members(&self) -> Map<String, Value> {
        let texts = [
            ("match_string", &self.match_string),
            ("match_type", &self.match_type),
            ("trap_oid", &self.oid),
            ("syslog_severity", &self.severity),
            ("prod_handling", &self.prod),
            ("dev_handling", &self.dev),
            ("team_assignment", &self.team),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?))));
        let mut members: Map<String, Value> = texts.collect();
        members.extend(self.priority.map(|priority| ("priority".to_owned(), json!(priority))));
        members.extend(self.active.map(|active| ("is_active".to_owned(), json!(active))));
        members
    }
}

/// Asks the appliance and prints its answer.
pub async fn run(args: RulesArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.api)?;
    let answer = ask(&api, args.command.unwrap_or(RulesCommand::List)).await?;
    print!("{}", if args.api.json { format!("{answer:#}\n") } else { in_words(&answer) });
    Ok(ExitCode::SUCCESS)
}

async fn ask(api: &Api, command: RulesCommand) -> anyhow::Result<Value> {
    match command {
        RulesCommand::List => api.ask(Method::GET, "/rules", None).await,
        RulesCommand::Show { id } => api.ask(Method::GET, &format!("/rules/{id}"), None).await,
        RulesCommand::Add { rule, why } => {
            let body = Value::Object(rule.members());
            api.send(Method::POST, "/rules", Some(&body), why.given()).await
        }
        RulesCommand::Change { id, rule, why } => {
            let members = rule.members();
            if members.is_empty() {
                bail!("give what is to change, such as --priority 50");
            }
            api.send(Method::PATCH, &format!("/rules/{id}"), Some(&Value::Object(members)), why.given()).await
        }
        RulesCommand::Delete { ids, why } => bulk(api, "delete", &ids, &why).await,
        RulesCommand::Enable { ids, why } => bulk(api, "enable", &ids, &why).await,
        RulesCommand::Disable { ids, why } => bulk(api, "disable", &ids, &why).await,
        RulesCommand::Test { message, host, severity, trap_oid } => {
            let body = json!({"message": message, "hostname": host, "severity": severity, "trap_oid": trap_oid});
            api.ask(Method::POST, "/rules/test", Some(&body)).await
        }
        RulesCommand::Try { id, rule, days, seconds } => {
            let body = trial(api, id, &rule, days, seconds).await?;
            api.ask(Method::POST, "/rules/try", Some(&body)).await
        }
        RulesCommand::Reorder { ids, before, after, why } => {
            let body = match (ids.as_slice(), before, after) {
                ([id], Some(before), _) => json!({"id": id, "before": before}),
                ([id], None, Some(after)) => json!({"id": id, "after": after}),
                (_, None, None) => json!({"order": ids}),
                _ => bail!("with --before or --after give one rule"),
            };
            api.send(Method::POST, "/rules/reorder", Some(&body), why.given()).await
        }
    }
}

impl Why {
    fn given(&self) -> Option<&str> {
        Some(self.reason.as_str()).filter(|reason| !reason.is_empty())
    }
}

async fn bulk(api: &Api, action: &str, ids: &[i64], why: &Why) -> anyhow::Result<Value> {
    let items: Vec<Value> = ids.iter().map(|id| json!({"action": action, "id": id})).collect();
    api.send(Method::POST, "/rules/bulk", Some(&json!({"items": items})), why.given()).await
}

/// What is to be tried; a rule that is there keeps what is not given.
async fn trial(api: &Api, id: Option<i64>, rule: &RuleArgs, days: u32, seconds: u32) -> anyhow::Result<Value> {
    let changes = rule.members();
    let mut body = json!({"days": days, "seconds": seconds});
    match id {
        None if changes.is_empty() => bail!("give --id, or a rule with --match, --prod and --team"),
        None => body["rule"] = Value::Object(changes),
        Some(id) => {
            body["rule_id"] = json!(id);
            if !changes.is_empty() {
                let there = api.ask(Method::GET, &format!("/rules/{id}"), None).await?;
                let mut members = there.as_object().cloned().context("the appliance's answer is no rule")?;
                members.remove("id");
                members.extend(changes);
                body["rule"] = Value::Object(members);
            }
        }
    }
    Ok(body)
}

fn in_words(answer: &Value) -> String {
    if let Some(rules) = answer["rules"].as_array() {
        let problems = answer["problems"].as_array().into_iter().flatten();
        let problems = problems.map(|problem| format!("problem: {}\n", problem.as_str().unwrap_or_default()));
        return rules.iter().map(line).chain(problems).collect();
    }
    if let Some(items) = answer["items"].as_array() {
        let told = |item: &Value| format!("rule {}: {}\n", item["id"], item["outcome"].as_str().unwrap_or("-"));
        return items.iter().map(told).collect();
    }
    if let Some(changed) = answer["changed"].as_array() {
        let head = if changed.is_empty() { "they stood in this order already\n" } else { "new priorities:\n" };
        return std::iter::once(head.to_owned()).chain(changed.iter().map(line)).collect();
    }
    if answer["reached"].is_string() {
        return trial_in_words(answer);
    }
    if answer["explanations"].is_array() {
        return test_in_words(answer);
    }
    line(answer)
}

fn line(rule: &Value) -> String {
    let text = |name: &str| rule[name].as_str().unwrap_or("-").to_owned();
    let condition = match (rule["match_string"].as_str(), rule["trap_oid"].as_str()) {
        (Some(text), Some(oid)) => format!("{text:?} and trap {oid}"),
        (Some(text), None) => format!("{text:?}"),
        (None, oid) => format!("trap {}", oid.unwrap_or("-")),
    };
    let state = if rule["is_active"] == json!(false) { "  (inactive)" } else { "" };
    format!(
        "{:>6}  priority {:<6} {:<10} {condition}  prod {} dev {} team {}{state}\n",
        rule["id"].to_string(),
        rule["priority"].to_string(),
        text("match_type"),
        text("prod_handling"),
        text("dev_handling"),
        text("team_assignment"),
    )
}

fn test_in_words(answer: &Value) -> String {
    let mut words = format!("{}\n", answer["why"].as_str().unwrap_or_default());
    if answer["rule"].is_object() {
        words.push_str(&line(&answer["rule"]));
        let out = if answer["forwarded"] == json!(true) { "an alert goes out" } else { "recorded, no alert" };
        words.push_str(&format!(
            "{} for a {} host: {out}\n",
            text_of(&answer["handling"]),
            text_of(&answer["environment"])
        ));
    }
    for told in answer["explanations"].as_array().into_iter().flatten() {
        let mark = if told["matched"] == json!(true) { "matches" } else { "no" };
        words.push_str(&format!("  rule {:<6} {mark:<8} {}\n", told["rule_id"].to_string(), text_of(&told["why"])));
    }
    words
}

fn trial_in_words(answer: &Value) -> String {
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    let mut words = format!(
        "{} events looked at since {}{}\n{} match, {} would be decided by it, {} would change: {} more alerts, {} fewer\n",
        number("events"),
        text_of(&answer["reached"]),
        if answer["complete"] == json!(true) { "" } else { " (its time was up; older ones were not looked at)" },
        number("matched"),
        number("decided"),
        number("changed"),
        number("newly_forwarded"),
        number("no_longer_forwarded"),
    );
    for day in answer["days"].as_array().into_iter().flatten() {
        words.push_str(&format!(
            "  {}  {} match, {} decided, {} changed\n",
            text_of(&day["day"]),
            day["matched"],
            day["decided"],
            day["changed"]
        ));
    }
    for sample in answer["samples"].as_array().into_iter().flatten() {
        words.push_str(&format!(
            "  {}  {}: {}\n",
            text_of(&sample["received_at"]),
            text_of(&sample["hostname"]),
            text_of(&sample["message"]).replace(char::is_control, " ")
        ));
    }
    words
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
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
        let rule = json!({"id": 7, "priority": 5, "match_type": "contains", "match_string": "down", "trap_oid": null,
            "prod_handling": "Page_only", "dev_handling": "Ignore", "team_assignment": "NETO", "is_active": false});
        check(
            json!({"rules": [rule], "problems": ["rule 9: x"]}),
            &["7  priority 5", "\"down\"", "inactive", "rule 9"],
        );
        check(json!({"items": [{"id": 3, "outcome": "deleted"}]}), &["rule 3: deleted"]);
        check(json!({"changed": []}), &["already"]);
        let tried = json!({"reached": "2026-03-01T00:00:00Z", "complete": false, "events": 9, "matched": 2, "decided": 1,
            "changed": 1, "newly_forwarded": 1, "no_longer_forwarded": 0, "days": [{"day": "2026-03-01", "matched": 2,
            "decided": 1, "changed": 1}], "samples": []});
        check(
            tried,
            &["9 events", "its time was up", "2 match, 1 would be decided", "1 more alerts", "2026-03-01  2 match"],
        );
        let tested = json!({"why": "rule 7 is the only one", "rule": null, "explanations": [{"rule_id": 7, "matched": false, "why": "no"}]});
        check(tested, &["rule 7 is the only one", "rule 7 "]);
    }

    #[test]
    fn only_what_was_given_is_changed() {
        let args =
            RuleArgs { priority: Some(-5), team: Some("CORE".into()), active: Some(false), ..RuleArgs::default() };
        let expected = json!({"team_assignment": "CORE", "priority": -5, "is_active": false});
        assert_eq!(Value::Object(args.members()), expected);
    }
}
