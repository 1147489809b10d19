//! The power goes while days are archived; the disk is full when the audit begins a further part.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use muttd::clock::Clock;
use muttd::live::Live;
use muttd::model::{Day, EventId, EventIds, Judged, Timestamp};
use muttd::store::{AuditSettings, EventQuery, RecentSettings, Stores};

use crate::power_cut::{LoopMount, rounds};
use crate::retention::{Dice, Site, checksum, event, muttd, past_days, prove};
use crate::support::{PATIENCE, SmallDisk};

/// Lines of the archive's manifest; half a line does not count.
fn manifest_lines(dir: &Path) -> usize {
    let text = std::fs::read(dir.join("archive/manifest.ndjson")).unwrap_or_default();
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// Lets a run work until it has entered so many lines more into the manifest, or ended.
fn run_for(dir: &Path, lines: usize, pause: Duration) -> std::process::Child {
    let mut child = muttd(dir).spawn().unwrap();
    let (enough, since) = (manifest_lines(dir) + lines, Instant::now());
    while manifest_lines(dir) < enough && child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < PATIENCE, "the run does not get on");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(pause);
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_while_days_are_archived_loses_nothing_and_doubles_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let mount = match LoopMount::new(outside.path()) {
        Ok(mount) => mount,
        Err(why) => {
            println!("NOT RUN: a power cut needs a loop mount of ext4 and the rights for it: {why}");
            return;
        }
    };
    let dir = mount.point.join("data");
    let made = past_days(&dir, 30, 200).await;
    mount.unmount().unwrap();
    mount.mount().unwrap();
    let mut dice = Dice(11);
    let mut in_both = 0;
    for round in 0..2 * rounds() {
        let lines = usize::try_from(dice.roll(4)).unwrap();
        let mut child = run_for(&dir, lines, Duration::from_millis(dice.roll(30)));
        let is_under_way = child.try_wait().unwrap().is_none();
        mount.cut_power();
        drop(child.kill());
        child.wait().unwrap();
        assert!(is_under_way, "round {round}: the run ended before it was cut off");
        mount.unmount().unwrap();
        mount.mount().unwrap();
        let site = Site::open(&dir, &Clock::system());
        assert_eq!(site.stores.archive.doubt(), None, "round {round}");
        // A file that was entered and has not its place yet gets it.
        site.stores.archive.recover().unwrap();
        let mut places: BTreeMap<EventId, usize> = BTreeMap::new();
        for judged in site.live().await.into_iter().chain(site.archived()) {
            assert_eq!(made.get(&judged.event.id), Some(&checksum(&judged)), "round {round}: an event is another one");
            *places.entry(judged.event.id).or_default() += 1;
        }
        assert_eq!(places.len(), made.len(), "round {round}: events are lost");
        in_both += places.values().filter(|times| **times > 1).count();
        site.stores.close().await.unwrap();
    }
    println!("after {} cuts {in_both} events were in the audit and in the archive", 2 * rounds());
    let output = muttd(&dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let site = Site::open(&dir, &Clock::system());
    prove(&site, &made, Day::of(Clock::system().now()), "after the last run").await;
    site.stores.close().await.unwrap();
}

/// Bytes in use of the part that takes what comes, and how many parts there are.
async fn parts(stores: &Stores) -> (u64, usize) {
    let parts = stores.audit.partitions().await.unwrap();
    let newest = parts.iter().max_by_key(|part| (part.month.clone(), part.part)).unwrap();
    (newest.bytes, parts.len())
}

async fn everything(stores: &Stores) -> Vec<EventId> {
    let mut query = EventQuery { limit: 1_000, ..EventQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = stores.audit.search(&query).await.unwrap();
        found.extend(page.items.iter().map(|judged| judged.event.id));
        query.before = page.next;
        if page.next.is_none() {
            found.sort_unstable();
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_when_a_part_begins_refuses_rows_and_takes_them_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let clock = Clock::fixed(Timestamp::from_millis(1_790_000_000_000));
    let settings = AuditSettings { advance_months: 0, max_bytes: 256 << 10 };
    let open = || {
        let recent = Live::constant(RecentSettings::default());
        let dir = disk.path().join("store");
        Stores::open_with(&dir, clock.clone(), recent, Live::constant(settings)).unwrap()
    };
    let mut stores = open();
    let (ids, mut dice) = (EventIds::new(5), Dice(3));
    let mut rows = |count: u64| -> Vec<Judged> { (0..count).map(|_| event(&ids, clock.now(), &mut dice)).collect() };
    let (mut recorded, mut refused) = (Vec::new(), 0);
    for (round, left) in [0, 4 << 10, 20 << 10, 60 << 10, 100 << 10, 160 << 10].into_iter().enumerate() {
        while parts(&stores).await.0 < settings.max_bytes {
            let batch = rows(100);
            recorded.extend(batch.iter().map(|judged| judged.event.id));
            stores.audit.record(batch).await.unwrap();
        }
        let before = parts(&stores).await.1;
        disk.fill_but(left);
        let batch = rows(50);
        let answer = stores.audit.record(batch.clone()).await;
        refused += usize::from(answer.is_err());
        assert_eq!(everything(&stores).await.len(), recorded.len() + if answer.is_ok() { 50 } else { 0 });
        if round % 2 == 1 {
            // As after a restart on the full disk, which may be refused too.
            stores.close().await.unwrap();
            disk.empty();
            stores = open();
        } else {
            disk.empty();
        }
        // What was not answered comes again.
        stores.audit.record(batch.clone()).await.unwrap();
        recorded.extend(batch.iter().map(|judged| judged.event.id));
        recorded.sort_unstable();
        assert_eq!(everything(&stores).await, recorded, "with {left} bytes free");
        assert_eq!(parts(&stores).await.1, before + 1, "one part began, with {left} bytes free");
    }
    assert!(refused > 0, "the disk was full at least once");
    stores.close().await.unwrap();
}
