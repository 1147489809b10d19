//! The audit over several parts and months: rolling, late events, clocks that jump, damage to one part.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::AuditDb;
use super::audit_search::{self, Budget};
use super::index;
use super::partition::Month;
use super::walk::Work;
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{
    Decision, DeliveryNote, DeliveryOutcome, Environment, Event, EventId, EventIds, Handling, Judged, Matched,
    Protocol, RuleId, Severity, Source, TargetName, Team, Timestamp,
};
use crate::store::{AuditLog, AuditSettings, EventQuery};

/// 2026-11-21T00:00:00Z
pub(super) const START: i64 = 1_795_219_200_000;
const DAY: i64 = 86_400_000;

/// Tests do not go by time.
const PATIENT: Budget = Budget { search: Duration::from_secs(60), count: Duration::from_secs(60) };

/// Parts of one small transaction each.
pub(super) const TINY: AuditSettings = AuditSettings { advance_months: 1, max_bytes: 64 << 10 };

pub(super) fn open(folder: &Path, settings: AuditSettings) -> AuditDb {
    open_at(folder, settings, START)
}

fn open_at(folder: &Path, settings: AuditSettings, now: i64) -> AuditDb {
    let clock = Clock::fixed(Timestamp::from_millis(now));
    AuditDb::open_with(folder, clock, Live::constant(settings)).expect("opens")
}

pub(super) fn judged(ids: &EventIds, millis: i64, number: usize) -> Judged {
    let at = Timestamp::from_millis(millis);
    let source = Source { protocol: Protocol::SyslogUdp, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let mut event = Event::new(ids.next(at), at, source);
    event.hostname = format!("r{}", number % 5).into();
    event.message = format!("{number}: {}", "x".repeat(200)).into();
    event.severity = Severity::new((number % 3) as u8);
    let team = Team::new("NETO").expect("a team");
    let matched = (!number.is_multiple_of(4)).then(|| Matched {
        rule: RuleId(i64::try_from(number % 4).expect("small")),
        handling: Handling::PageOnly,
        team,
    });
    Judged { event, decision: Decision { environment: Environment::Prod, matched } }
}

pub(super) async fn all(audit: &AuditDb, query: &EventQuery) -> Vec<EventId> {
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

pub(super) fn limit(limit: usize) -> EventQuery {
    EventQuery { limit, ..EventQuery::default() }
}

pub(super) fn newest_first(rows: &[Judged]) -> Vec<EventId> {
    let mut ids: Vec<EventId> = rows.iter().map(|row| row.event.id).collect();
    ids.sort_unstable();
    ids.reverse();
    ids
}

pub(super) fn files(folder: &Path) -> Vec<String> {
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

/// A search with what it cost.
fn costed(audit: &AuditDb, query: &EventQuery) -> (Vec<EventId>, Work) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let (page, work) = audit_search::search(audit.months(), &query.prepared(), deadline).expect("a page");
    (page.items.iter().map(|judged| judged.event.id).collect(), work)
}

#[tokio::test]
async fn a_search_reads_the_rows_it_answers_with_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), AuditSettings::default());
    let ids = EventIds::new(1);
    // 20 runs in two months; one host is there three times, one rule once.
    let mut rows: Vec<Judged> = Vec::new();
    for number in 0..20_480 {
        let mut row = judged(&ids, START + number as i64 * 60_000, number);
        if number % 8_000 == 77 {
            row.event.hostname = "Rare.".into();
        }
        if number == 5_000 {
            row.decision.matched = row
                .decision
                .matched
                .take()
                .or(rows[1].decision.matched.clone())
                .map(|matched| Matched { rule: RuleId(99), ..matched });
        }
        rows.push(row);
    }
    for chunk in rows.chunks(1_500) {
        audit.record(chunk.to_vec()).await.unwrap();
    }
    let check = |query: EventQuery, most_rows: u64, most_runs: u64| {
        let prepared = query.prepared();
        let mut expected: Vec<&Judged> = rows.iter().filter(|row| prepared.matches(row)).collect();
        expected.reverse();
        expected.truncate(query.limit);
        let (found, work) = costed(&audit, &query);
        assert_eq!(found, expected.iter().map(|row| row.event.id).collect::<Vec<_>>(), "{query:?}");
        assert!(work.rows <= most_rows && work.runs <= most_runs, "{query:?}: {work:?}");
    };
    let base = limit(20);
    let time = |number: i64| Some(Timestamp::from_millis(START + number * 60_000));
    check(base.clone(), 21, 0);
    check(EventQuery { hostname: Some("rare".into()), ..base.clone() }, 3, 20);
    check(EventQuery { hostname: Some("nobody".into()), ..base.clone() }, 0, 0);
    check(EventQuery { rule: Some(RuleId(99)), ..base.clone() }, 1, 20);
    check(EventQuery { rule: Some(RuleId(100)), ..base.clone() }, 0, 20);
    check(EventQuery { hostname: Some("r1".into()), ..base.clone() }, 21, 2);
    check(EventQuery { hostname: Some("r1".into()), rule: Some(RuleId(3)), ..base.clone() }, 21, 2);
    check(EventQuery { severity: Severity::new(2), matched: Some(false), ..base.clone() }, 21, 2);
    check(EventQuery { protocol: Some(Protocol::Http), ..base.clone() }, 0, 20);
    check(EventQuery { hostname: Some("rare".into()), from: time(100), to: time(9_000), ..base.clone() }, 1, 10);
    check(EventQuery { hostname: Some("r2".into()), before: Some(rows[10_000].event.id), ..base.clone() }, 30, 2);
    check(EventQuery { from: time(5_000), to: time(5_010), ..base.clone() }, 11, 0);
}

