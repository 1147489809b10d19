//! What the contract suite cannot see from outside: damage, quarantine, space, compaction, due times, the lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SledBackend;
use super::layout::{key, parse_key};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::queue::{Backend, Depth, FaultKind, Lease, QueueError, QueueOptions, Record, Seq};

const NOW: Duration = Duration::ZERO;

fn options() -> QueueOptions {
    QueueOptions {
        generation_items: 50,
        work_generation_bytes: 16 << 20,
        handoff_bytes: 0,
        reserve_free_bytes: 0,
        ..QueueOptions::default()
    }
}

type Open = fn(&Path, &QueueOptions) -> Result<SledBackend, QueueError>;

const LOG: Open = |dir, options| SledBackend::open_log(dir, "log", options);
const WORK: Open = |dir, options| SledBackend::open_work(dir, "work", options);

fn records(numbers: std::ops::Range<u32>, bytes: usize) -> Vec<Record> {
    let record = |number: u32| {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(bytes.max(4), 7);
        Record { items: 1, payload }
    };
    numbers.map(record).collect()
}

fn numbers(leases: &[Lease]) -> Vec<u32> {
    leases.iter().map(|lease| u32::from_be_bytes(lease.payload[..4].try_into().unwrap())).collect()
}

fn seqs(leases: &[Lease]) -> Vec<Seq> {
    leases.iter().map(|lease| lease.seq).collect()
}

async fn append(queue: &SledBackend, all: std::ops::Range<u32>, bytes: usize) {
    for record in all {
        queue.append(records(record..record + 1, bytes)).await.unwrap();
    }
}

async fn lease_all(queue: &SledBackend) -> Vec<Lease> {
    let mut all = Vec::new();
    loop {
        let mut leases = queue.lease(1_000, NOW).await.unwrap();
        if leases.is_empty() {
            return all;
        }
        all.append(&mut leases);
    }
}

/// The generations' directories, oldest first.
fn generations(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.file_name().is_some_and(|name| name.len() == 20) && path.is_dir()).collect();
    found.sort();
    found
}

fn bytes_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { bytes_of(&path) } else { path.metadata().unwrap().len() }).sum()
}

/// Changes one byte of a record's payload behind the queue's back.
fn damage(generation: &Path, segment: usize, seq: Seq) {
    let db = sled::Config::new().path(generation).segment_size(segment).open().unwrap();
    let mut value = db.get(key(seq, 1)).unwrap().unwrap().to_vec();
    *value.last_mut().unwrap() ^= 0x10;
    db.insert(key(seq, 1), value).unwrap();
    db.flush().unwrap();
    assert_eq!(parse_key(&key(seq, 1)), Some((seq, 1)));
}

#[tokio::test]
async fn a_second_process_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let queue = LOG(dir.path(), &options()).unwrap();
    let error = LOG(dir.path(), &options()).err().unwrap().to_string();
    assert!(error.contains("another process uses") && error.contains(dir.path().to_str().unwrap()), "{error}");
    queue.close().await.unwrap();
    LOG(dir.path(), &options()).unwrap();
}

#[tokio::test]
async fn damaged_records_are_set_aside_and_the_others_come() {
    for (open, segment) in [(LOG, 8 << 20), (WORK, 4 << 20)] {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path(), &options()).unwrap();
        append(&queue, 0..20, 30).await;
        queue.close().await.unwrap();
        drop(queue);
        damage(&generations(dir.path())[0], segment, 5);
        damage(&generations(dir.path())[0], segment, 20);

        let queue = open(dir.path(), &options()).unwrap();
        let leases = lease_all(&queue).await;
        assert_eq!(numbers(&leases), (0..4).chain(5..19).collect::<Vec<_>>());
        let faults = queue.faults();
        assert_eq!(faults.iter().map(|fault| fault.kind).collect::<Vec<_>>(), [FaultKind::Damaged; 2]);
        assert!(faults[0].what.contains("record 5") && faults[0].kept_at.as_ref().unwrap().exists(), "{faults:?}");
        queue.ack(&seqs(&leases)).await.unwrap();
        assert_eq!(queue.depth(), Depth::default());
        append(&queue, 20..21, 30).await;
        assert_eq!(numbers(&lease_all(&queue).await), [20]);
    }
}

#[tokio::test]
async fn a_record_that_is_damaged_while_it_waits_for_its_retry_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let queue = LOG(dir.path(), &options()).unwrap();
    append(&queue, 0..3, 30).await;
    queue.lease(2, NOW).await.unwrap();
    queue.close().await.unwrap();
    drop(queue);
    damage(&generations(dir.path())[0], 8 << 20, 1);
    let queue = LOG(dir.path(), &options()).unwrap();
    let leases = lease_all(&queue).await;
    assert_eq!(numbers(&leases), [1, 2]);
    assert_eq!(leases.iter().map(|lease| lease.attempt).collect::<Vec<_>>(), [2, 1]);
    queue.ack(&seqs(&leases)).await.unwrap();
    assert_eq!(queue.depth(), Depth::default());
}

