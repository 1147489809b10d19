//! `muttd retention`, `muttd hold`, `muttd archive`: through the API of the running appliance, so that there is never a second
//! run beside its own. `muttd retention run` works on the data directory itself when no appliance holds it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, ApiArgs, encode};
use crate::app::{Dry, Offline};
use crate::config::Sources;
use crate::telemetry::logs;

/// Time between two looks whether what was begun has ended.
const LOOK: Duration = Duration::from_secs(2);

/// Arguments of `muttd retention`.
#[derive(Debug, Args)]
pub struct RetentionArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    /// Show the last run, the next one, and what audit and archive take.
    Status,
    /// Run retention now. Works on the data directory itself (--data) when no appliance is running.
    Run {
        /// Only say what a run would do.
        #[arg(long)]
        dry_run: bool,
        /// Why, for the change log.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Arguments of `muttd hold`.
#[derive(Debug, Args)]
pub struct HoldArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: HoldCommand,
}

#[derive(Debug, Subcommand)]
enum HoldCommand {
    /// List legal holds in force.
    List,
    /// Place a hold: what it covers is not deleted until it is lifted.
    Place {
        /// A case number, or what people call it.
        name: String,
        /// Whose events; every host's without it.
        #[arg(long)]
        hostname: Option<String>,
        /// Received at or after, as 2026-03-01T12:00:00Z.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Received before.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Lift a hold.
    Lift {
        /// Its number.
        id: i64,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Erase one host's data: from audit, archive, recent events and counters.
    Erase {
        /// The host.
        hostname: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Only say what would be erased.
        #[arg(long)]
        dry_run: bool,
    },
    /// List requests to erase.
    Erasures,
}

/// Arguments of `muttd archive`.
#[derive(Debug, Args)]
pub struct ArchiveArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: ArchiveCommand,
}

#[derive(Debug, Subcommand)]
enum ArchiveCommand {
    /// List archives, newest first.
    List {
        /// Of this day or later, as 2026-01-31.
        #[arg(long, value_name = "DAY")]
        from: Option<String>,
        /// Of this day or earlier.
        #[arg(long, value_name = "DAY")]
        to: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Read archives and compare every byte with the manifest. Ends with 1 if anything is not what it was.
    Verify {
        /// This one; all of them without it.
        name: Option<String>,
        /// Only so many, spread over all.
        #[arg(long, value_name = "N")]
        sample: Option<u32>,
    },
    /// Search archived events, newest first.
    Search {
        #[command(flatten)]
        filter: Filter,
    },
    /// Put archived events back into the audit for some days.
    Restore {
        /// This archive.
        name: Option<String>,
        /// Archives of this day and later ones.
        #[arg(long, value_name = "DAY", conflicts_with = "name", requires = "to")]
        from: Option<String>,
        /// Up to this day.
        #[arg(long, value_name = "DAY", requires = "from")]
        to: Option<String>,
        /// For so many days.
        #[arg(long, default_value_t = 7)]
        days: u32,
        /// Why, for the change log.
        #[arg(long)]
        reason: Option<String>,
    },
    /// End the restore of an archive now.
    Return {
        /// Its name.
        name: String,
        /// Why, for the change log.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Accept the archive as it is after its manifest came into doubt.
    Accept {
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Which events.
#[derive(Debug, Args)]
struct Filter {
    /// A part of the message or of a value.
    #[arg(long, value_name = "TEXT")]
    q: Option<String>,
    /// The host, in full.
    #[arg(long)]
    hostname: Option<String>,
    /// 0 to 7, or a name.
    #[arg(long)]
    severity: Option<String>,
    /// The rule that matched.
    #[arg(long, value_name = "ID")]
    rule_id: Option<i64>,
    /// Received at or after, as 2026-03-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Received before.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The correlation id.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Where an earlier search ended.
    #[arg(long)]
    cursor: Option<String>,
}

/// Runs `muttd retention`.
pub async fn run(args: RetentionArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        RetentionCommand::Status => {
            let answer = Api::new(&args.api)?.ask(Method::GET, "/retention", None).await?;
            print(&args.api, &answer, status_text);
            Ok(ExitCode::SUCCESS)
        }
        RetentionCommand::Run { dry_run, reason } => {
            let report = match (Api::new(&args.api), args.api.data()) {
                (Ok(api), _) if api.answers().await => {
                    let body = json!({"dry_run": dry_run, "reason": reason});
                    finished(&api, api.ask(Method::POST, "/retention/run", Some(&body)).await?).await?
                }
                (Err(error), None) => return Err(error),
                (Ok(api), None) => finished(&api, api.ask(Method::GET, "/retention", None).await?).await?,
                (_, Some(data)) => offline(data, *dry_run, reason.as_deref()).await?,
            };
            Ok(told(&args.api, &report))
        }
    }
}

/// Works on the data directory of an appliance that is stopped.
async fn offline(data: &std::path::Path, dry_run: bool, reason: Option<&str>) -> anyhow::Result<Value> {
    // A run in a folder that was mistyped would make an appliance there and find nothing to do.
    anyhow::ensure!(
        data.join("store").is_dir(),
        "no appliance answers, and `{}` is not the data directory of one: there is no folder `store` in it",
        data.display()
    );
    let sources = Sources::new(data, None);
    let (filter, format) = sources.logging()?;
    drop(logs::init(&filter, format)?);
    let config = sources.load()?;
    let offline =
        Offline::open(&config).await.context("no appliance answers, and its data directory cannot be used")?;
    let by = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "cli".to_owned());
    let report = offline.run(if dry_run { Dry::Yes } else { Dry::No }, &by, reason).await;
    offline.close().await?;
    let report = report?;
    Ok(json!({
        "dry_run": report.dry_run,
        "ok": report.is_clean(),
        "archived_events": report.archived_rows,
        "archived_bytes": report.archived_bytes,
        "archived": report.archived.iter().map(|day| json!({
            "day": day.day.to_string(), "events": day.rows, "files": day.files, "bytes": day.bytes,
        })).collect::<Vec<_>>(),
        "deleted_events": report.deleted_rows,
        "deleted": report.deleted.iter().map(|file| json!({
            "name": file.name, "reason": file.reason, "events": file.rows, "held": file.held,
        })).collect::<Vec<_>>(),
        "settled": report.settled,
        "returned": report.returned,
        "erasures": report.erasures,
        "dropped": report.dropped,
        "change_lines": report.change_lines,
        "verified": report.verified,
        "damaged": report.damaged,
        "postponed": report.postponed,
        "faults": report.faults,
        "keeps_events_from": report.keeps_events_from.map(|day| day.to_string()),
        "keeps_archives_from": report.keeps_archives_from.map(|day| day.to_string()),
    }))
}

/// The report of something that was begun; waits for its end. What fails meanwhile is an error.
async fn finished(api: &Api, mut answer: Value) -> anyhow::Result<Value> {
    while answer["finished"] == false {
        let task = answer["task"].as_u64().context("the appliance does not say which task it began")?;
        tokio::time::sleep(LOOK).await;
        let asked = api.ask(Method::GET, &format!("/retention/tasks/{task}"), None).await;
        answer = asked.context("how it ended is not known; see `muttd retention status` and the log")?;
    }
    Ok(answer["report"].clone())
}

fn print(args: &ApiArgs, answer: &Value, text: impl Fn(&Value) -> String) {
    if args.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(answer));
    }
}

fn told(args: &ApiArgs, report: &Value) -> ExitCode {
    print(args, report, report_text);
    if report["ok"] == false { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs `muttd hold`.
pub async fn hold(args: HoldArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.api)?;
    match &args.command {
        HoldCommand::List => {
            let answer = api.ask(Method::GET, "/holds", None).await?;
            print(&args.api, &answer, |answer| lines(&answer["holds"], hold_text, "no hold is in force"));
        }
        HoldCommand::Place { name, hostname, from, to, reason } => {
            let body = json!({"name": name, "hostname": hostname, "from": from, "to": to, "reason": reason});
            let answer = api.ask(Method::POST, "/holds", Some(&body)).await?;
            print(&args.api, &answer, hold_text);
        }
        HoldCommand::Lift { id, reason } => {
            api.ask_with_reason(Method::DELETE, &format!("/holds/{id}"), Some(reason)).await?;
            print(&args.api, &json!({"lifted": id}), |_| format!("hold {id} was lifted\n"));
        }
        HoldCommand::Erase { hostname, reason, dry_run } => {
            let body = json!({"hostname": hostname, "reason": reason, "dry_run": dry_run});
            let answer = api.ask(Method::POST, "/erasures", Some(&body)).await?;
            print(&args.api, &answer, |answer| format!("{answer:#}\n"));
        }
        HoldCommand::Erasures => {
            let answer = api.ask(Method::GET, "/erasures", None).await?;
            print(&args.api, &answer, |answer| lines(&answer["erasures"], erasure_text, "nothing was erased"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `muttd archive`.
pub async fn archive(args: ArchiveArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.api)?;
    match &args.command {
        ArchiveCommand::List { from, to, limit } => {
            let query = [("from", from.clone()), ("to", to.clone()), ("limit", Some(limit.to_string()))];
            let answer = api.ask(Method::GET, &format!("/archives?{}", encoded(&query)), None).await?;
            print(&args.api, &answer, |answer| lines(&answer["archives"], archive_text, "there is no archive"));
            Ok(ExitCode::SUCCESS)
        }
        ArchiveCommand::Verify { name, sample } => {
            let overview = api.ask(Method::GET, "/archives/verify", None).await?;
            let begun = match name {
                Some(name) => api.ask(Method::POST, &format!("/archives/{}/verify", encode(name)), None).await?,
                None => api.ask(Method::POST, "/archives/verify", Some(&json!({"sample": sample}))).await?,
            };
            let report = finished(&api, begun).await?;
            let ok = overview["ok"] == true && report["ok"] == true;
            let answer = json!({
                "ok": ok, "verified": report["verified"], "damaged": report["damaged"], "faults": overview["faults"],
            });
            print(&args.api, &answer, verify_text);
            Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ArchiveCommand::Search { filter } => {
            let query = [
                ("q", filter.q.clone()),
                ("hostname", filter.hostname.clone()),
                ("severity", filter.severity.clone()),
                ("rule_id", filter.rule_id.map(|id| id.to_string())),
                ("from", filter.from.clone()),
                ("to", filter.to.clone()),
                ("correlation_id", filter.correlation_id.clone()),
                ("limit", Some(filter.limit.to_string())),
                ("cursor", filter.cursor.clone()),
            ];
            let answer = api.ask(Method::GET, &format!("/archives/search?{}", encoded(&query)), None).await?;
            print(&args.api, &answer, search_text);
            Ok(ExitCode::SUCCESS)
        }
        ArchiveCommand::Restore { name, from, to, days, reason } => {
            let mut body = json!({"days": days, "reason": reason});
            for (member, value) in [("name", name), ("from", from), ("to", to)] {
                if let Some(value) = value {
                    body[member] = json!(value);
                }
            }
            let begun = api.ask(Method::POST, "/archives/restore", Some(&body)).await?;
            Ok(told(&args.api, &finished(&api, begun).await?))
        }
        ArchiveCommand::Return { name, reason } => {
            let path = format!("/archives/{}/return", encode(name));
            let begun = api.ask_with_reason(Method::POST, &path, reason.as_deref()).await?;
            Ok(told(&args.api, &finished(&api, begun).await?))
        }
        ArchiveCommand::Accept { reason } => {
            let begun = api.ask(Method::POST, "/archives/accept", Some(&json!({"reason": reason}))).await?;
            Ok(told(&args.api, &finished(&api, begun).await?))
        }
    }
}

fn encoded(query: &[(&str, Option<String>)]) -> String {
    let pairs =
        query.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", encode(value))));
    pairs.collect::<Vec<_>>().join("&")
}

fn lines(list: &Value, text: impl Fn(&Value) -> String, none: &str) -> String {
    let lines: String = list.as_array().into_iter().flatten().map(text).collect();
    if lines.is_empty() { format!("{none}\n") } else { lines }
}

/// A member as text; `-` for what is not there.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        other => other.to_string(),
    }
}

fn status_text(status: &Value) -> String {
    let mut text = format!(
        "last run {}, next run {}{}\n\
         audit    {} events since {}, {} bytes in use, {} of files; kept {} days, cap {} bytes ({})\n\
         archive  {} files, {} bytes; kept {} days, cap {} bytes ({})\n",
        shown(&status["last_run"]),
        shown(&status["next_run"]),
        if status["running_since"].is_null() { "" } else { ", a run is under way" },
        status["audit"]["rows"],
        shown(&status["audit"]["oldest_day"]),
        status["audit"]["used_bytes"],
        status["audit"]["file_bytes"],
        status["event_retention_days"],
        status["audit"]["max_bytes"],
        shown(&status["audit"]["cap"]),
        status["archive"]["files"],
        status["archive"]["bytes"],
        status["archive_retention_days"],
        status["archive"]["max_bytes"],
        shown(&status["archive"]["cap"]),
    );
    for name in status["archive"]["damaged"].as_array().into_iter().flatten() {
        text.push_str(&format!("  DAMAGED {}\n", shown(name)));
    }
    if let Some(doubt) = status["archive"]["doubt"].as_str() {
        text.push_str(&format!("the manifest of the archive is IN DOUBT: {doubt}\n"));
    }
    text
}

fn report_text(report: &Value) -> String {
    let verb = if report["dry_run"] == true { "would be " } else { "" };
    let mut text = format!(
        "{} events {verb}archived ({} bytes), {} {verb}deleted\n",
        report["archived_events"], report["archived_bytes"], report["deleted_events"]
    );
    for day in report["archived"].as_array().into_iter().flatten() {
        text.push_str(&format!("  {} {} events\n", shown(&day["day"]), day["events"]));
    }
    for file in report["deleted"].as_array().into_iter().flatten() {
        let held = if file["held"] == 0 { String::new() } else { format!(", {} stay under a hold", file["held"]) };
        text.push_str(&format!(
            "  {} ({}) {} events{held}\n",
            shown(&file["name"]),
            shown(&file["reason"]),
            file["events"]
        ));
    }
    for (member, what) in [
        ("settled", "files of an interrupted run finished with"),
        ("erasures", "erasures carried out"),
        ("change_lines", "lines cut off the change log"),
    ] {
        if let Some(count) = report[member].as_u64().filter(|count| *count > 0) {
            text.push_str(&format!("  {what}: {count}\n"));
        }
    }
    for (member, what) in [
        ("dropped", "audit file deleted"),
        ("returned", "restore ended"),
        ("damaged", "DAMAGED"),
        ("postponed", "put off"),
        ("faults", "FAILED"),
    ] {
        for line in report[member].as_array().into_iter().flatten() {
            text.push_str(&format!("  {what}: {}\n", shown(line)));
        }
    }
    text
}

fn hold_text(hold: &Value) -> String {
    format!(
        "{:>4} {} host {} from {} to {}, placed by {} at {}: {}\n",
        hold["id"],
        shown(&hold["name"]),
        shown(&hold["hostname"]),
        shown(&hold["from"]),
        shown(&hold["to"]),
        shown(&hold["placed_by"]),
        shown(&hold["placed_at"]),
        shown(&hold["reason"]),
    )
}

fn erasure_text(erasure: &Value) -> String {
    format!(
        "{:>4} {} asked by {} at {}, done {}: {} audit rows, {} archived events in {} files, {} recent events, {} counters\n",
        erasure["id"],
        shown(&erasure["hostname"]),
        shown(&erasure["requested_by"]),
        shown(&erasure["requested_at"]),
        shown(&erasure["finished_at"]),
        erasure["audit_rows"],
        erasure["archived_events"],
        erasure["archive_files"],
        erasure["recent_events"],
        erasure["counters"],
    )
}

fn archive_text(archive: &Value) -> String {
    let restored = match archive["restored_until"].as_str() {
        Some(until) => format!(", in the audit until {until}"),
        None => String::new(),
    };
    format!(
        "{:<36} {:>10} events {:>12} bytes{restored}\n",
        shown(&archive["name"]),
        archive["events"],
        archive["bytes"]
    )
}

fn verify_text(answer: &Value) -> String {
    let mut text = format!("{} archives were read and compared\n", answer["verified"]);
    for line in answer["damaged"].as_array().into_iter().flatten() {
        text.push_str(&format!("  DAMAGED {}\n", shown(line)));
    }
    for fault in answer["faults"].as_array().into_iter().flatten() {
        text.push_str(&format!("  {}: {}\n", shown(&fault["name"]), shown(&fault["why"])));
    }
    text
}

fn search_text(answer: &Value) -> String {
    let line = |event: &Value| {
        format!(
            "{} {} {} {}\n",
            shown(&event["received_at"]),
            shown(&event["id"]),
            shown(&event["hostname"]),
            shown(&event["message"])
        )
    };
    let mut text = lines(&answer["items"], line, "nothing was found");
    for name in answer["left_out"].as_array().into_iter().flatten() {
        text.push_str(&format!("NOT SEARCHED, damaged or missing: {}\n", shown(name)));
    }
    if let Some(cursor) = answer["next_cursor"].as_str() {
        text.push_str(&format!("more: --cursor {cursor}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_in_lines() {
        let report = json!({
            "dry_run": true, "archived_events": 7, "archived_bytes": 0, "deleted_events": 2, "settled": 0, "change_lines": 3,
            "archived": [{"day": "2026-01-01", "events": 7}],
            "deleted": [{"name": "events-2019-01-01.ndjson.zst", "reason": "expired", "events": 2, "held": 1}],
            "faults": ["archiving: the disk\nis full"],
        });
        let text = report_text(&report);
        assert!(!text.contains("finished with"), "{text:?} says what was not there");
        for part in [
            "7 events would be archived",
            "2026-01-01 7",
            "1 stay under a hold",
            "change log: 3",
            "FAILED: archiving: the disk is full",
        ] {
            assert!(text.contains(part), "{text:?} should contain {part:?}");
        }
        assert_eq!(encoded(&[("q", Some("a b".into())), ("to", None)]), "q=a%20b");
    }
}
