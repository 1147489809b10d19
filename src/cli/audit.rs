//! `muttd audit`: the change log from the command line: whether it is as it was written, its head, and its lines; and the
//! files of the event audit.
//!
//! `verify` and `head` read the data directory themselves, so that they work on a stopped appliance and do not have to
//! believe a running one; `list`, `accept` and `partitions` ask the running appliance.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, ApiArgs, encode};
use crate::admin::{ExportedHead, TrailReport, head_in, sign_head, verify_in};
use crate::clock::Clock;

/// Arguments of `muttd audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Compare every line of the change log with its hash chain; ends with 1 if anything is wrong.
    Verify {
        /// A head that was exported earlier: everything up to it must still be there.
        #[arg(long, value_name = "HEADFILE")]
        against: Vec<PathBuf>,
        /// The public key that must have signed the heads, in hexadecimal.
        #[arg(long, value_name = "HEX", requires = "against")]
        public_key: Option<String>,
    },
    /// Print the head of the change log, to be kept elsewhere and given to `verify --against`.
    Head {
        /// Sign it with the Ed25519 key of the data directory, which is made if there is none.
        #[arg(long)]
        sign: bool,
    },
    /// List changes, newest first.
    List {
        /// Only this table: alert_rules, development_hosts, device_teams, delivery_targets, users, ...
        #[arg(long)]
        table: Option<String>,
        /// Only this row.
        #[arg(long)]
        record: Option<String>,
        /// Only changes of this user or key.
        #[arg(long)]
        user: Option<String>,
        /// Lines.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Accept the change log as it is after a break: keeps a copy of the database and says so in the log.
    Accept {
        /// Why, for the change log.
        #[arg(long)]
        reason: String,
    },
    /// List the files of the event audit, newest first: their months, rows, bytes and states.
    Partitions,
}

