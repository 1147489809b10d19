//! Retention against a model, on small days: cut off at every moment there is, with holds, restores, caps and erasures.

mod faulty;
mod holds;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt as _;
use tempfile::TempDir;

use super::*;
use crate::model::{
    Day, Decision, DeliveryNote, DeliveryOutcome, Environment, Event, EventId, Handling, Judged, Matched, Protocol,
    RuleId, Source, TargetName, Team,
};
use crate::store::archive::{Record, cut};
use crate::store::{ChangeQuery, EventQuery, HoldDraft, RecentSettings};

const DAY_MS: i64 = 86_400_000;
/// The first of January 2026, so that months end where one expects it.
const START: i64 = 1_767_225_600_000;

/// Free bytes that nobody can have.
const BROKEN: u64 = 7;

struct House {
    _folder: TempDir,
    clock: Clock,
    stores: Stores,
    retention: Retention,
    told: Arc<Mutex<Vec<String>>>,
    free: Arc<Mutex<u64>>,
    /// Whether notices can be sent.
    deaf: Arc<Mutex<bool>>,
    dir: PathBuf,
    settings: Settings,
    ids: EventIds,
}

fn settings() -> Settings {
    let mut settings = Settings::for_team(Team::new("NETO").unwrap());
    (settings.event_days, settings.archive_days) = (3, 10);
    settings
}

impl House {
    fn new(settings: Settings) -> Self {
        let folder = if std::path::Path::new("/dev/shm").exists() {
            tempfile::tempdir_in("/dev/shm").unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let clock = Clock::fixed(Timestamp::from_millis(START + DAY_MS / 2));
        Self::open(folder, clock, settings)
    }

    fn open(folder: TempDir, clock: Clock, settings: Settings) -> Self {
        let dir = folder.path().join("store");
        let stores = Stores::open(&dir, clock.clone(), Live::constant(RecentSettings::default())).unwrap();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&told);
        let free = Arc::new(Mutex::new(u64::MAX));
        let free_now = Arc::clone(&free);
        let deaf: Arc<Mutex<bool>> = Arc::default();
        let is_deaf = Arc::clone(&deaf);
        let retention = Retention::new(RetentionParts {
            stores: stores.clone(),
            settings: Live::constant(settings.clone()),
            tell: Arc::new(move |alert: Alert| {
                let sent = if *is_deaf.lock() { Err("the queue is full".to_owned()) } else { Ok(()) };
                if sent.is_ok() {
                    heard.lock().push(alert.event.message.to_string());
                }
                async { sent }.boxed()
            }),
            free: Arc::new(move || {
                let free = *free_now.lock();
                assert_ne!(free, BROKEN, "a fault of the program");
                Some(free)
            }),
            pace: Pace::Full,
            node: "mutt1".to_owned(),
            ids: EventIds::new(9),
            clock: clock.clone(),
            stop: CancellationToken::new(),
        });
        let ids = EventIds::new(u64::try_from(clock.now().as_millis()).unwrap());
        Self { _folder: folder, clock, stores, retention, told, free, deaf, dir, settings, ids }
    }

    /// As after a power cut: everything is dropped and read from the disk again.
    async fn reopen(self) -> Self {
        self.stores.close().await.unwrap();
        let Self { _folder: folder, clock, stores, retention, settings, .. } = self;
        drop((stores, retention));
        Self::open(folder, clock, settings)
    }

    fn next_day(&self) {
        self.clock.advance(Duration::from_hours(24));
    }

    fn today(&self) -> Day {
        Day::of(self.clock.now())
    }