#[tokio::test]
async fn a_page_is_as_quick_at_any_depth_and_knows_how_many_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), AuditSettings { max_bytes: 1 << 20, ..TINY });
    let ids = EventIds::new(1);
    let rows: Vec<Judged> = (0..12_000).map(|number| judged(&ids, START + number as i64 * 200_000, number)).collect();
    for chunk in rows.chunks(1_000) {
        audit.record(chunk.to_vec()).await.unwrap();
    }
    let check = |query: EventQuery, skip: usize| {
        let prepared = query.prepared();
        let mut hits: Vec<EventId> = rows.iter().filter(|row| prepared.matches(row)).map(|row| row.event.id).collect();
        hits.reverse();
        let (page, work) = audit_search::numbered(audit.months(), &prepared, skip as u64, PATIENT).expect("a page");
        let found: Vec<EventId> = page.items.iter().map(|row| row.event.id).collect();
        let expected: Vec<EventId> = hits.iter().skip(skip).take(query.limit).copied().collect();
        assert_eq!(found, expected, "{query:?} after {skip}");
        assert_eq!(page.has_more, hits.len() > skip + query.limit, "{query:?} after {skip}");
        if query.text.is_none() {
            assert_eq!(page.total, Some(hits.len() as u64), "{query:?} after {skip}");
            assert!(work.rows <= query.limit as u64 + 1, "{query:?} after {skip}: {work:?}");
        }
    };
    let time = |number: i64| Some(Timestamp::from_millis(START + number * 200_000));
    for skip in [0, 1, 99, 1_000, 2_345, 11_990, 12_000, 1_000_000] {
        check(limit(20), skip);
        check(EventQuery { matched: Some(true), ..limit(20) }, skip);
        check(EventQuery { hostname: Some("r1".into()), rule: Some(RuleId(2)), ..limit(20) }, skip);
        check(EventQuery { from: time(2_000), to: time(9_000), ..limit(20) }, skip);
        check(EventQuery { hostname: Some("nobody".into()), ..limit(20) }, skip);
    }
    check(EventQuery { text: Some("7: X".into()), ..limit(20) }, 50);
}

