//! Rows in the audit of a stopped server, as months of traffic would have left them: some hosts and rules common, most
//! equally frequent, some rare.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::args::BenchArgs;
use super::source::EventSource;
use crate::cli::send::synthetic::Synthetic;
use crate::clock::Clock;
use crate::model::{
    Decision, Environment, Event, EventIds, Handling, Judged, Matched, Protocol, RuleId, Severity, Team, Timestamp,
};
use crate::store::AuditLog as _;
use crate::store::sqlite::AuditDb;

/// Rows recorded in one call.
const CALL_ROWS: usize = 8_192;
/// Different events that the rows are made of.
const TEMPLATES: usize = 4_096;
/// Hosts that speak equally often.
const HOSTS: u64 = 2_000;
/// One row in so many is of the common host and rule.
const COMMON: u64 = 10;
/// Rows of the rare host and rule.
const RARE_ROWS: u64 = 12;
/// Rules that match equally often.
const RULES: u64 = 500;
/// 32 bits of splitmix's constant: spreads row numbers over hosts and rules.
const SPREAD: u64 = 0x9e37_79b9;

/// Records `rows` rows in the audit at `folder`, evenly over `span` from `begin` on, through the code the alerter uses.
pub async fn fill(
    folder: PathBuf,
    args: &BenchArgs,
    rows: u64,
    begin: Timestamp,
    span: Duration,
) -> anyhow::Result<()> {
    let opened = tokio::task::spawn_blocking(move || AuditDb::open(&folder, Clock::system()));
    let audit = opened.await?.context("cannot open the audit of the stopped server")?;
    let spec = Synthetic { rules: 1_000, match_percent: 100.0, size: args.size, seed: args.seed };
    let templates = EventSource::new(&spec)?.next(TEMPLATES);
    let ids = EventIds::new(args.seed);
    let step = span.as_micros() as u64 / rows.max(1);
    let mut number = 0;
    while number < rows {
        let end = rows.min(number + CALL_ROWS as u64);
        let call = (number..end).map(|number| {
            let at = begin.plus(Duration::from_micros(number * step));
            row(&templates[number as usize % TEMPLATES], &ids, at, number, rows)
        });
        audit.record(call.collect::<anyhow::Result<_>>()?).await.context("the audit did not take a batch")?;
        number = end;
    }
    audit.close().await.context("cannot close the audit")
}

fn row(template: &Event, ids: &EventIds, at: Timestamp, number: u64, rows: u64) -> anyhow::Result<Judged> {
    let spread = number.wrapping_mul(SPREAD) >> 7;
    let is_rare = number % (rows / RARE_ROWS).max(1) == 17;
    let is_common = number % COMMON == 3;
    let mut event = Event { id: ids.next(at), received_at: at, ..template.clone() };
    event.hostname = match () {
        () if is_rare => "rare-router".into(),
        () if is_common => "common-router".into(),
        () => format!("router-{}", spread % HOSTS).into(),
    };
    let rule = match () {
        () if is_rare => 9_000,
        () if is_common => 9_001,
        () => i64::try_from(spread / HOSTS % RULES).unwrap_or(0) + 1,
    };
    event.severity = Severity::new(if is_rare { 0 } else { (number % 6) as u8 + 2 });
    event.source.protocol = if number.is_multiple_of(4) { Protocol::SyslogUdp } else { Protocol::SyslogTcp };
    if number.is_multiple_of(1_000) {
        event.correlation_id = Some(format!("bench-{number}").into());
    }
    let matched = Matched { rule: RuleId(rule), handling: Handling::PageOnly, team: Team::new("BENCH")? };
    // One row in a hundred thousand was kept although no rule matched it.
    let matched = (number % 100_000 != 5).then_some(matched);
    Ok(Judged { event, decision: Decision { environment: Environment::Prod, matched } })
}