    fn event(&self, at: Timestamp, host: &str) -> Judged {
        let mut event =
            Event::new(self.ids.next(at), at, Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 1].into() });
        event.hostname = host.into();
        event.message = format!("event of {at}").as_str().into();
        let matched = Matched { rule: RuleId(3), handling: Handling::PageOnly, team: Team::new("T").unwrap() };
        Judged { event, decision: Decision { environment: Environment::Prod, matched: Some(matched) } }
    }

    /// Some events of today, the third with a note.
    async fn record(&self, count: usize) -> Vec<EventId> {
        let now = self.clock.now();
        let events: Vec<Judged> =
            (0..count).map(|n| self.event(now.plus(Duration::from_millis(n as u64)), ["a", "b", "c"][n % 3])).collect();
        let ids: Vec<EventId> = events.iter().map(|judged| judged.event.id).collect();
        self.stores.audit.record(events).await.unwrap();
        if let Some(id) = ids.get(2) {
            self.stores.audit.note_deliveries(vec![note(*id, "ok")]).await.unwrap();
        }
        ids
    }

    fn change() -> Change {
        Change::new(ACTOR, "test")
    }

    async fn run(&self) -> Report {
        self.retention.execute(Task::Run(Self::change())).await.unwrap()
    }

    async fn live(&self) -> Vec<EventId> {
        let mut query = EventQuery { limit: 1_000, ..EventQuery::default() };
        let mut ids = Vec::new();
        loop {
            let page = self.stores.audit.search(&query).await.unwrap();
            ids.extend(page.items.iter().map(|judged| judged.event.id));
            query.before = page.next;
            if page.next.is_none() {
                return ids;
            }
        }
    }

    /// Every event in the archive with its notes, read from the files, one entry for each time it is there.
    fn archived(&self) -> Vec<(EventId, usize)> {
        let mut found = Vec::new();
        for file in self.stores.archive.files() {
            let reader = self.stores.archive.read(file.facts.name.parse().unwrap()).unwrap();
            for frame in &reader.index.frames {
                for record in reader.records(frame).unwrap() {
                    if let Record::Event(judged, notes) = record {
                        found.push((judged.event.id, notes.len()));
                    }
                }
            }
        }
        found
    }

    /// The change log has a line of each file whose events left the audit.
    async fn assert_told(&self, when: &str) {
        let query = ChangeQuery { table_name: Some("event_audit".into()), limit: 1_000, ..ChangeQuery::default() };
        let lines = self.stores.changes.changes(&query).await.unwrap();
        for file in self.stores.archive.files() {
            let is_told = |line: &crate::store::ChangeRow| format!("{line:?}").contains(&file.facts.name);
            assert!(lines.iter().any(is_told), "{when}: nobody was told of {}", file.facts.name);
        }
    }

    /// Each of `wanted` is in the audit or in the archive, once.
    async fn assert_exactly_once(&self, wanted: &BTreeSet<EventId>, when: &str) {
        let (live, archived) = (self.live().await, self.archived());
        let mut places: BTreeMap<EventId, u32> = BTreeMap::new();
        for id in live.into_iter().chain(archived.into_iter().map(|(id, _)| id)) {
            *places.entry(id).or_default() += 1;
        }
        assert!(places.values().all(|times| *times == 1), "{when}: an event is in two places");
        let found: BTreeSet<EventId> = places.into_keys().collect();
        assert_eq!(found, *wanted, "{when}");
        assert_eq!(self.stores.archive.overview().unwrap(), [], "{when}");
    }
}