#[tokio::test]
async fn a_file_of_before_the_index_is_read_as_it_is_and_given_one_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), AuditSettings::default());
    let ids = EventIds::new(1);
    let rows: Vec<Judged> = (0..3_000).map(|number| judged(&ids, START - 40 * DAY + number as i64, number)).collect();
    audit.record(rows.clone()).await.unwrap();
    audit.close().await.unwrap();
    let file = folder.path().join("events-2026-10.db");
    let old = rusqlite::Connection::open(&file).unwrap();
    old.execute_batch(
        "DROP TABLE batches; DROP TABLE runs; DROP TABLE ordinals; DROP TABLE postings;
         CREATE TABLE digests (id INTEGER PRIMARY KEY);
         DELETE FROM facts WHERE name = 'unindexed'; PRAGMA user_version = 1;",
    )
    .unwrap();
    let query = EventQuery { hostname: Some("r3".into()), ..limit(50) };
    let expected: Vec<EventId> =
        newest_first(&rows.iter().filter(|row| row.event.hostname == "r3").cloned().collect::<Vec<_>>());

    let months = Arc::new(super::months::Months::scan(folder.path()).unwrap());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let (page, _) = audit_search::search(&months, &query.prepared(), deadline).unwrap();
    assert_eq!(page.items.iter().map(|row| row.event.id).collect::<Vec<_>>(), expected[..50]);

    let audit = open(folder.path(), AuditSettings::default());
    audit.errand(|writer| writer.index_old_files()).await.unwrap();
    let (found, work) = costed(&audit, &query);
    assert_eq!(found, expected[..50]);
    assert!(work.rows <= 51, "{work:?}");
}

#[tokio::test]
async fn damage_to_the_index_costs_time_and_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), AuditSettings::default());
    let ids = EventIds::new(1);
    let rows: Vec<Judged> = (0..5_000).map(|number| judged(&ids, START + number as i64, number)).collect();
    for chunk in rows.chunks(700) {
        audit.record(chunk.to_vec()).await.unwrap();
    }
    audit.close().await.unwrap();
    let file = rusqlite::Connection::open(folder.path().join("events-2026-11.db")).unwrap();
    file.execute_batch(
        "UPDATE postings SET body = x'0102' WHERE run = 1; UPDATE runs SET chunks = x'' WHERE id = 2;
         UPDATE ordinals SET body = x'00' WHERE id % 3 = 0; UPDATE batches SET body = zeroblob(40);",
    )
    .unwrap();
    drop(file);
    let audit = open(folder.path(), AuditSettings::default());
    for query in [
        EventQuery { hostname: Some("r3".into()), ..limit(100) },
        EventQuery { matched: Some(false), severity: Severity::new(1), ..limit(100) },
    ] {
        let prepared = query.prepared();
        let expected: Vec<Judged> = rows.iter().filter(|row| prepared.matches(row)).cloned().collect();
        assert_eq!(all(&audit, &query).await, newest_first(&expected));
    }
    // The rows of the damaged batches are noted again from the rows themselves when the next run is made.
    let more: Vec<Judged> = (0..1_500).map(|number| judged(&ids, START + 9_000 + number as i64, number)).collect();
    audit.record(more).await.unwrap();
    let months = Arc::clone(audit.months());
    let part = months.newest_first().into_iter().find(|part| part.partition.month == Month::of_millis(START)).unwrap();
    let noted = months.read(&part, index::noted).unwrap();
    assert!(noted.contains(&rows[4_999].event.id.ordinal()));
}

/// What happens to an audit.
#[derive(Debug, Clone)]
enum Act {
    /// New rows, so many, some minutes after the last.
    Record(usize),
    /// New rows of an earlier time.
    Late(usize, u32),
    /// Rows that were recorded already come again, from this one on.
    Again(usize, usize),
    /// The partition with this number, counted over those there are, is removed.
    Remove(usize),
    /// The process ends and starts again.
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => (1_usize..700).prop_map(Act::Record),
        3 => (1_usize..90, 1_u32..90_000).prop_map(|(count, minutes)| Act::Late(count, minutes)),
        2 => (0_usize..5_000, 1_usize..900).prop_map(|(from, count)| Act::Again(from, count)),
        1 => (0_usize..20).prop_map(Act::Remove),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec(act, 1..14)
}

/// The audit, and what it should hold: for each file the rows that were recorded into it.
struct Checked {
    folder: tempfile::TempDir,
    audit: AuditDb,
    rows: BTreeMap<EventId, Judged>,
    history: Vec<Judged>,
    now: i64,
    seed: u64,
}

impl Checked {
    const SETTINGS: AuditSettings = AuditSettings { advance_months: 1, max_bytes: 220 << 10 };

