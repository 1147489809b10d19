//! `muttd slo`: the service levels of a running appliance.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::api::{Api, ApiArgs};

/// Arguments of `muttd slo`.
#[derive(Debug, Args)]
pub struct SloArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Prints the levels. Ends with 1 if one is critical, so that a check can go by it.
pub async fn run(args: SloArgs) -> anyhow::Result<ExitCode> {
    let answer = Api::new(&args.api)?.ask(Method::GET, "/slo", None).await?;
    let text = if args.api.json { format!("{answer:#}\n") } else { table(&answer) };
    print!("{text}");
    Ok(if answer["status"] == "critical" { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn table(answer: &Value) -> String {
    let mut text = format!(
        "{:<22} {:<9} {:>9} {:>12} {:>9} {:>9} {:>9}\n",
        "service level", "state", "objective", "budget left", "1h good", "1h burn", "24h burn"
    );
    for level in answer["slos"].as_array().into_iter().flatten() {
        let percent =
            |value: &Value| value.as_f64().map_or_else(String::new, |share| format!("{:.2} %", share * 100.0));
        let number = |value: &Value| value.as_f64().map_or_else(String::new, |rate| format!("{rate:.2}"));
        let (hour, day) = (&level["windows"][1], &level["windows"][3]);
        text.push_str(&format!(
            "{:<22} {:<9} {:>9} {:>12} {:>9} {:>9} {:>9}\n",
            level["slo"].as_str().unwrap_or_default(),
            level["state"].as_str().unwrap_or_default(),
            percent(&level["objective"]),
            percent(&level["error_budget_remaining"]),
            if hour["total"] == 0 { "-".to_owned() } else { percent(&hour["availability"]) },
            number(&hour["burn_rate"]),
            number(&day["burn_rate"]),
        ));
    }
    text
}