#[tokio::test]
async fn a_generation_that_cannot_be_read_is_set_aside_and_service_goes_on() {
    for open in [LOG, WORK] {
        let options = QueueOptions { work_generation_bytes: 1_000, ..options() };
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path(), &options).unwrap();
        append(&queue, 0..120, 40).await;
        queue.close().await.unwrap();
        drop(queue);
        let before = generations(dir.path());
        // As after a crash: the totals of the newest are only in sled.
        std::fs::remove_file(before.last().unwrap().join("totals")).unwrap();
        for generation in [&before[1], before.last().unwrap()] {
            let length = generation.join("db").metadata().unwrap().len();
            std::fs::write(generation.join("db"), vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
        }

        let queue = open(dir.path(), &options).unwrap();
        let leases = lease_all(&queue).await;
        assert!(leases.len() >= 25 && numbers(&leases).is_sorted(), "{}", leases.len());
        assert_eq!(queue.depth().records, leases.len() as u64);
        queue.append(records(500..501, 40)).await.unwrap();
        let after = lease_all(&queue).await;
        assert_eq!(numbers(&after), [500]);
        assert!(after[0].seq > 120, "sequences of what was lost are not used again");
        let kinds: Vec<FaultKind> = queue.faults().iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds, [FaultKind::Quarantined; 2], "{:?}", queue.faults());
        assert!(dir.path().join("quarantine").join(before.last().unwrap().file_name().unwrap()).is_dir());
        queue.ack(&seqs(&leases)).await.unwrap();
        queue.ack(&seqs(&after)).await.unwrap();
        assert_eq!(queue.depth(), Depth::default());
    }
}

#[tokio::test]
async fn what_is_missing_at_the_end_of_a_generation_is_reported_and_not_counted() {
    for open in [LOG, WORK] {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path(), &options()).unwrap();
        append(&queue, 0..40, 60_000).await;
        queue.close().await.unwrap();
        drop(queue);
        let db = std::fs::File::options().write(true).open(generations(dir.path())[0].join("db")).unwrap();
        db.set_len(db.metadata().unwrap().len() / 2).unwrap();

        let queue = open(dir.path(), &options()).unwrap();
        let leases = lease_all(&queue).await;
        assert!(leases.len() < 40);
        assert_eq!(queue.faults().len(), 1, "{:?}", queue.faults());
        assert_eq!(queue.depth().records, leases.len() as u64);
        append(&queue, 40..41, 10).await;
        let after = lease_all(&queue).await;
        assert_eq!(numbers(&after), [40]);
        assert!(after[0].seq > 40);
    }
}

#[tokio::test]
async fn an_unfinished_or_damaged_snapshot_of_sled_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let queue = LOG(dir.path(), &options()).unwrap();
    append(&queue, 0..30, 40).await;
    drop(queue);
    for name in ["snap.00000000FFFFFFFF.generating", "snap.00000000FFFFFFFE"] {
        std::fs::write(generations(dir.path())[0].join(name), b"half a snapsh").unwrap();
    }
    let queue = LOG(dir.path(), &options()).unwrap();
    assert_eq!(numbers(&lease_all(&queue).await), (0..30).collect::<Vec<_>>());
    assert_eq!(queue.faults(), []);
}

#[tokio::test]
async fn drained_generations_are_deleted() {
    for open in [LOG, WORK] {
        let options = QueueOptions { generation_items: 10, work_generation_bytes: 1_000, ..options() };
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path(), &options).unwrap();
        append(&queue, 0..60, 100).await;
        assert!(generations(dir.path()).len() >= 6);
        let leases = lease_all(&queue).await;
        queue.ack(&seqs(&leases)).await.unwrap();
        queue.close().await.unwrap();
        assert_eq!(generations(dir.path()).len(), 1);
    }
}

#[tokio::test]
async fn a_drained_queue_gives_its_space_back() {
    for open in [LOG, WORK] {
        let options = QueueOptions { generation_items: 1_000_000, log_generation_bytes: 16 << 20, ..options() };
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path(), &options).unwrap();
        for start in 0..30 {
            queue.append(records(start * 5..start * 5 + 5, 60_000)).await.unwrap();
        }
        assert!(bytes_of(dir.path()) > 8 << 20);
        let leases = lease_all(&queue).await;
        queue.ack(&seqs(&leases)).await.unwrap();
        queue.close().await.unwrap();
        assert!(bytes_of(dir.path()) < 1 << 20, "{}", bytes_of(dir.path()));
    }
}

#[tokio::test]
async fn an_old_generation_of_which_little_is_left_shrinks_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let options = QueueOptions { generation_items: 1_000, ..options() };
    let queue = WORK(dir.path(), &options).unwrap();
    for start in 0..40 {
        queue.append(records(start * 10..start * 10 + 10, 60_000)).await.unwrap();
    }
    let old = generations(dir.path())[0].clone();
    let before = bytes_of(&old);
    let leases = lease_all(&queue).await;
    let (keep, done): (Vec<_>, Vec<_>) = leases.into_iter().partition(|lease| lease.seq % 40 == 0);
    queue.release(&seqs(&keep[..2]), Duration::from_secs(3_600)).await.unwrap();
    queue.ack(&seqs(&done)).await.unwrap();
    assert!(bytes_of(&old) * 2 < before, "{} of {before}", bytes_of(&old));
    queue.ack(&seqs(&keep[2..3])).await.unwrap();
    drop(queue);

    let queue = WORK(dir.path(), &options).unwrap();
    assert_eq!(queue.depth().records, keep.len() as u64 - 1);
    assert_eq!(numbers(&lease_all(&queue).await), numbers(&keep[3..]));
    assert_eq!(queue.faults(), []);
}

