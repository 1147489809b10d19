//! `muttd logs`: the last lines that a running appliance logged, and those that follow.
//!
//! Asks the appliance, so it works from elsewhere too; what is older than the appliance's memory is in the journal. While
//! following, a stream that ends is opened again where it ended. Keeps nothing.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::api::{Api, ApiArgs, encode};

/// Pause before a stream that ended is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of one frame, at most: a line is bounded far below, so more is no answer of an appliance.
const MAX_FRAME: usize = 1 << 20;

/// Arguments of `muttd logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Only lines of this part of the program: ingest, alerter, forward, remedy, web, ...
    component: Option<String>,
    /// Lines to begin with.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1000))]
    tail: u32,
    /// Go on with new lines until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Only lines that matter at least so much.
    #[arg(long, value_parser = ["trace", "debug", "info", "warn", "error"])]
    level: Option<String>,
    /// Only lines with this text in their sentence or fields, such as the id of an event.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

/// Prints lines, oldest first.
pub async fn run(args: LogsArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.api)?;
    let filter = filter(&args);
    let path = format!("/logs?{filter}limit={}", args.tail.max(1));
    let mut answer = api.ask(Method::GET, &path, None).await?;
    let mut cursor = answer["newest"].as_u64().unwrap_or_default();
    let mut lines = answer["logs"].as_array_mut().map(std::mem::take).unwrap_or_default();
    lines.truncate(usize::try_from(args.tail).unwrap_or(usize::MAX));
    for line in lines.iter().rev() {
        show(line, args.api.json)?;
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let path = format!("/logs/stream?{filter}cursor={cursor}");
        let mut stream = api.stream(&path).await?;
        let mut frames = Frames::default();
        while let Some(bytes) = stream.chunk().await.unwrap_or_default() {
            for (kind, data) in frames.add(&bytes)? {
                let value: Value = serde_json::from_str(&data).context("the appliance's answer is not understood")?;
                if kind == "missed" {
                    eprintln!("muttd: {} lines went before they could be read", value["missed"]);
                    continue;
                }
                cursor = value["id"].as_u64().unwrap_or(cursor);
                show(&value, args.api.json)?;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The filters as the start of a query.
fn filter(args: &LogsArgs) -> String {
    let given = [("component", &args.component), ("level", &args.level), ("q", &args.text)];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    given.map(|(name, value)| format!("{name}={}&", encode(value))).collect()
}

fn show(line: &Value, json: bool) -> std::io::Result<()> {
    let text = if json { line.to_string() } else { readable(line) };
    writeln!(std::io::stdout().lock(), "{text}")
}

/// A line for people; what could move the cursor of a terminal is escaped.
fn readable(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let mut shown =
        format!("{} {:<5} {}: {}", text("timestamp"), text("level").to_uppercase(), text("component"), text("message"));
    for (name, value) in line["fields"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        shown.push_str(&format!(" {name}={value}"));
    }
    shown.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Puts frames together from the pieces in which they come.
#[derive(Default)]
struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// The kinds and data of the frames that are complete now. Frames without data are heartbeats.
    fn add(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<(String, String)>> {
        self.rest.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
            let frame: Vec<u8> = self.rest.drain(..end + 2).collect();
            let frame = String::from_utf8_lossy(&frame);
            let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
            if let Some(data) = field("data:") {
                frames.push((field("event:").unwrap_or_default().to_owned(), data.to_owned()));
            }
        }
        anyhow::ensure!(self.rest.len() <= MAX_FRAME, "the appliance's answer is not understood");
        Ok(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_come_together_whatever_the_pieces() {
        let stream = b":\n\nevent: line\nid: 7\ndata: {\"id\":7}\n\nevent: missed\ndata: {\"missed\":3}\n\nevent: li";
        for size in [1, 3, 7, 1_000] {
            let mut frames = Frames::default();
            let found: Vec<_> = stream.chunks(size).flat_map(|piece| frames.add(piece).expect("small")).collect();
            let expected = [("line", "{\"id\":7}"), ("missed", "{\"missed\":3}")];
            assert_eq!(found, expected.map(|(kind, data)| (kind.to_owned(), data.to_owned())), "pieces of {size}");
        }
        assert!(Frames::default().add(&vec![b'x'; MAX_FRAME + 1]).is_err());
    }

    #[test]
    fn a_line_is_one_line_whatever_it_holds() {
        let line = json!({
            "timestamp": "2027-01-15T08:00:00Z", "level": "warn", "component": "forward",
            "message": "odd\u{1b}[2J", "fields": {"event.id": "e1", "attempt": 2},
        });
        let shown = "2027-01-15T08:00:00Z WARN  forward: odd\\u{1b}[2J event.id=e1 attempt=2";
        assert_eq!(readable(&line), shown);
    }
}