/// Runs the command.
pub async fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let json = args.api.json;
    match args.command {
        AuditCommand::Verify { against, public_key } => {
            let data = data(&args.api)?;
            let checked = tokio::task::spawn_blocking(move || verify(&data, &against, public_key.as_deref()));
            let (report, notes) = checked.await??;
            print!("{}", if json { format!("{:#}\n", report_json(&report)) } else { in_words(&report, &notes) });
            Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        AuditCommand::Head { sign } => {
            let data = data(&args.api)?;
            let taken = tokio::task::spawn_blocking(move || {
                let head = head_in(&data, &Clock::system())?;
                if sign { sign_head(&data, head) } else { Ok(head) }
            });
            println!("{}", serde_json::to_string_pretty(&taken.await??)?);
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::List { table, record, user, limit } => {
            let mut path = format!("/config-audit?limit={limit}");
            for (name, value) in [("table_name", table), ("record_id", record), ("user", user)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encode(&value)));
                }
            }
            let answer = Api::new(&args.api)?.ask(Method::GET, &path, None).await?;
            print!("{}", if json { format!("{answer:#}\n") } else { lines(&answer) });
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Accept { reason } => {
            let body = json!({"reason": reason});
            let answer = Api::new(&args.api)?.ask(Method::POST, "/config-audit/chain/accept", Some(&body)).await?;
            let evidence = answer["evidence"].as_str().unwrap_or("-");
            print!(
                "{}",
                if json {
                    format!("{answer:#}\n")
                } else {
                    format!("accepted; the log as it was is kept in store/trail/{evidence}\n")
                }
            );
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Partitions => {
            let answer = Api::new(&args.api)?.ask(Method::GET, "/partitions", None).await?;
            print!("{}", if json { format!("{answer:#}\n") } else { partitions(&answer) });
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn data(args: &ApiArgs) -> anyhow::Result<PathBuf> {
    args.data().map(Path::to_owned).context("give the data directory of the appliance with --data, or in MUTTD_DATA")
}

/// The report, and what is to be said about the heads it was compared with.
fn verify(data: &Path, against: &[PathBuf], key: Option<&str>) -> anyhow::Result<(TrailReport, Vec<String>)> {
    let (mut heads, mut notes) = (Vec::new(), Vec::new());
    for path in against {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let head: ExportedHead =
            serde_json::from_str(&text).with_context(|| format!("`{}` is no head of a change log", path.display()))?;
        let shown = path.display();
        match (head.check(key).with_context(|| format!("`{shown}`"))?, key) {
            (Some(_), Some(_)) => notes.push(format!("{shown}: signed with the given key, taken {}", head.taken_at)),
            (Some(named), None) => notes
                .push(format!("{shown}: signed with {named}; compare that key yourself, or give it with --public-key")),
            (None, _) => notes.push(format!("{shown}: not signed, taken {}", head.taken_at)),
        }
        heads.push(head.head());
    }
    if !data.join("store/config.db").exists() {
        bail!("`{}` is no data directory: it has no store/config.db", data.display());
    }
    Ok((verify_in(data, &heads, &Clock::system())?, notes))
}

fn report_json(report: &TrailReport) -> Value {
    json!({
        "ok": report.is_whole(),
        "lines": report.lines,
        "cut": report.cut,
        "head": report.head,
        "checked_at": report.checked_at.to_string(),
        "found": report.found,
        "faults": report.faults.iter().map(|fault| json!({
            "kind": fault.kind.name(),
            "id": fault.id,
            "changed_at": fault.changed_at.map(|at| at.to_string()),
            "why": fault.why,
        })).collect::<Vec<_>>(),
    })
}

fn in_words(report: &TrailReport, notes: &[String]) -> String {
    let mut text: String = notes.iter().map(|note| format!("{note}\n")).collect();
    if report.is_whole() {
        text.push_str(&format!("The change log is whole: {} lines, head {}\n", report.lines, report.head.hash));
        if let Some(cut) = &report.cut {
            text.push_str(&format!("Lines up to {} were cut off when their time was up\n", cut.last_id));
        }
        return text;
    }
    text.push_str(&format!(
        "The change log is NOT as it was written: {} faults in {} lines\n",
        report.found, report.lines
    ));
    for fault in &report.faults {
        let line = fault.id.map_or_else(|| "the end".to_owned(), |id| format!("line {id}"));
        let at = fault.changed_at.map_or_else(String::new, |at| format!(" of {at}"));
        text.push_str(&format!("  {line}{at}: {} ({})\n", fault.why, fault.kind.name()));
    }
    let named = u64::try_from(report.faults.len()).unwrap_or(u64::MAX);
    if report.found > named {
        text.push_str(&format!("  and {} more\n", report.found - named));
    }
    text
}

fn lines(answer: &Value) -> String {
    let changes = answer["changes"].as_array().into_iter().flatten();
    let line = |change: &Value| {
        let text = |name: &str| change[name].as_str().unwrap_or("-").to_owned();
        format!(
            "{:>6} {} {:<6} {} {} by {} via {} from {}: {}\n",
            change["id"],
            text("changed_at"),
            text("operation"),
            text("table_name"),
            text("record_id"),
            text("changed_by"),
            text("changed_via"),
            text("changed_from"),
            text("reason"),
        )
    };
    changes.map(line).collect()
}

fn partitions(answer: &Value) -> String {
    let files = answer["partitions"].as_array().into_iter().flatten();
    let line = |file: &Value| {
        let text = |name: &str| file[name].as_str().unwrap_or("-").to_owned();
        format!(
            "{:<24} {:<8} {:>12} rows {:>14} bytes  {} to {}\n",
            text("file"),
            text("state"),
            file["rows"],
            file["bytes"],
            text("first_event"),
            text("last_event"),
        )
    };
    let mut told: String = files.map(line).collect();
    told.push_str(&format!("{} rows, {} bytes in all\n", answer["rows"], answer["bytes"]));
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Tampering, TrailFault, TrailHead};
    use crate::model::Timestamp;

    #[test]
    fn each_file_of_the_event_audit_is_a_line_and_the_sum_is_the_last() {
        let file = |month: &str, rows: u64, first: Option<&str>| {
            let name = format!("events-{month}.db");
            json!({"file": name, "state": "closed", "rows": rows, "bytes": 4096, "first_event": first, "last_event": first})
        };
        let files = [file("2026-11", 12, Some("2026-11-01T00:00:00Z")), file("2026-10", 0, None)];
        let told = partitions(&json!({"partitions": files, "rows": 12, "bytes": 8192}));
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("events-2026-11.db") && lines[0].ends_with("to 2026-11-01T00:00:00Z"), "{told}");
        assert!(lines[1].contains(" 0 rows") && lines[1].ends_with("- to -"), "{told}");
        assert_eq!(lines[2], "12 rows, 8192 bytes in all");
    }

    #[test]
    fn a_break_is_told_with_line_time_and_what_differs() {
        let head = TrailHead { lines: 9, last_id: 9, hash: "ab".into() };
        let fault = TrailFault {
            kind: Tampering::Edited,
            id: Some(7),
            changed_at: Some(Timestamp::from_millis(1_790_000_000_000)),
            why: "`reason` differ from what was written".into(),
        };
        let at = Timestamp::from_millis(1_790_000_000_000);
        let broken = TrailReport { checked_at: at, head, lines: 9, cut: None, faults: vec![fault], found: 3 };
        let text = in_words(&broken, &["head.json: not signed".into()]);
        for part in
            ["head.json", "NOT as it was written", "line 7 of 2026-09-21T", "`reason`", "(edited)", "and 2 more"]
        {
            assert!(text.contains(part), "{text:?} should contain {part:?}");
        }
        let whole = TrailReport { faults: Vec::new(), found: 0, ..broken };
        assert!(in_words(&whole, &[]).contains("is whole: 9 lines, head ab"));
        assert_eq!(report_json(&whole)["ok"], json!(true));
    }
}
