//! The audit over several parts and months: rolling, late events, clocks that jump, damage to one part.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use super::AuditDb;
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{
    Decision, DeliveryNote, DeliveryOutcome, Environment, Event, EventId, EventIds, Handling, Judged, Matched,
    Protocol, RuleId, Severity, Source, TargetName, Team, Timestamp,
};
use crate::store::{AuditLog, AuditSettings, EventQuery};

/// 2026-11-21T00:00:00Z
const START: i64 = 1_795_219_200_000;
const DAY: i64 = 86_400_000;

/// Parts of one small transaction each.
const TINY: AuditSettings = AuditSettings { advance_months: 1, max_bytes: 64 << 10 };

fn open(folder: &Path, settings: AuditSettings) -> AuditDb {
    open_at(folder, settings, START)
}

fn open_at(folder: &Path, settings: AuditSettings, now: i64) -> AuditDb {
    let clock = Clock::fixed(Timestamp::from_millis(now));
    AuditDb::open_with(folder, clock, Live::constant(settings)).expect("opens")
}

fn judged(ids: &EventIds, millis: i64, number: usize) -> Judged {
    let at = Timestamp::from_millis(millis);
    let source = Source { protocol: Protocol::SyslogUdp, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let mut event = Event::new(ids.next(at), at, source);
    event.hostname = format!("r{}", number % 5).into();
    event.message = format!("{number}: {}", "x".repeat(200)).into();
    event.severity = Severity::new((number % 3) as u8);
    let team = Team::new("NETO").expect("a team");
    let matched = (number % 4 != 0).then(|| Matched {
        rule: RuleId(i64::try_from(number % 4).expect("small")),
        handling: Handling::PageOnly,
        team,
    });
    Judged { event, decision: Decision { environment: Environment::Prod, matched } }
}

async fn all(audit: &AuditDb, query: &EventQuery) -> Vec<EventId> {
    let (mut found, mut query) = (Vec::new(), query.clone());
    loop {
        let page = audit.search(&query).await.expect("a page");
        found.extend(page.items.iter().map(|judged| judged.event.id));
        match page.next {
            Some(next) => query.before = Some(next),
            None => return found,
        }
    }
}

fn limit(limit: usize) -> EventQuery {
    EventQuery { limit, ..EventQuery::default() }
}

fn newest_first(rows: &[Judged]) -> Vec<EventId> {
    let mut ids: Vec<EventId> = rows.iter().map(|row| row.event.id).collect();
    ids.sort_unstable();
    ids.reverse();
    ids
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm")).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_month_that_outgrows_a_file_goes_on_in_the_next_and_no_event_is_there_twice() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), TINY);
    let ids = EventIds::new(1);
    let rows: Vec<Judged> = (0..1_000).map(|number| judged(&ids, START + number as i64, number)).collect();
    for chunk in rows.chunks(100) {
        audit.record(chunk.to_vec()).await.unwrap();
    }
    assert!(files(folder.path()).contains(&"events-2026-11.3.db".to_owned()), "{:?}", files(folder.path()));
    // A batch whose answer was lost comes again, parts of it in other parts; late events lie among those of part 1.
    audit.record(rows[50..450].to_vec()).await.unwrap();
    let late: Vec<Judged> =
        (0..150).map(|number| judged(&EventIds::new(2), START + 3 * number as i64, number)).collect();
    audit.record(late.clone()).await.unwrap();
    audit.record(late.clone()).await.unwrap();
    let everything = [rows, late].concat();
    assert_eq!(audit.approximate_rows().await.unwrap(), everything.len() as u64);
    for size in [7, 100, 1_000] {
        assert_eq!(all(&audit, &limit(size)).await, newest_first(&everything), "pages of {size}");
    }
    for row in everything.iter().step_by(37) {
        assert_eq!(audit.get(row.event.id).await.unwrap().as_ref(), Some(row));
    }
    audit.close().await.unwrap();
    let audit = open(folder.path(), TINY);
    audit.record(everything.clone()).await.unwrap();
    assert_eq!(audit.approximate_rows().await.unwrap(), everything.len() as u64);
}

#[tokio::test]
async fn notes_of_an_event_are_found_whichever_part_was_written_when_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), TINY);
    let ids = EventIds::new(1);
    let row = judged(&ids, START, 1);
    let note = |attempt: u32| DeliveryNote {
        event_id: row.event.id,
        target: TargetName::new("moogsoft").unwrap(),
        at: Timestamp::from_millis(START + i64::from(attempt)),
        attempt,
        outcome: DeliveryOutcome::Retrying,
        answer: String::new(),
    };
    audit.record(vec![row.clone()]).await.unwrap();
    audit.note_deliveries(vec![note(1)]).await.unwrap();
    audit.record((0..500).map(|number| judged(&ids, START + 1, number)).collect()).await.unwrap();
    audit.note_deliveries(vec![note(2)]).await.unwrap();
    assert_eq!(audit.deliveries(row.event.id).await.unwrap(), [note(1), note(2)]);
}

