//! The recent store from outside and with its files damaged.

use super::*;
use crate::model::{Decision, Environment, Handling, Matched, Protocol, RuleId, Severity, Source, Team, Timestamp};
use std::net::{IpAddr, Ipv4Addr};

const START: i64 = 1_790_000_000_000;

/// An event of second `second`, the `index`th of its millisecond.
fn event(second: i64, index: u64, host: &str, message: &str) -> Judged {
    let at = Timestamp::from_millis(START + second * 1_000);
    let bits = (u128::try_from(at.as_millis()).unwrap() << 80) | (7 << 76) | (u128::from(index) << 64) | (0b10 << 62);
    let source = Source { protocol: Protocol::SyslogUdp, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let mut event = Event::new(EventId::from_bytes(bits.to_be_bytes()), at, source);
    event.hostname = host.into();
    event.message = message.into();
    event.severity = Severity::new(u8::try_from(index % 8).unwrap());
    let matched = index.is_multiple_of(2).then(|| Matched {
        rule: RuleId(3),
        handling: Handling::PageOnly,
        team: Team::new("NETO").unwrap(),
    });
    Judged { event, decision: Decision { environment: Environment::Prod, matched } }
}

fn open(folder: &Path, settings: RecentSettings) -> Recent {
    let clock = Clock::fixed(Timestamp::from_millis(START + 3_600_000));
    Recent::open(folder, clock, Live::constant(settings)).unwrap()
}

async fn all(recent: &Recent, query: &EventQuery) -> Vec<Judged> {
    let (mut found, mut query) = (Vec::new(), query.clone());
    loop {
        let page = recent.search(&query).await.unwrap();
        found.extend(page.items);
        match page.next {
            Some(next) => query.before = Some(next),
            None => return found,
        }
    }
}

#[tokio::test]
async fn events_are_found_before_and_after_they_are_written_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let recent = open(folder.path(), RecentSettings::default());
    let events: Vec<Judged> = (0..3_000).map(|n| event(n / 10, n as u64 % 10, "r1", "link down")).collect();
    for chunk in events.chunks(7) {
        recent.append(&Arc::new(chunk.to_vec()));
    }
    let mut newest_first = events.clone();
    newest_first.reverse();
    let query = EventQuery { limit: 100, ..EventQuery::default() };
    assert_eq!(all(&recent, &query).await, newest_first);
    recent.close().await.unwrap();
    assert_eq!(all(&recent, &query).await, newest_first);
    drop(recent);
    let recent = open(folder.path(), RecentSettings::default());
    assert_eq!(all(&recent, &query).await, newest_first);
    assert_eq!(recent.get(events[1_234].event.id).await.unwrap().as_ref(), Some(&events[1_234]));
    assert_eq!(recent.get(event(99_999, 0, "r1", "").event.id).await.unwrap(), None);
    assert!(recent.bytes() > 0);
}