#[tokio::test]
async fn an_interrupted_compaction_or_removal_is_finished_or_undone() {
    let dir = tempfile::tempdir().unwrap();
    let queue = WORK(dir.path(), &options()).unwrap();
    append(&queue, 0..10, 50).await;
    queue.close().await.unwrap();
    drop(queue);
    let generation = generations(dir.path())[0].clone();
    let compact = generation.with_extension("compact");

    // Not complete: as if it had never begun.
    std::fs::create_dir(&compact).unwrap();
    std::fs::create_dir(generation.with_extension("gone")).unwrap();
    let queue = WORK(dir.path(), &options()).unwrap();
    assert!(!compact.exists() && !generation.with_extension("gone").exists());
    assert_eq!(queue.depth().records, 10);
    drop(queue);

    // Complete, the old one still or no longer in its place.
    for is_old_there in [true, false] {
        std::fs::rename(&generation, &compact).unwrap();
        std::fs::write(compact.join("complete"), b"").unwrap();
        if is_old_there {
            std::fs::create_dir(&generation).unwrap();
        }
        let queue = WORK(dir.path(), &options()).unwrap();
        assert!(!compact.exists());
        assert_eq!(numbers(&lease_all(&queue).await), (0..10).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_delay_survives_a_restart_but_never_grows_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3_600);
    let clock = Clock::fixed(Timestamp::from_millis(1_000_000_000));
    let with_clock = |clock: Clock| QueueOptions { clock, ..options() };
    let queue = WORK(dir.path(), &with_clock(clock.clone())).unwrap();
    append(&queue, 0..2, 20).await;
    let leases = queue.lease(1, NOW).await.unwrap();
    queue.release(&seqs(&leases), hour).await.unwrap();
    drop(queue);

    let queue = WORK(dir.path(), &with_clock(clock.clone())).unwrap();
    assert_eq!(numbers(&lease_all(&queue).await), [1], "the delayed one is not due yet");
    assert_eq!(queue.depth().records, 2);
    drop(queue);

    // The clock jumps back a day: the record waits one hour from now on, not a day and an hour.
    let early = WORK(dir.path(), &with_clock(Clock::fixed(Timestamp::from_millis(900_000_000)))).unwrap();
    assert_eq!(numbers(&lease_all(&early).await), [1]);
    let rest = early.core_for_tests().state.lock().hands.next_due().unwrap() - tokio::time::Instant::now();
    assert!(rest <= hour, "{rest:?}");
    drop(early);

    clock.advance(hour);
    let queue = WORK(dir.path(), &with_clock(clock)).unwrap();
    let leases = lease_all(&queue).await;
    assert_eq!(numbers(&leases), [0, 1]);
    assert_eq!(leases[0].attempt, 2);
}

#[tokio::test]
async fn a_disk_below_its_reserve_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let queue = LOG(dir.path(), &QueueOptions { reserve_free_bytes: u64::MAX, ..options() }).unwrap();
    for _ in 0..2 {
        let error = queue.append(records(0..1, 10)).await.unwrap_err();
        assert!(matches!(error, QueueError::Full { .. }), "{error}");
    }
    assert_eq!(queue.depth(), Depth::default());
    assert_eq!(queue.faults().len(), 1, "trouble is reported when it begins, not each time");
}

#[tokio::test]
async fn appends_work_again_after_the_disk_failed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = LOG(dir.path(), &options()).unwrap();
    // Something stands where the first generation must go.
    let obstacle = dir.path().join(format!("{:020}", 1));
    std::fs::write(&obstacle, b"").unwrap();
    let error = queue.append(records(0..1, 10)).await.unwrap_err();
    assert!(matches!(error, QueueError::Storage { .. }), "{error}");
    std::fs::remove_file(obstacle).unwrap();
    let retried = async {
        while queue.append(records(1..2, 10)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), retried).await.unwrap();
    assert_eq!(numbers(&lease_all(&queue).await), [1]);
}

#[tokio::test]
async fn a_lost_cursor_only_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let queue = LOG(dir.path(), &options()).unwrap();
    append(&queue, 0..20, 20).await;
    let leases = queue.lease(5, NOW).await.unwrap();
    queue.ack(&seqs(&leases)).await.unwrap();
    queue.close().await.unwrap();
    drop(queue);
    std::fs::remove_file(dir.path().join("cursor")).unwrap();
    let queue = LOG(dir.path(), &options()).unwrap();
    assert_eq!(queue.depth().records, 20);
    assert_eq!(numbers(&lease_all(&queue).await), (0..20).collect::<Vec<_>>());
}
