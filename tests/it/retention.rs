//! The proof of retention: three years of events, retention day by day with a clock that is handed in, and on each day each
//! event is in exactly one place: audit, archive, or expired. By counts and by checksums, over every event.
//!
//! The same with the real program killed (SIGKILL) at random moments of its run, and with a disk that fills under it.
//! `MUTTD_TEST_RETENTION_DAYS` and `MUTTD_TEST_RETENTION_KILLS` ask for more than the usual.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use muttd::clock::Clock;
use muttd::live::Live;
use muttd::model::{
    Day, Decision, Environment, Event, EventId, EventIds, Handling, Judged, Matched, Protocol, RuleId, Source, Team,
    Timestamp,
};
use muttd::store::archive::Record;
use muttd::store::{Change, EventQuery, RecentSettings, Stores};
use muttd::upkeep::retention::{Pace, Report, Retention, RetentionParts, Settings, Task};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::SmallDisk;

/// 2024-01-01, so that the three years have a 29th of February.
const START: i64 = 1_704_067_200_000;
const EVENT_DAYS: i64 = 90;
const ARCHIVE_DAYS: i64 = 365;

pub(crate) fn asked(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Small numbers that look random and are the same every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What identifies an event and all it says.
pub(crate) fn checksum(judged: &Judged) -> [u8; 32] {
    let mut bytes = Vec::new();
    judged.write(&mut bytes);
    // The compact form may lay the same texts out differently; what it says is compared.
    let said = format!("{:?}", Judged::read(&bytes).expect("its own form"));
    Sha256::digest(said.as_bytes()).into()
}

/// How often each event is there, as it is there.
fn times_of_each(events: Vec<Judged>) -> BTreeMap<(EventId, [u8; 32]), usize> {
    let mut times = BTreeMap::new();
    for judged in events {
        *times.entry((judged.event.id, checksum(&judged))).or_default() += 1;
    }
    times
}

pub(crate) fn event(ids: &EventIds, at: Timestamp, dice: &mut Dice) -> Judged {
    let source = Source { protocol: Protocol::SyslogUdp, peer: [192, 0, 2, 9].into() };
    let mut event = Event::new(ids.next(at), at, source);
    event.hostname = format!("sw{}", dice.roll(20)).as_str().into();
    event.raw = format!("<13>link {} is {}", dice.roll(48), ["up", "down"][dice.roll(2) as usize]).as_str().into();
    event.message = event.raw.part(&event.raw[4..]);
    let matched = Matched {
        rule: RuleId(dice.roll(9) as i64),
        handling: Handling::TicketOnly,
        team: Team::new("NETO").expect("a team"),
    };
    Judged { event, decision: Decision { environment: Environment::Prod, matched: Some(matched) } }
}

/// A folder that forgets on a reboot, where there is one: thousands of syncs cost nothing there.
fn folder() -> TempDir {
    match tempfile::tempdir_in("/dev/shm") {
        Ok(folder) => folder,
        Err(_) => tempfile::tempdir().expect("a temporary directory"),
    }
}

pub(crate) struct Site {
    pub(crate) stores: Stores,
    retention: Retention,
}

impl Site {
    pub(crate) fn open(dir: &Path, clock: &Clock) -> Self {
        let recent = Live::constant(RecentSettings::default());
        let stores = Stores::open(&dir.join("store"), clock.clone(), recent).expect("the stores open");
        let team = Team::new("NETO").expect("a team");
        let settings = Settings { event_days: EVENT_DAYS, archive_days: ARCHIVE_DAYS, ..Settings::for_team(team) };
        let retention = Retention::new(RetentionParts {
            stores: stores.clone(),
            settings: Live::constant(settings),
            tell: Arc::new(|_| Box::pin(async { Ok(()) })),
            free: Arc::new(|| None),
            pace: Pace::Full,
            node: "mutt1".to_owned(),
            ids: EventIds::new(5),
            clock: clock.clone(),
            stop: CancellationToken::new(),
        });
        Self { stores, retention }
    }

    async fn run(&self) -> Report {
        let report = self.retention.execute(Task::Run(Change::new("retention", "proof"))).await.expect("the run ends");
        assert!(report.is_clean(), "{report:?}");
        report
    }

    /// Every event of the audit.
    pub(crate) async fn live(&self) -> Vec<Judged> {
        let mut query = EventQuery { limit: 1_000, ..EventQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = self.stores.audit.search(&query).await.expect("a page");
            // What the appliance itself tells about its runs is not part of the proof.
            found.extend(page.items.into_iter().filter(|judged| judged.event.source.protocol != Protocol::Internal));
            query.before = page.next;
            if page.next.is_none() {
                return found;
            }
        }
    }

    /// Every event of the archive, as often as it is there.
    pub(crate) fn archived(&self) -> Vec<Judged> {
        let mut found = Vec::new();
        for file in self.stores.archive.files() {
            let reader = self.stores.archive.read(file.facts.name.parse().expect("a name")).expect("it opens");
            for frame in &reader.index.frames {
                for record in reader.records(frame).expect("it is whole") {
                    if let Record::Event(judged, _) = record {
                        found.push(*judged);
                    }
                }
            }
        }
        found
    }
}

/// Compares every place with what should be there.
pub(crate) async fn prove(site: &Site, made: &BTreeMap<EventId, [u8; 32]>, today: Day, what: &str) {
    let mut live = BTreeMap::new();
    for judged in site.live().await {
        assert!(live.insert(judged.event.id, checksum(&judged)).is_none(), "{what}: an event is twice in the audit");
    }
    let mut archived = BTreeMap::new();
    for judged in site.archived() {
        let before = archived.insert(judged.event.id, checksum(&judged));
        assert!(before.is_none(), "{what}: event {} is twice in the archive", judged.event.id);
    }
    let (keeps, expires) = (today.plus(-EVENT_DAYS), today.plus(-ARCHIVE_DAYS));
    for (id, sum) in made {
        let day = Day::of_event(*id);
        let expected = if day >= keeps {
            (Some(sum), None)
        } else if day >= expires {
            (None, Some(sum))
        } else {
            (None, None)
        };
        assert_eq!((live.get(id), archived.get(id)), expected, "{what}: event {id} of {day}");
    }
    let there = live.len() + archived.len();
    let wanted = made.keys().filter(|id| Day::of_event(**id) >= expires).count();
    assert_eq!(there, wanted, "{what}: there is something that nobody sent");
    assert_eq!(site.stores.archive.overview().expect("it can be looked at"), [], "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_three_years_each_event_is_in_exactly_one_place_on_each_day() {
    let dir = folder();
    let clock = Clock::fixed(Timestamp::from_millis(START + 10 * 3_600_000));
    let mut site = Site::open(dir.path(), &clock);
    let (ids, mut dice) = (EventIds::new(77), Dice(42));
    let mut made: BTreeMap<EventId, [u8; 32]> = BTreeMap::new();
    let mut made_on: BTreeMap<Day, u64> = BTreeMap::new();
    let (mut archived, mut deleted, mut late) = (0, 0, Vec::new());
    let days = asked("MUTTD_TEST_RETENTION_DAYS", 3 * 365 + 1);
    for day in 0..days {
        let mut events: Vec<Judged> =
            (0..1 + dice.roll(6)).map(|n| event(&ids, clock.now().plus(Duration::from_secs(n)), &mut dice)).collect();
        if dice.roll(40) == 0 {
            // What a queue gives back months later keeps its day.
            late.push((day + 100, events.pop().expect("one")));
        }
        late.retain(|(due, judged)| {
            if *due == day {
                events.push(judged.clone());
            }
            *due != day
        });
        for judged in &events {
            made.insert(judged.event.id, checksum(judged));
            *made_on.entry(Day::of_event(judged.event.id)).or_default() += 1;
        }
        site.stores.audit.record(events).await.expect("recorded");
        let report = site.run().await;
        archived += report.archived_rows;
        deleted += report.deleted_rows;
        // Counts every day; every event and every checksum on one day in seven, and around the ends of months.
        let today = Day::of(clock.now());
        let live = site.stores.shelf.size().await.expect("a size").rows;
        let files: u64 = site.stores.archive.files().iter().map(|file| file.facts.rows).sum();
        assert_eq!(live + files + deleted, made.len() as u64, "{today}: counts");
        assert_eq!(
            (files, deleted),
            (archived - deleted, deleted),
            "{today}: what was archived is there or was deleted"
        );
        let of_age = |from: i64, to: i64| -> u64 {
            made_on.iter().filter(|(day, _)| (from..to).contains(&today.since(**day))).map(|(_, count)| *count).sum()
        };
        assert_eq!(live, of_age(0, EVENT_DAYS + 1), "{today}: the audit");
        assert_eq!(files, of_age(EVENT_DAYS + 1, ARCHIVE_DAYS + 1), "{today}: the archive");
        if day % 7 == 0 || today.day_of_month() <= 1 || day + 1 == days {
            prove(&site, &made, today, &today.to_string()).await;
        }
        if day % 200 == 150 {
            site.stores.close().await.expect("closed");
            drop(site);
            site = Site::open(dir.path(), &clock);
        }
        clock.advance(Duration::from_hours(24));
    }
    assert!(site.stores.changes.verify_trail(&[]).await.expect("verified").is_whole());
    assert!(days < 400 || deleted > 0, "archives expired too");
    for file in site.stores.archive.files() {
        let name = file.facts.name.parse().expect("a name");
        assert_eq!(site.stores.archive.verify(name, &|| ()).expect("it can be read"), None);
    }
}

/// A data directory with events of many past days, for the real program and its real clock.
pub(crate) async fn past_days(dir: &Path, days: i64, each: u64) -> BTreeMap<EventId, [u8; 32]> {
    let clock = Clock::system();
    let site = Site::open(dir, &clock);
    let (ids, mut dice) = (EventIds::new(3), Dice(7));
    let mut made = BTreeMap::new();
    let today = Day::of(clock.now());
    for day in (0..days).rev() {
        let noon = today.plus(-EVENT_DAYS - day).start().plus(Duration::from_hours(12));
        let events: Vec<Judged> =
            (0..each).map(|n| event(&ids, noon.plus(Duration::from_millis(n)), &mut dice)).collect();
        made.extend(events.iter().map(|judged| (judged.event.id, checksum(judged))));
        site.stores.audit.record(events).await.expect("recorded");
    }
    site.stores.close().await.expect("closed");
    made
}

pub(crate) fn muttd(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muttd"));
    command.args(["retention", "--json", "--url", "http://127.0.0.1:9", "--data"]).arg(dir).arg("run");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("MUTTD_DYNAMIC_ARCHIVE_RETENTION_DAYS", ARCHIVE_DAYS.to_string());
    command.env("MUTTD_DYNAMIC_RETENTION_MIN_FREE_BYTES", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_goes_on_and_nothing_is_lost_or_doubled() {
    let dir = folder();
    let days = 40;
    let made = past_days(dir.path(), days, 300).await;
    let mut dice = Dice(99);
    let (mut killed, mut ended) = (0, false);
    let kills = asked("MUTTD_TEST_RETENTION_KILLS", 25);
    while killed < kills && !ended {
        let mut child = muttd(dir.path()).spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(60 + dice.roll(600)));
        ended = child.try_wait().expect("it can be asked").is_some();
        if !ended {
            child.kill().expect("it can be killed");
            killed += 1;
        }
        child.wait().expect("it ends");
        let site = Site::open(dir.path(), &Clock::system());
        // A file that was entered and has not its place yet gets it.
        site.stores.archive.recover().expect("it recovers");
        let (live, archived) = (times_of_each(site.live().await), times_of_each(site.archived()));
        for (id, sum) in &made {
            let times = |of_each: &BTreeMap<_, usize>| of_each.get(&(*id, *sum)).copied().unwrap_or(0);
            let (here, there) = (times(&live), times(&archived));
            // Between the manifest's line and the end of removing, an event is in both.
            assert!((1..=2).contains(&(here + there)) && here <= 1 && there <= 1, "after kill {killed}: {id}");
        }
        site.stores.close().await.expect("closed");
    }
    assert!(killed > 0, "it was killed at least once");
    let output = muttd(dir.path()).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let site = Site::open(dir.path(), &Clock::system());
    prove(&site, &made, Day::of(Clock::system().now()), "after the last run").await;
    assert_eq!(site.stores.archive.files().len() as i64, days - 1, "a file a day, and today's edge stays");
    site.stores.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_loses_nothing_and_the_next_run_goes_on() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let dir = disk.path().join("data");
    let made = past_days(&dir, 20, 1_000).await;
    let mut failed = 0;
    for left in [0, 64 << 10, 300 << 10, 1 << 20, 3 << 20] {
        disk.fill_but(left);
        let output = muttd(&dir).output().expect("the program starts");
        failed += u32::from(!output.status.success());
        disk.empty();
        let site = Site::open(&dir, &Clock::system());
        site.stores.archive.recover().expect("it recovers");
        let everywhere = site.live().await.into_iter().chain(site.archived()).collect();
        let places = times_of_each(everywhere);
        let places: BTreeMap<_, _> = places.into_keys().filter(|(id, sum)| made.get(id) == Some(sum)).collect();
        assert_eq!(places.len(), made.len(), "with {left} bytes free an event was lost");
        site.stores.close().await.expect("closed");
    }
    assert!(failed > 0, "the disk was full at least once");
    let output = muttd(&dir).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let site = Site::open(&dir, &Clock::system());
    prove(&site, &made, Day::of(Clock::system().now()), "after the last run").await;
    site.stores.close().await.expect("closed");
}