#[tokio::test]
async fn batches_that_overlap_in_time_come_out_in_order_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let recent = open(folder.path(), RecentSettings::default());
    let batch = |from: i64| -> Vec<Judged> { (0..1_500).map(|n| event(from + n * 2, 0, "r1", "x")).collect() };
    for from in [0, 1, 500, 1] {
        recent.append(&Arc::new(batch(from)));
    }
    recent.close().await.unwrap();
    let mut expected: Vec<EventId> =
        [batch(0), batch(1), batch(500)].concat().iter().map(|judged| judged.event.id).collect();
    expected.sort_unstable();
    expected.dedup();
    expected.reverse();
    for limit in [1_000, 333] {
        let found = all(&recent, &EventQuery { limit, ..EventQuery::default() }).await;
        assert_eq!(found.iter().map(|judged| judged.event.id).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn each_filter_finds_what_a_plain_comparison_finds() {
    let folder = tempfile::tempdir().unwrap();
    let recent = open(folder.path(), RecentSettings::default());
    let words = ["link down", "LINK Up", "300 \u{212a}elvin", "Stra\u{df}e", "\u{130}stanbul link"];
    let events: Vec<Judged> = (0..2_500)
        .map(|n| {
            let index = usize::try_from(n).unwrap();
            let mut judged = event(n, n as u64 % 16, ["r1", "R2.Example.", "r3"][index % 3], words[index % 5]);
            if index.is_multiple_of(7) {
                judged.event.correlation_id = Some(format!("ticket-{}", index % 4).into());
            }
            judged
        })
        .collect();
    recent.append(&Arc::new(events.clone()));
    recent.close().await.unwrap();
    let base = EventQuery { limit: 1_000, ..EventQuery::default() };
    let text = |text: &str| EventQuery { text: Some(text.to_owned()), ..base.clone() };
    let queries = [
        text("link"),
        text("LINK D"),
        text("kelvin"),
        text("istanbul"),
        text("stra\u{df}e"),
        text("nowhere"),
        EventQuery { hostname: Some("r2.example".to_owned()), ..base.clone() },
        EventQuery { severity: Severity::new(3), matched: Some(false), ..base.clone() },
        EventQuery { rule: Some(RuleId(3)), text: Some("down".to_owned()), ..base.clone() },
        EventQuery { correlation_id: Some("ticket-2".to_owned()), ..base.clone() },
        EventQuery { correlation_id: Some(events[11].event.id.to_string()), ..base.clone() },
        EventQuery {
            from: Some(events[100].event.received_at),
            to: Some(events[200].event.received_at),
            ..base.clone()
        },
    ];
    for query in queries {
        let prepared = query.prepared();
        let expected: Vec<EventId> =
            events.iter().rev().filter(|judged| prepared.matches(judged)).map(|judged| judged.event.id).collect();
        let found: Vec<EventId> = all(&recent, &query).await.iter().map(|judged| judged.event.id).collect();
        assert_eq!(found, expected, "{query:?}");
    }
}

#[tokio::test]
async fn a_search_out_of_time_says_where_to_go_on_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let recent = open(folder.path(), RecentSettings::default());
    for from in 0..6 {
        recent.append(&Arc::new((0..1_100).map(|n| event(from * 1_000 + n, 0, "r1", "x")).collect()));
    }
    recent.close().await.unwrap();
    let mut query = EventQuery { limit: 1_000, ..EventQuery::default() }.prepared();
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        let snapshot = Snapshot::of(&recent.shared.state.lock());
        let page = snapshot.search(&query, Instant::now());
        found.extend(page.items.into_iter().map(|judged| judged.event.id));
        pages += 1;
        let Some(next) = page.next else { break };
        query.before = Some(next);
    }
    let mut expected: Vec<EventId> = (0..6_100).map(|n| event(n, 0, "r1", "x").event.id).collect();
    expected.reverse();
    assert_eq!(found, expected);
    assert!(pages > 6, "{pages}");
}

#[tokio::test]
async fn the_budget_deletes_the_oldest_and_keeps_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let settings = RecentSettings { max_bytes: 512 << 10, max_days: 7 };
    let recent = open(folder.path(), settings);
    let mut noise = 1_u128;
    for second in 0..40 {
        let batch = (0..1_100).map(|n| {
            noise = noise.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            event(second, n % 4_096, "r1", &format!("{noise:x}"))
        });
        recent.append(&Arc::new(batch.collect()));
    }
    recent.close().await.unwrap();
    assert!(recent.bytes() <= settings.max_bytes, "{}", recent.bytes());
    assert_eq!(recent.get(event(0, 0, "", "").event.id).await.unwrap(), None);
    let newest = recent.search(&EventQuery { limit: 1, ..EventQuery::default() }).await.unwrap().items;
    assert_eq!(ids_of(&newest), [event(39, 1_099, "", "").event.id]);
}

fn ids_of(events: &[Judged]) -> Vec<EventId> {
    events.iter().map(|judged| judged.event.id).collect()
}