fn note(event_id: EventId, answer: &str) -> DeliveryNote {
    DeliveryNote {
        event_id,
        target: TargetName::new("moog").unwrap(),
        at: Timestamp::from_millis(START),
        attempt: 1,
        outcome: DeliveryOutcome::Delivered,
        answer: answer.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stays_for_the_days_it_should_and_not_one_more() {
    let house = House::new(settings());
    let first = house.record(6).await;
    for day in 0..=3 {
        let report = house.run().await;
        assert_eq!((report.archived_rows, house.live().await.len()), (0, 6), "day {day}");
        house.next_day();
    }
    let report = house.run().await;
    assert_eq!(report.archived_rows, 6, "{report:?}");
    assert!(house.live().await.is_empty());
    let mut archived: Vec<EventId> = house.archived().into_iter().map(|(id, _)| id).collect();
    archived.sort_unstable();
    assert_eq!(archived, first);
    assert_eq!(house.archived().iter().filter(|(_, notes)| *notes == 1).count(), 1, "its note went with it");
    for _ in 4..10 {
        house.next_day();
        assert_eq!(house.run().await.deleted_rows, 0);
    }
    house.next_day();
    let report = house.run().await;
    assert_eq!((report.deleted_rows, house.archived().len()), (6, 0), "{report:?}");
    let query = ChangeQuery { user: Some(ACTOR.into()), limit: 100, ..ChangeQuery::default() };
    let lines = house.stores.changes.changes(&query).await.unwrap();
    let tables: BTreeSet<&str> = lines.iter().map(|line| line.table_name.as_str()).collect();
    assert_eq!(tables, BTreeSet::from(["archives", "event_audit"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_events_and_late_notes_make_a_further_file() {
    let house = House::new(settings());
    let first = house.record(6).await;
    let old = house.event(house.clock.now(), "late");
    for _ in 0..4 {
        house.next_day();
    }
    assert_eq!(house.run().await.archived_rows, 6);
    house.stores.audit.record(vec![old.clone()]).await.unwrap();
    house.stores.audit.note_deliveries(vec![note(first[0], "late"), note(first[0], "later")]).await.unwrap();
    let report = house.run().await;
    assert_eq!((report.archived_rows, report.archived.len(), house.stores.archive.files().len()), (1, 1, 2));
    assert!(house.stores.shelf.days(house.today()).await.unwrap().is_empty(), "nothing is left of that day");
    let (_, notes) = house.stores.archive.get(first[0]).unwrap();
    assert_eq!(notes.iter().map(|note| note.answer.as_str()).collect::<Vec<_>>(), ["late", "later"]);
    assert!(house.stores.archive.get(old.event.id).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_at_any_moment_nothing_is_lost_and_nothing_doubled() {
    let mut points = Vec::new();
    for cut_at in 0.. {
        let mut house = House::new(settings());
        let mut wanted: BTreeSet<EventId> = BTreeSet::new();
        let mut gone: BTreeSet<EventId> = BTreeSet::new();
        for _ in 0..12 {
            let ids = house.record(4).await;
            if house.today().since(Day::of(Timestamp::from_millis(START))) < 2 {
                gone.extend(&ids);
            }
            wanted.extend(ids);
            house.next_day();
            // Everything up to the day before the last is archived and the first is about to expire.
            if house.today().since(Day::of(Timestamp::from_millis(START))) < 10 {
                house.run().await;
            }
        }
        // The last run of the loop was two days ago: some days leave the audit, days 0 and 1 the archive.
        let runtime = tokio::runtime::Handle::current();
        let (inner, now) = (Arc::clone(&house.retention.inner), house.clock.now());
        let result = tokio::task::spawn_blocking(move || {
            cut::after(Some(cut_at));
            let result =
                catch_unwind(AssertUnwindSafe(|| Run::new(&inner, runtime, now).execute(Task::Run(House::change()))));
            cut::after(None);
            result.map(Result::unwrap).map_err(|thrown| match thrown.downcast::<cut::Cut>() {
                Ok(cut) => cut.0,
                Err(other) => std::panic::resume_unwind(other),
            })
        })
        .await
        .unwrap();
        house = house.reopen().await;
        let report = house.run().await;
        assert!(report.is_clean(), "cut at {cut_at}: {report:?}");
        let left: BTreeSet<EventId> = wanted.difference(&gone).copied().collect();
        house.assert_exactly_once(&left, &format!("cut at {cut_at} ({result:?})")).await;
        assert_eq!(house.live().await.len(), 12, "cut at {cut_at}");
        assert!(house.stores.changes.verify_trail(&[]).await.unwrap().is_whole());
        house.assert_told(&format!("cut at {cut_at} ({result:?})")).await;
        match result {
            Ok(_) => break,
            Err(point) => points.push(point),
        }
    }
    let kinds: BTreeSet<&str> = points.iter().copied().collect();
    assert!(points.len() > 10 && kinds.len() >= 6, "{points:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlives_its_archive_and_goes_when_the_hold_is_lifted() {
    let house = House::new(settings());
    let ids = house.record(6).await;
    let draft =
        HoldDraft { name: "case 7".into(), hostname: Some("B".into()), from: None, to: None, reason: "court".into() };
    let hold = house.stores.holds.place(draft, &House::change()).await.unwrap();
    let refused = house.stores.holds.request_erasure("b", "request", &House::change()).await;
    assert!(refused.unwrap_err().to_string().contains("case 7"));
    for _ in 0..15 {
        house.next_day();
        assert!(house.run().await.is_clean());
    }
    let kept: Vec<EventId> = house.archived().into_iter().map(|(id, _)| id).collect();
    assert_eq!(kept, [ids[1], ids[4]], "only the held host's events are left");
    house.stores.holds.lift(hold.id, &House::change()).await.unwrap();
    house.next_day();
    assert_eq!(house.run().await.deleted_rows, 2);
    assert!(house.archived().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_archive_is_searchable_and_leaves_without_being_archived_twice() {
    let house = House::new(settings());
    let ids: BTreeSet<EventId> = house.record(6).await.into_iter().collect();
    let late = house.event(house.clock.now(), "late");
    for _ in 0..5 {
        house.next_day();
        house.run().await;
    }
    let names: Vec<FileName> =
        house.stores.archive.files().iter().map(|file| file.facts.name.parse().unwrap()).collect();
    let until = house.clock.now().plus(Duration::from_hours(36));
    let task = Task::Restore { names, until, change: House::change() };
    house.retention.execute(task.clone()).await.unwrap();
    house.retention.execute(task).await.unwrap();
    assert_eq!(house.live().await.len(), 6);
    let page = EventQuery { limit: 4, ..EventQuery::default() };
    let numbered = house.stores.audit.numbered(&page, 0).await.unwrap();
    let next = house.stores.audit.numbered(&page, 4).await.unwrap();
    let seen: BTreeSet<EventId> = numbered.items.iter().chain(&next.items).map(|judged| judged.event.id).collect();
    assert_eq!((numbered.total, next.items.len(), seen.len()), (Some(6), 2, 6), "pages have each of them once");
    assert_eq!(house.stores.audit.deliveries(*ids.iter().nth(2).unwrap()).await.unwrap().len(), 1);
    house.stores.audit.record(vec![late.clone()]).await.unwrap();
    house.next_day();
    let report = house.run().await;
    assert_eq!((report.archived_rows, house.live().await.len()), (1, 6), "only the late one is new: {report:?}");
    let house = house.reopen().await;
    house.next_day();
    let report = house.run().await;
    assert_eq!((report.returned.len(), report.archived_rows, house.live().await.len()), (1, 0, 0));
    let wanted = ids.into_iter().chain([late.event.id]).collect();
    house.assert_exactly_once(&wanted, "after the restore").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_host_is_nowhere_and_the_others_are_where_they_were() {
    let house = House::new(settings());
    let mut of_b = Vec::new();
    for _ in 0..6 {
        let ids = house.record(9).await;
        of_b.extend(ids.into_iter().skip(1).step_by(3));
        let events: Vec<Judged> = (0..9).map(|_| house.event(house.clock.now(), "b")).collect();
        house.stores.recent.append(&Arc::new(events));
        house.next_day();
        house.run().await;
    }
    let before = (house.live().await.len(), house.archived().len());
    assert_eq!(before, (27, 27));
    house.stores.holds.request_erasure("B", "article 17", &House::change()).await.unwrap();
    let report = house.retention.execute(Task::Erase(House::change())).await.unwrap();
    assert_eq!((report.erasures, report.faults.len()), (1, 0), "{report:?}");
    let erased = house.stores.holds.erasures().await.unwrap()[0].clone();
    assert_eq!((erased.erased.audit, erased.erased.archive, erased.erased.recent), (9, 9, 54), "{erased:?}");
    assert!(erased.finished_at.is_some());
    let query = EventQuery { hostname: Some("b".into()), limit: 10, ..EventQuery::default() };
    assert!(house.stores.audit.search(&query).await.unwrap().items.is_empty());
    assert!(house.stores.recent.search(&query).await.unwrap().items.is_empty());
    assert!(
        house
            .stores
            .archive
            .search(&query.prepared(), std::time::Instant::now() + Duration::from_secs(9))
            .items
            .is_empty()
    );
    assert_eq!((house.live().await.len(), house.archived().len()), (18, 18));
    // Nor is what it said in the audit's files: free pages are overwritten, logs written back.
    house.stores.close().await.unwrap();
    for entry in std::fs::read_dir(house.dir.join("audit")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for id in &of_b {
            assert!(!bytes.windows(16).any(|window| window == id.as_bytes()), "an id of the host is still in a file");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_bite_the_oldest_first_and_people_are_told_before_and_after() {
    let house = House::new(settings());
    for _ in 0..9 {
        house.record(400).await;
        house.next_day();
        house.run().await;
    }
    let used = house.stores.shelf.size().await.unwrap().used;
    let archive = house.stores.archive.size().1;
    let days = house.stores.archive.files().len();
    let tight = Settings { archive_max_bytes: archive * 100 / 90, audit_max_bytes: used * 100 / 90, ..settings() };
    let mut house = house.reopen().await;
    house = House::open(house._folder, house.clock, tight.clone());
    house.run().await;
    let told = house.told.lock().join("\n");
    assert!(told.contains("the audit has used 80 %") && told.contains("the archive has used 80 %"), "{told}");
    let tighter = Settings { archive_max_bytes: archive / 2, audit_max_bytes: used / 2, ..tight };
    house = house.reopen().await;
    house = House::open(house._folder, house.clock, tighter);
    let oldest = house.stores.archive.files()[0].facts.name.clone();
    let report = house.run().await;
    assert_eq!(report.deleted[0].name, oldest);
    assert!(house.stores.archive.files().len() < days + report.archived.len(), "{report:?}");
    assert!(report.archived.iter().any(|day| day.day >= report.keeps_events_from.unwrap()), "{report:?}");
    let told = house.told.lock().join("\n");
    assert!(told.contains("the audit reached its cap") && told.contains("the archive reached its cap"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_disk_and_a_jumping_clock_delete_nothing() {
    let house = House::new(settings());
    house.record(6).await;
    for _ in 0..4 {
        house.next_day();
    }
    *house.free.lock() = 1_000;
    let report = house.run().await;
    assert!(report.faults[0].contains("retention_min_free_bytes"), "{report:?}");
    assert_eq!((house.live().await.len(), house.archived().len()), (6, 0));
    assert!(house.told.lock()[0].contains("the retention run failed"));
    *house.free.lock() = u64::MAX;
    house.run().await;
    assert!(house.told.lock()[1].contains("went well again"));
    // The clock jumps by a year: archives stay this time, and go the day after if the date was right.
    for _ in 0..365 {
        house.next_day();
    }
    let report = house.run().await;
    assert_eq!((report.deleted_rows, report.postponed.len()), (0, 1), "{report:?}");
    let again = house.run().await;
    assert_eq!((again.deleted_rows, again.postponed.len()), (0, 1), "the same day is no better: {again:?}");
    house.next_day();
    assert_eq!(house.run().await.deleted_rows, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_a_run_does_and_does_nothing() {
    let house = House::new(settings());
    for _ in 0..12 {
        house.record(5).await;
        house.next_day();
        if house.today().since(Day::of(Timestamp::from_millis(START))) < 11 {
            house.run().await;
        }
    }
    let (live, archived) = (house.live().await, house.archived());
    let dry = house.retention.execute(Task::DryRun(House::change())).await.unwrap();
    assert_eq!((house.live().await, house.archived()), (live, archived));
    let wet = house.run().await;
    assert!(dry.archived_rows > 0 && dry.deleted_rows > 0);
    assert_eq!(what_is_said(&dry), what_is_said(&wet));
}

/// What a dry run can know: everything but the files that are written and how large they are.
fn what_is_said(report: &Report) -> impl PartialEq + std::fmt::Debug {
    let days: Vec<(Day, u64)> = report.archived.iter().map(|day| (day.day, day.rows)).collect();
    let Report { archived_rows, deleted_rows, change_lines, settled, .. } = *report;
    let lists = (report.deleted.clone(), report.returned.clone(), report.dropped.clone(), report.postponed.clone());
    (days, archived_rows, deleted_rows, change_lines, settled, lists)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_knows_holds_restores_months_and_a_clock_that_was_set() {
    let short = Settings { event_days: 2, config_audit_days: 3, ..settings() };
    let house = House::new(short);
    // The first file to drop is that of January.
    house.clock.advance(Duration::from_hours(24 * 24));
    let draft =
        HoldDraft { name: "case 8".into(), hostname: Some("a".into()), from: None, to: None, reason: "court".into() };
    house.stores.holds.place(draft, &House::change()).await.unwrap();
    let (mut held, mut dropped, mut returned, mut cut) = (0, 0, 0, 0);
    for day in 0..26 {
        house.record(6).await;
        house.clock.advance(Duration::from_hours(if day == 20 { 24 * 9 } else { 24 }));
        if day == 8 {
            let name = house.stores.archive.files()[0].facts.name.parse().unwrap();
            let until = house.clock.now().plus(Duration::from_hours(40));
            let task = Task::Restore { names: vec![name], until, change: House::change() };
            house.retention.execute(task).await.unwrap();
        }
        let dry = house.retention.execute(Task::DryRun(House::change())).await.unwrap();
        let wet = house.run().await;
        assert_eq!(what_is_said(&dry), what_is_said(&wet), "day {day}");
        held += wet.deleted.iter().map(|file| file.held).sum::<u64>();
        (dropped, returned) = (dropped + wet.dropped.len(), returned + wet.returned.len());
        cut += wet.change_lines;
        if day == 20 {
            assert_eq!((wet.postponed.len(), wet.deleted_rows, wet.change_lines), (2, 0, 0), "{wet:?}");
        }
    }
    assert!(held > 0 && dropped > 0 && returned == 1 && cut > 0, "{held} {dropped} {returned} {cut}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_change_log_loses_its_oldest_lines_and_verifies() {
    let mut short = settings();
    short.config_audit_days = 5;
    let house = House::new(short);
    let early = house.stores.changes.trail_head().await.unwrap();
    for _ in 0..20 {
        house.record(3).await;
        house.next_day();
        assert!(house.run().await.is_clean());
    }
    let report = house.stores.changes.verify_trail(&[]).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    let cut = report.cut.clone().expect("lines were cut off");
    assert!(cut.lines > 5 && report.lines > cut.lines);
    let oldest = ChangeQuery { ascending: true, limit: 1, ..ChangeQuery::default() };
    let oldest = house.stores.changes.changes(&oldest).await.unwrap()[0].clone();
    assert!(oldest.id > cut.last_id && house.clock.now().since(oldest.changed_at) < Duration::from_hours(6 * 24));
    assert!(house.stores.changes.verify_trail(&[cut]).await.unwrap().is_whole(), "the cut itself is a head");
    let from_before = house.stores.changes.verify_trail(&[early]).await.unwrap();
    assert!(from_before.lines > 0);
    let house = house.reopen().await;
    assert!(house.stores.changes.verify_trail(&[]).await.unwrap().is_whole());
}
