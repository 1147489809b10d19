//! `muttd dlq`: dead letters from the command line, through the API of the running appliance, so that what is done is in
//! the change log like everything else.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::api::{Api, ApiArgs, encode};

/// Arguments of `muttd dlq`.
#[derive(Debug, Args)]
pub struct DlqArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List letters, oldest first.
    List {
        #[command(flatten)]
        which: Which,
        /// Letters of each queue, at most.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Where an earlier list of one queue ended.
        #[arg(long, value_name = "SEQ")]
        cursor: Option<u64>,
    },
    /// Count letters by who gave up and why.
    Groups {
        #[command(flatten)]
        which: Which,
    },
    /// Show one letter with everything it holds.
    Show {
        #[command(flatten)]
        letter: Letter,
    },
    /// Put letters back: one, or all that fit the filters.
    Replay {
        #[command(flatten)]
        act: Act,
        /// Send alerts to this target instead of their own.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
    },
    /// Take letters away for good: one, or all that fit the filters. Needs a reason.
    Discard {
        #[command(flatten)]
        act: Act,
    },
    /// Change what a letter holds before it is put back; its original is kept beside it.
    Edit {
        #[command(flatten)]
        letter: Letter,
        #[command(flatten)]
        edit: Changed,
        /// Why, for the change log.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Have the remediation run now.
    Remediate {
        /// Why, for the change log.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// One letter.
#[derive(Debug, Args)]
struct Letter {
    /// dlq.alerter, dlq.forwarder or dead.
    queue: String,
    /// Its place in the queue, as `list` shows it.
    seq: u64,
}

/// Which letters.
#[derive(Debug, Args)]
struct Which {
    /// dlq.alerter, dlq.forwarder or dead; all of them when not given.
    #[arg(long)]
    queue: Option<String>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Args)]
struct Filter {
    /// The stage or target that gave up.
    #[arg(long)]
    origin: Option<String>,
    /// Why: refused, timeout, undecodable, ...
    #[arg(long)]
    class: Option<String>,
    /// The event's host.
    #[arg(long)]
    hostname: Option<String>,
    /// A part of the reason, the receiver's answer or the message.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Given up at or after, as 2026-03-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Given up before.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

/// Letters to act on.
#[derive(Debug, Args)]
struct Act {
    /// dlq.alerter, dlq.forwarder or dead.
    queue: String,
    /// The letters' places in the queue.
    seqs: Vec<u64>,
    /// Every letter of the queue that fits the filters.
    #[arg(long, conflicts_with = "seqs")]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Why, for the change log.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct Changed {
    /// The event's host.
    #[arg(long)]
    hostname: Option<String>,
    /// The event's text.
    #[arg(long)]
    message: Option<String>,
    /// The event's severity, 0 to 7.
    #[arg(long)]
    severity: Option<u8>,
    /// The event's program.
    #[arg(long)]
    app_name: Option<String>,
    /// The team of an alert.
    #[arg(long)]
    team: Option<String>,
    /// The handling of an alert.
    #[arg(long)]
    handling: Option<String>,
}

impl Filter {
    fn pairs(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("origin", &self.origin),
            ("class", &self.class),
            ("hostname", &self.hostname),
            ("q", &self.text),
            ("from", &self.from),
            ("to", &self.to),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

impl Which {
    fn query(&self, more: &[(&str, String)]) -> String {
        let mut pairs: Vec<(&str, String)> =
            self.filter.pairs().into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        pairs.extend(self.queue.iter().map(|queue| ("queue", queue.clone())));
        pairs.extend(more.iter().cloned());
        pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
    }
}

impl Act {
    fn body(&self) -> anyhow::Result<Map<String, Value>> {
        let mut body = Map::new();
        body.insert("queue".into(), self.queue.as_str().into());
        match (self.seqs.is_empty(), self.all) {
            (true, false) => anyhow::bail!("name the letters by their places, or say --all"),
            (false, _) => {
                body.insert("seqs".into(), self.seqs.clone().into());
            }
            (true, true) => {
                body.insert("limit".into(), 10_000.into());
            }
        }
        body.extend(self.filter.pairs().into_iter().map(|(name, value)| (name.to_owned(), value.into())));
        body.extend(self.reason.iter().map(|reason| ("reason".to_owned(), reason.as_str().into())));
        Ok(body)
    }
}

/// Runs the command.
pub async fn run(args: DlqArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.api)?;
    let (answer, told) = match &args.command {
        DlqCommand::List { which, limit, cursor } => {
            let mut more = vec![("limit", limit.to_string())];
            more.extend(cursor.map(|cursor| ("cursor", cursor.to_string())));
            let answer = api.ask(Method::GET, &format!("/dead-letters?{}", which.query(&more)), None).await?;
            let told = list_lines(&answer);
            (answer, told)
        }
        DlqCommand::Groups { which } => {
            let answer = api.ask(Method::GET, &format!("/dead-letters/groups?{}", which.query(&[])), None).await?;
            let told = group_lines(&answer);
            (answer, told)
        }
        DlqCommand::Show { letter } => {
            let answer = api.ask(Method::GET, &letter.path(), None).await?;
            let told = letter_lines(&answer);
            (answer, told)
        }
        DlqCommand::Replay { act, target } => {
            let mut body = act.body()?;
            body.extend(target.iter().map(|target| ("target".to_owned(), target.as_str().into())));
            act_until_done(&api, "replay", "replayed", body).await?
        }
        DlqCommand::Discard { act } => act_until_done(&api, "discard", "discarded", act.body()?).await?,
        DlqCommand::Edit { letter, edit, reason } => {
            let answer = api.ask(Method::PATCH, &letter.path(), Some(&edit.body(reason.as_deref()))).await?;
            (answer, "changed; the letter is the last one of its queue now".to_owned())
        }
        DlqCommand::Remediate { reason } => {
            let answer = api.ask_with_reason(Method::POST, "/remediation/run", reason.as_deref()).await?;
            let told = format!("{} put back, {} set aside", answer["replayed"], answer["poison"]);
            (answer, told)
        }
    };
    match args.api.json {
        true => super::print(&format!("{answer:#}\n")),
        false => super::print(&format!("{}\n", told.trim_end())),
    }
}

impl Letter {
    fn path(&self) -> String {
        format!("/dead-letters/{}/{}", encode(&self.queue), self.seq)
    }
}

impl Changed {
    fn body(&self, reason: Option<&str>) -> Value {
        let mut body = Map::new();
        let texts = [
            ("hostname", self.hostname.as_deref()),
            ("message", self.message.as_deref()),
            ("app_name", self.app_name.as_deref()),
            ("team", self.team.as_deref()),
            ("handling", self.handling.as_deref()),
            ("reason", reason),
        ];
        body.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
        body.extend(self.severity.map(|number| ("severity".to_owned(), number.into())));
        Value::Object(body)
    }
}

/// The appliance acts on ten thousand letters at most with one call; so it is called until none is left that it can
/// act on, but for no more letters than there were: those that die again meanwhile are for the next time.
async fn act_until_done(
    api: &Api,
    what: &str,
    done: &str,
    body: Map<String, Value>,
) -> anyhow::Result<(Value, String)> {
    let queue = body.get("queue").and_then(Value::as_str).unwrap_or_default();
    let before = api.ask(Method::GET, &format!("/dead-letters?limit=1&queue={}", encode(queue)), None).await?;
    let there_were = before["queues"][0]["total"].as_u64().unwrap_or(0);
    let body = Value::Object(body);
    let path = format!("/dead-letters/{what}");
    let (mut selected, mut total) = (0, 0);
    loop {
        let answer = api.ask(Method::POST, &path, Some(&body)).await?;
        let now = answer[done].as_u64().unwrap_or(0);
        total += now;
        selected += answer["selected"].as_u64().unwrap_or(0);
        if answer["more"] == true && now > 0 && selected < there_were {
            continue;
        }
        let mut told = format!("{total} of {selected} letters {done}\n");
        for kept in answer["kept"].as_array().into_iter().flatten() {
            told.push_str(&format!("kept {}: {}\n", kept["seq"], text(&kept["reason"])));
        }
        let summary = json!({"selected": selected, done: total, "kept": answer["kept"], "more": answer["more"]});
        return Ok((summary, told));
    }
}

fn list_lines(answer: &Value) -> String {
    let mut lines = String::new();
    for queue in answer["queues"].as_array().into_iter().flatten() {
        lines.push_str(&format!("{}: {} letters\n", text(&queue["queue"]), queue["total"]));
        for item in queue["items"].as_array().into_iter().flatten() {
            lines.push_str(&format!(
                "{:>8}  {}  {}  {}  {}  {}\n",
                text(&item["seq"]),
                text(&item["died_at"]),
                text(&item["origin"]),
                text(&item["class"]),
                text(&item["event"]["hostname"]),
                text(&item["reason"]),
            ));
        }
        if let Some(cursor) = queue["next_cursor"].as_str() {
            lines.push_str(&format!("          more with --queue {} --cursor {cursor}\n", text(&queue["queue"])));
        }
    }
    lines
}

fn group_lines(answer: &Value) -> String {
    let mut lines = String::new();
    for queue in answer["queues"].as_array().into_iter().flatten() {
        lines.push_str(&format!("{}\n", text(&queue["queue"])));
        for group in queue["groups"].as_array().into_iter().flatten() {
            lines.push_str(&format!(
                "{:>8}  {}  {}  {}\n",
                text(&group["count"]),
                text(&group["origin"]),
                text(&group["class"]),
                text(&group["reason"]),
            ));
        }
    }
    lines
}

fn letter_lines(answer: &Value) -> String {
    let mut lines = String::new();
    for name in ["origin", "class", "reason", "answer", "attempts", "replays", "first_died_at", "died_at"] {
        if !answer[name].is_null() {
            lines.push_str(&format!("{name}: {}\n", text(&answer[name])));
        }
    }
    match answer["hex"].as_str() {
        Some(hex) => lines.push_str(hex),
        None => lines.push_str(&format!("{:#}\n", answer["event"])),
    }
    lines
}

/// A value as one line for a terminal: what could steer the terminal is replaced.
fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_line_a_letter_and_harmless_for_a_terminal() {
        let item = json!({"seq": 7, "died_at": "2026-03-01T12:00:00Z", "origin": "moogsoft", "class": "refused",
            "event": {"hostname": "core1"}, "reason": "422 no\u{1b}[2Jclass"});
        let answer = json!({"queues": [{"queue": "dlq.forwarder", "total": 1, "items": [item], "next_cursor": "8"}]});
        let expected = "dlq.forwarder: 1 letters\n       \
                        7  2026-03-01T12:00:00Z  moogsoft  refused  core1  422 no [2Jclass\n          \
                        more with --queue dlq.forwarder --cursor 8\n";
        assert_eq!(list_lines(&answer), expected);
    }
}