#[tokio::test]
async fn what_is_too_old_is_deleted_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let recent = open(folder.path(), RecentSettings::default());
    recent.append(&Arc::new(vec![event(0, 0, "old", "x")]));
    recent.close().await.unwrap();
    drop(recent);
    let clock = Clock::fixed(Timestamp::from_millis(START + 30 * 86_400_000));
    let recent = Recent::open(folder.path(), clock, Live::constant(RecentSettings::default())).unwrap();
    recent.append(&Arc::new(vec![event(30 * 86_400, 0, "new", "x")]));
    recent.close().await.unwrap();
    drop(recent);
    let found =
        all(&open(folder.path(), RecentSettings::default()), &EventQuery { limit: 9, ..EventQuery::default() }).await;
    assert_eq!(found.iter().map(|judged| judged.event.hostname.as_str()).collect::<Vec<_>>(), ["new"]);
}

/// The folder's only segment.
fn only_segment(folder: &Path) -> std::path::PathBuf {
    let mut segments: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(segments.len(), 1);
    segments.remove(0)
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let query = EventQuery { limit: 1_000, ..EventQuery::default() };
    for round in 0..3_i64 {
        let recent = open(folder.path(), RecentSettings::default());
        recent.append(&Arc::new(vec![event(round, 0, "r1", "kept")]));
        recent.close().await.unwrap();
        drop(recent);
        let path = only_segment(folder.path());
        let whole = std::fs::read(&path).unwrap();
        // Half of a copy of the first frame, then noise: what a power cut leaves.
        let torn = [&whole[..], &whole[..100], &[0; 50][..round as usize * 20]].concat();
        std::fs::write(&path, torn).unwrap();
        let recent = open(folder.path(), RecentSettings::default());
        assert_eq!(all(&recent, &query).await.len(), usize::try_from(round).unwrap() + 1);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}

#[tokio::test]
async fn a_flipped_bit_costs_its_frame_only() {
    let folder = tempfile::tempdir().unwrap();
    let recent = open(folder.path(), RecentSettings::default());
    for second in 0..3 {
        recent.append(&Arc::new((0..1_024).map(|n| event(second, n, "r1", "x")).collect()));
        // Wait until it is a frame of its own.
        while !recent.shared.state.lock().pending.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    recent.close().await.unwrap();
    let path = only_segment(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // While running: the frame is left out of the search.
    assert_eq!(all(&recent, &EventQuery { limit: 1_000, ..EventQuery::default() }).await.len(), 2_048);
}

/// A store with ten frames of a host each, `r0` to `r9`, oldest first; finished segments if `sealed`.
async fn ten_hosts(folder: &Path, sealed: bool) -> Recent {
    let recent = open(folder, RecentSettings::default());
    for host in 0..10 {
        let name = format!("R{host}.example.");
        recent.append(&Arc::new((0..1_024).map(|n| event(host * 2_000 + n, 0, &name, "x")).collect()));
        while !recent.shared.state.lock().pending.is_empty() {
            tokio::task::yield_now().await;
        }
        if sealed {
            recent.shared.state.lock().seal_wanted = true;
            recent.shared.wake.notify_one();
            while recent.shared.state.lock().seal_wanted {
                tokio::task::yield_now().await;
            }
        }
    }
    recent
}

fn of_host(name: &str) -> EventQuery {
    EventQuery { hostname: Some(name.to_owned()), limit: 1_000, ..EventQuery::default() }.prepared()
}

#[tokio::test]
async fn what_cannot_hold_a_hit_is_passed_over() {
    let absent = [
        of_host("nobody"),
        EventQuery { hostname: None, rule: Some(RuleId(4)), ..of_host("") },
        EventQuery { hostname: None, severity: Severity::new(7), ..of_host("") },
        EventQuery { hostname: None, protocol: Some(Protocol::Http), ..of_host("") },
        EventQuery { hostname: None, matched: Some(false), ..of_host("") },
        EventQuery { hostname: None, peer: Some("192.0.2.1".parse().unwrap()), ..of_host("") },
        EventQuery { hostname: None, correlation_id: Some("none".into()), ..of_host("") },
    ];
    for sealed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let recent = ten_hosts(folder.path(), sealed).await;
        let snapshot = Snapshot::of(&recent.shared.state.lock());
        for query in &absent {
            let (opened, page) = snapshot.search_counting(query, Instant::now() + SEARCH_BUDGET);
            assert_eq!((opened, page), (0, EventPage::default()), "{query:?}");
        }
        let (opened, page) = snapshot.search_counting(&of_host("r3.EXAMPLE"), Instant::now() + SEARCH_BUDGET);
        assert_eq!((opened, page.items.len()), (1, 1_000));
        // The same after a restart, also when the segment being written was never finished.
        drop(recent);
        let recent = open(folder.path(), RecentSettings::default());
        let snapshot = Snapshot::of(&recent.shared.state.lock());
        let (opened, page) = snapshot.search_counting(&of_host("r3.example"), Instant::now() + SEARCH_BUDGET);
        assert_eq!((opened, page.items.len()), (1, 1_000));
    }
}

#[tokio::test]
async fn a_damaged_filter_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let recent = ten_hosts(folder.path(), false).await;
    drop(recent);
    let path = only_segment(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[frame::HEADER..frame::HEADER + 4].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let recent = open(folder.path(), RecentSettings::default());
    assert_eq!(all(&recent, &of_host("r0.example")).await.len(), 1_024);
}

#[tokio::test]
async fn frames_of_the_version_before_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut encoder = frame::Encoder::new().unwrap();
    let packed = encoder.encode([event(1, 0, "r1", "one"), event(2, 0, "r2", "two")].iter()).unwrap().unwrap();
    let mut header: [u8; frame::HEADER] = packed.bytes[..frame::HEADER].try_into().unwrap();
    header[3] = 2;
    header[68..80].fill(0);
    let crc = crc32fast::hash(&header[..92]);
    header[92..].copy_from_slice(&crc.to_le_bytes());
    let payload = &packed.bytes[usize::try_from(packed.info.payload_at()).unwrap()..];
    let frame = [&header[..], payload].concat();
    // One that was being written, and one with the footer of that version.
    let mut footer = [&0_u64.to_le_bytes()[..], &header, &1_u32.to_le_bytes()].concat();
    let crc = crc32fast::hash(&footer);
    footer.extend_from_slice(&crc.to_le_bytes());
    footer.extend_from_slice(b"MRSEND01");
    for bytes in [frame.clone(), [frame, footer].concat()] {
        std::fs::write(folder.path().join(segment::file_name(1)), &bytes).unwrap();
        let recent = open(folder.path(), RecentSettings::default());
        assert_eq!(all(&recent, &of_host("r2")).await.len(), 1);
        assert_eq!(all(&recent, &EventQuery { limit: 9, ..EventQuery::default() }).await.len(), 2);
    }
}

#[tokio::test]
async fn events_survive_a_crash_before_their_frame_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let recent = open(folder.path(), RecentSettings::default());
    recent.append(&Arc::new(vec![event(0, 0, "r1", "one")]));
    recent.append(&Arc::new(vec![event(1, 0, "r1", "two")]));
    while !recent.shared.state.lock().pending.iter().all(|piece| piece.spilled) {
        tokio::task::yield_now().await;
    }
    let path = only_segment(folder.path());
    std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    let after_crash = open(copy.path(), RecentSettings::default());
    assert_eq!(all(&after_crash, &EventQuery { limit: 9, ..EventQuery::default() }).await.len(), 2);
}

#[tokio::test]
async fn an_unwritable_folder_drops_events_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("recent");
    let recent = open(&inner, RecentSettings::default());
    std::fs::remove_dir_all(&inner).unwrap();
    recent.append(&Arc::new((0..2_000).map(|n| event(n, 0, "r1", "x")).collect()));
    recent.close().await.unwrap();
    assert_eq!(recent.search(&EventQuery { limit: 9, ..EventQuery::default() }).await.unwrap(), EventPage::default());
}