    async fn act(&mut self, act: Act) {
        match act {
            Act::Record(count) => {
                self.now += 7 * 60_000;
                self.record(count, self.now, 40).await;
            }
            Act::Late(count, minutes) => self.record(count, self.now - i64::from(minutes) * 60_000, 1_000).await,
            Act::Again(from, count) => {
                let from = from.min(self.history.len());
                let again: Vec<Judged> = self.history[from..].iter().take(count).cloned().collect();
                self.audit.record(again.clone()).await.expect("recorded");
                self.rows.extend(again.into_iter().map(|row| (row.event.id, row)));
            }
            Act::Remove(number) => {
                let files = self.audit.months().newest_first();
                let partition = files[number % files.len()].partition;
                let gone = self.audit.months().read(&files[number % files.len()], index::noted).expect("read");
                self.audit.errand(move |writer| writer.drop_partition(partition)).await.expect("removed");
                let month = partition.month;
                self.rows.retain(|id, _| Month::of(*id) != month || !gone.contains(&id.ordinal()));
            }
            Act::Restart => {
                self.audit.close().await.expect("closed");
                self.audit = open(self.folder.path(), Self::SETTINGS);
            }
        }
    }

    async fn record(&mut self, count: usize, at: i64, step: i64) {
        self.seed += 1;
        let ids = EventIds::new(self.seed);
        let rows: Vec<Judged> = (0..count).map(|number| judged(&ids, at + number as i64 * step, number)).collect();
        self.audit.record(rows.clone()).await.expect("recorded");
        self.history.extend(rows.iter().cloned());
        self.rows.extend(rows.into_iter().map(|row| (row.event.id, row)));
    }

    async fn check(&self) {
        let queries = [
            limit(97),
            limit(1_000),
            EventQuery { hostname: Some("r1".into()), ..limit(50) },
            EventQuery { rule: Some(RuleId(2)), severity: Severity::new(1), ..limit(33) },
            EventQuery { matched: Some(false), to: Some(Timestamp::from_millis(self.now - 60_000)), ..limit(200) },
        ];
        for query in queries {
            let prepared = query.prepared();
            let hits = self.rows.values().rev().filter(|row| prepared.matches(row)).map(|row| row.event.id);
            let hits: Vec<EventId> = hits.collect();
            assert_eq!(all(&self.audit, &query).await, hits, "{query:?}");
            let skip = 3 * query.limit as u64;
            let (page, _) = audit_search::numbered(self.audit.months(), &prepared, skip, PATIENT).expect("a page");
            assert_eq!(page.total, Some(hits.len() as u64), "{query:?}");
            let found: Vec<EventId> = page.items.iter().map(|row| row.event.id).collect();
            let expected: Vec<EventId> = hits.iter().skip(3 * query.limit).take(query.limit).copied().collect();
            assert_eq!(found, expected, "{query:?}");
        }
        assert_eq!(self.audit.approximate_rows().await.expect("counted"), self.rows.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_audit_holds_what_was_recorded_whatever_happens_to_it(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let audit = open(folder.path(), Checked::SETTINGS);
            let mut checked = Checked { folder, audit, rows: BTreeMap::new(), history: Vec::new(), now: START, seed: 0 };
            for act in acts {
                checked.act(act).await;
            }
            checked.check().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_whole_while_events_come_in_and_runs_and_parts_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Arc::new(open(folder.path(), Checked::SETTINGS));
    let ids = EventIds::new(1);
    let rows: Vec<Judged> = (0..4_000).map(|number| judged(&ids, START + number as i64, number)).collect();
    audit.record(rows.clone()).await.unwrap();
    let writing = tokio::spawn({
        let audit = Arc::clone(&audit);
        async move {
            let ids = EventIds::new(2);
            for round in 0..40 {
                let more = (0..150).map(|number| judged(&ids, START + 100_000 + round * 100, number)).collect();
                audit.record(more).await.expect("recorded");
            }
        }
    });
    let query = EventQuery { before: Some(EventId::floor(EventId::ordinal_at(START + 50_000))), ..limit(60) };
    let of_host = EventQuery { hostname: Some("r4".into()), ..query.clone() };
    let hits: Vec<Judged> = rows.iter().filter(|row| row.event.hostname == "r4").cloned().collect();
    let mut rounds = 0;
    while !writing.is_finished() || rounds == 0 {
        assert_eq!(all(&audit, &query).await, newest_first(&rows));
        assert_eq!(all(&audit, &of_host).await, newest_first(&hits));
        rounds += 1;
    }
    writing.await.unwrap();
    assert_eq!(all(&audit, &limit(1_000)).await.len(), 10_000);
}
