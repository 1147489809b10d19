//! `muttd status`: how a running appliance is, at a glance. Ends with 1 if it is not ready or its change log is not as it was
//! written, so that a check can go by it. Changes nothing.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::api::{Api, ApiArgs};

/// Arguments of `muttd status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Prints how it is.
pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let answer = Api::new(&args.api)?.ask(Method::GET, "/status", None).await?;
    let text = if args.api.json { format!("{answer:#}\n") } else { summary(&answer) };
    print!("{text}");
    Ok(if is_well(&answer) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_well(answer: &Value) -> bool {
    answer["readiness"]["status"] == "ready" && answer["change_log"]["ok"] != false
}

fn summary(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let mut lines = vec![format!(
        "muttd {} is {}, up for {}",
        text(&answer["version"]),
        text(&answer["readiness"]["status"]).replace('_', " "),
        span(answer["uptime_seconds"].as_u64().unwrap_or_default())
    )];
    for listener in list("listeners") {
        let at = if listener["up"] == true {
            text(&listener["address"])
        } else {
            format!("down: {}", text(&listener["error"]))
        };
        lines.push(format!("  {:<14} {at}, {} received", text(&listener["name"]), listener["received"]));
        lines.extend(listener["hint"].as_str().map(|hint| format!("  {:<14} {hint}", "")));
    }
    for target in list("targets") {
        let how = match target["up"].as_bool() {
            Some(true) => "takes alerts",
            Some(false) => "fails",
            None => "not spoken to yet",
        };
        lines.push(format!(
            "  target {:<12} {how}, {} delivered, {} dead",
            text(&target["name"]),
            target["delivered"],
            target["dead"]
        ));
    }
    for queue in list("queues").iter().filter(|queue| queue["items"] != 0) {
        lines.push(format!("  queue {:<13} {} waiting", text(&queue["name"]), queue["items"]));
    }
    lines.push(format!("  rules          {} of {} active", answer["rules"]["active"], answer["rules"]["total"]));
    if answer["change_log"]["ok"] == false {
        lines.push("  the change log is not as it was written; see `muttd audit verify`".to_owned());
    }
    lines.extend(list("warnings").iter().map(|warning| format!("  warning: {}", text(warning))));
    lines.iter().map(|line| format!("{}\n", line.replace(char::is_control, " "))).collect()
}

/// Days, hours and minutes.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_glance_names_what_is_wrong_and_the_exit_code_follows() {
        let mut answer = json!({
            "version": "1.0", "uptime_seconds": 93_784, "readiness": {"status": "ready"}, "change_log": {"ok": null},
            "listeners": [{"name": "snmp", "up": false, "error": "port 1162 is taken", "received": 0, "hint": null}],
            "targets": [{"name": "moogsoft", "up": true, "delivered": 7, "dead": 0}],
            "queues": [{"name": "events", "items": 0}, {"name": "dlq", "items": 3}],
            "rules": {"active": 2, "total": 3}, "warnings": ["odd\u{1b}"],
        });
        let shown = summary(&answer);
        for part in [
            "is ready, up for 1 d 2 h",
            "down: port 1162",
            "takes alerts, 7",
            "dlq           3 waiting",
            "2 of 3",
            "odd \n",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("queue events") && is_well(&answer));
        answer["change_log"]["ok"] = false.into();
        assert!(!is_well(&answer) && summary(&answer).contains("muttd audit verify"));
        answer["change_log"]["ok"] = true.into();
        answer["readiness"]["status"] = "not_ready".into();
        assert!(!is_well(&answer));
    }
}