#[tokio::test]
async fn a_damaged_part_is_set_aside_alone() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), TINY);
    let ids = EventIds::new(1);
    let rows: Vec<Judged> = (0..600).map(|number| judged(&ids, START + number as i64, number)).collect();
    for chunk in rows.chunks(100) {
        audit.record(chunk.to_vec()).await.unwrap();
    }
    audit.close().await.unwrap();
    let parts = files(folder.path()).iter().filter(|name| name.starts_with("events-2026-11")).count();
    assert!(parts >= 3);
    std::fs::write(folder.path().join("events-2026-11.2.db"), "no database at all ".repeat(10_000)).unwrap();
    let audit = open(folder.path(), TINY);
    let left = all(&audit, &limit(50)).await;
    assert!(left.len() < 600 && left.len() > 100, "{} rows", left.len());
    assert!(left.windows(2).all(|pair| pair[0] > pair[1]));
    // What the damaged part had is unknown, so what comes again from there is recorded again, nothing else is.
    audit.record(rows.clone()).await.unwrap();
    assert_eq!(all(&audit, &limit(50)).await, newest_first(&rows));
}

#[tokio::test]
async fn rows_go_by_the_time_of_receiving_whatever_the_device_says_its_clock_is() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), TINY);
    let ids = EventIds::new(1);
    let mut rows = Vec::new();
    for (number, device) in [START + 5_000 * DAY, START - 9_000 * DAY, START].into_iter().enumerate() {
        let mut row = judged(&ids, START, number);
        row.event.timestamp = Some(Timestamp::from_millis(device));
        rows.push(row);
    }
    audit.record(rows.clone()).await.unwrap();
    assert_eq!(files(folder.path()), ["events-2026-11.db", "events-2026-12.db"]);
    assert_eq!(audit.get(rows[0].event.id).await.unwrap().as_ref(), Some(&rows[0]), "the device's time is kept");
    assert_eq!(all(&audit, &limit(10)).await, newest_first(&rows));
}

#[tokio::test]
async fn a_clock_that_jumps_to_2040_and_back_breaks_neither_pages_nor_what_is_made_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(Timestamp::from_millis(START));
    let audit = AuditDb::open_with(folder.path(), clock.clone(), Live::constant(TINY)).unwrap();
    let ids = EventIds::new(1);
    let mut rows = vec![judged(&ids, START, 1)];
    audit.record(rows.clone()).await.unwrap();
    let in_2040 = 2_217_542_400_000;
    clock.advance(Duration::from_millis((in_2040 - START) as u64));
    rows.push(judged(&ids, clock.now().as_millis(), 2));
    audit.record(vec![rows[1].clone()]).await.unwrap();
    audit.close().await.unwrap();
    let made = ["events-2026-11.db", "events-2026-12.db", "events-2040-04.db", "events-2040-05.db"];
    assert_eq!(files(folder.path()), made);

    let audit = open(folder.path(), TINY);
    rows.push(judged(&EventIds::new(9), START + DAY, 3));
    audit.record(vec![rows[2].clone()]).await.unwrap();
    for size in [1, 2, 10] {
        assert_eq!(all(&audit, &limit(size)).await, newest_first(&rows));
    }
    let until = EventQuery { to: Some(Timestamp::from_millis(START + 30 * DAY)), ..limit(10) };
    assert_eq!(all(&audit, &until).await, [rows[2].event.id, rows[0].event.id]);
    audit.close().await.unwrap();
    assert_eq!(files(folder.path()), made[..3], "the empty file of a month that will not come for years is gone");
}
