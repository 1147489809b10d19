//! The contract of `queue` (see its module documentation), checked for every backend alike.
//! A further backend is one more line in [`on_every_backend`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muttd::queue::sled::SledBackend;
use muttd::queue::{Backend, Depth, Lease, MemoryBackend, QueueError, QueueOptions, Record};

const SOON: Duration = Duration::from_secs(20);

/// Small pieces, so that a few records fill several generations.
pub fn small() -> QueueOptions {
    QueueOptions {
        generation_items: 40,
        work_generation_bytes: 4_000,
        handoff_bytes: 1_000,
        reserve_free_bytes: 0,
        ..QueueOptions::default()
    }
}

type Open = fn(&Path) -> Arc<dyn Backend>;

/// How to open a queue, whether it outlives its process, and its name.
fn backends() -> [(&'static str, Open, bool); 3] {
    [
        ("memory", |_| Arc::new(MemoryBackend::new("memory")), false),
        ("log", |dir| Arc::new(SledBackend::open_log(dir, "log", &small()).unwrap()), true),
        ("work", |dir| Arc::new(SledBackend::open_work(dir, "work", &small()).unwrap()), true),
    ]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn on_every_backend(check: impl AsyncFn(&'static str, Arc<dyn Backend>)) {
    for (name, open, _) in backends() {
        let dir = tempfile::tempdir().unwrap();
        runtime().block_on(async { check(name, open(dir.path())).await });
    }
}

/// For promises about what is there after the process: `check` gets a way to open the same queue again.
fn on_every_lasting_backend(check: impl AsyncFn(&'static str, &dyn Fn() -> Arc<dyn Backend>)) {
    for (name, open, lasts) in backends() {
        if lasts {
            let dir = tempfile::tempdir().unwrap();
            runtime().block_on(async { check(name, &|| open(dir.path())).await });
        }
    }
}

fn record(number: usize) -> Record {
    Record { items: 1 + u32::try_from(number % 3).unwrap(), payload: format!("record {number:06}").into_bytes() }
}

fn records(numbers: std::ops::Range<usize>) -> Vec<Record> {
    numbers.map(record).collect()
}

fn depth_of(numbers: impl IntoIterator<Item = usize>) -> Depth {
    let mut depth = Depth::default();
    for record in numbers.into_iter().map(record) {
        depth.items += u64::from(record.items);
        depth.records += 1;
        depth.bytes += record.payload.len() as u64;
    }
    depth
}

/// The numbers of the records that were leased.
fn numbers(leases: &[Lease]) -> Vec<usize> {
    leases.iter().map(|lease| String::from_utf8_lossy(&lease.payload)[7..].parse().unwrap()).collect()
}

fn seqs(leases: &[Lease]) -> Vec<u64> {
    leases.iter().map(|lease| lease.seq).collect()
}

/// Everything that is due, in leases of at most 64.
async fn lease_all(queue: &dyn Backend) -> Vec<Lease> {
    let mut all = Vec::new();
    loop {
        let mut leases = queue.lease(64, Duration::ZERO).await.unwrap();
        if leases.is_empty() {
            return all;
        }
        all.append(&mut leases);
    }
}

#[test]
fn records_come_out_in_order_across_generations_and_only_once() {
    on_every_backend(async |name, queue| {
        for start in (0..500).step_by(20) {
            queue.append(records(start..start + 20)).await.unwrap();
        }
        let leases = lease_all(&*queue).await;
        assert_eq!(numbers(&leases), (0..500).collect::<Vec<_>>(), "{name}");
        assert!(seqs(&leases).is_sorted_by(|a, b| a < b), "{name}");
        assert!(leases.iter().all(|lease| lease.attempt == 1 && lease.items == record(numbers(std::slice::from_ref(lease))[0]).items));
        assert_eq!(queue.depth(), depth_of(0..500), "leased records still count in {name}");
    });
}

#[test]
fn claimed_records_are_leased_out_of_order_and_passed_by_others() {
    on_every_backend(async |name, queue| {
        // A queue that is consumed in order cannot ack out of it.
        if name == "log" {
            return;
        }
        queue.append(records(0..200)).await.unwrap();
        let all = seqs(&queue.peek(0, 200).await.unwrap());
        let picked = [all[150], all[7], all[199]];
        let claimed = queue.claim(&picked).await.unwrap();
        let mut found = numbers(&claimed);
        found.sort_unstable();
        assert_eq!(found, [7, 150, 199], "{name}");
        assert!(claimed.iter().all(|lease| lease.attempt == 1), "{name}");
        assert!(queue.claim(&picked).await.unwrap().is_empty(), "{name}: they are taken");
        queue.ack(&picked[..2]).await.unwrap();
        let rest = lease_all(&*queue).await;
        let expected: Vec<usize> = (0..199).filter(|number| ![7, 150].contains(number)).collect();
        assert_eq!(numbers(&rest), expected, "{name}");
        queue.release(&picked[2..], Duration::from_secs(3_600)).await.unwrap();
        let again = queue.claim(&[all[199], all[7]]).await.unwrap();
        assert_eq!(
            (numbers(&again), again[0].attempt),
            (vec![199], 2),
            "{name}: no delay holds it, what is acked is gone"
        );
        queue.ack(&seqs(&rest)).await.unwrap();
        queue.ack(&[all[199]]).await.unwrap();
        assert_eq!(queue.depth(), Depth::default(), "{name}");
    });
}

#[test]
fn space_comes_back_when_everything_was_claimed_and_acked() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let queue = SledBackend::open_work(dir.path(), "work", &small()).unwrap();
        for start in (0..600).step_by(20) {
            queue.append(records(start..start + 20)).await.unwrap();
        }
        let generations = || {
            let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with('0')).count()
        };
        assert!(generations() > 3);
        let all = seqs(&queue.peek(0, 600).await.unwrap());
        for some in all.chunks(50).rev() {
            let claimed = queue.claim(some).await.unwrap();
            assert_eq!(claimed.len(), some.len());
            queue.ack(some).await.unwrap();
        }
        assert_eq!(queue.depth(), Depth::default());
        // The writer sweeps after it answered; it answers this one after that.
        queue.ack(&[]).await.unwrap();
        assert_eq!(generations(), 1);
        queue.append(records(0..3)).await.unwrap();
        assert_eq!(numbers(&lease_all(&queue).await), [0, 1, 2]);
    });
}

#[test]
fn acks_in_any_order_forget_and_count_down() {
    on_every_backend(async |name, queue| {
        queue.append(records(0..200)).await.unwrap();
        let leases = lease_all(&*queue).await;
        let (even, odd): (Vec<&Lease>, Vec<&Lease>) = leases.iter().rev().partition(|lease| lease.seq % 2 == 0);
        queue.ack(&even.iter().map(|lease| lease.seq).collect::<Vec<_>>()).await.unwrap();
        let left: Vec<usize> = odd.iter().flat_map(|lease| numbers(std::slice::from_ref(*lease))).collect();
        assert_eq!(queue.depth(), depth_of(left), "{name}");
        queue.ack(&seqs(&leases)).await.unwrap();
        assert_eq!(queue.depth(), Depth::default(), "acking twice must not count twice in {name}");
        assert!(queue.lease(10, Duration::ZERO).await.unwrap().is_empty(), "{name}");
    });
}

#[test]
fn what_is_not_leased_cannot_be_acked_or_released() {
    on_every_backend(async |name, queue| {
        queue.append(records(0..3)).await.unwrap();
        let seqs = seqs(&queue.peek(0, 10).await.unwrap());
        queue.ack(&seqs).await.unwrap();
        queue.release(&seqs, SOON).await.unwrap();
        queue.ack(&[4_711]).await.unwrap();
        assert_eq!(queue.depth(), depth_of(0..3), "{name}");
        assert_eq!(numbers(&lease_all(&*queue).await), [0, 1, 2], "{name}");
    });
}

#[test]
fn a_released_record_is_handed_out_again_with_a_higher_attempt() {
    on_every_backend(async |name, queue| {
        queue.append(records(0..4)).await.unwrap();
        for attempt in 1..=3 {
            let leases = queue.lease(1, Duration::ZERO).await.unwrap();
            assert_eq!((numbers(&leases), leases[0].attempt), (vec![0], attempt), "{name}");
            queue.release(&seqs(&leases), Duration::ZERO).await.unwrap();
        }
        let leases = lease_all(&*queue).await;
        assert_eq!(numbers(&leases), [0, 1, 2, 3], "released ones are the oldest in {name}");
        assert_eq!(leases.iter().map(|lease| lease.attempt).collect::<Vec<_>>(), [4, 1, 1, 1], "{name}");
    });
}

#[test]
fn a_delayed_record_lets_others_pass_and_comes_when_it_is_due() {
    on_every_backend(async |name, queue| {
        queue.append(records(0..3)).await.unwrap();
        let first = queue.lease(1, Duration::ZERO).await.unwrap();
        queue.release(&seqs(&first), Duration::from_millis(150)).await.unwrap();
        let others = queue.lease(10, Duration::ZERO).await.unwrap();
        assert_eq!(numbers(&others), [1, 2], "{name}");
        let again = queue.lease(10, SOON).await.unwrap();
        assert_eq!((numbers(&again), again[0].attempt), (vec![0], 2), "{name}");
    });
}

#[test]
fn a_lease_waits_for_an_append_and_gives_up_in_time() {
    on_every_backend(async |name, queue| {
        assert!(queue.lease(5, Duration::from_millis(10)).await.unwrap().is_empty(), "{name}");
        assert!(queue.lease(0, SOON).await.unwrap().is_empty(), "{name}");
        let consumer = queue.lease(5, SOON);
        let producer = async {
            tokio::task::yield_now().await;
            queue.append(records(7..9)).await.unwrap();
        };
        let (leases, ()) = tokio::join!(consumer, producer);
        assert_eq!(numbers(&leases.unwrap()), [7, 8], "{name}");
    });
}

#[test]
fn a_lease_that_is_given_up_keeps_nothing() {
    on_every_backend(async |name, queue| {
        queue.append(records(0..50)).await.unwrap();
        for polls in 0..8 {
            let mut lease = std::pin::pin!(queue.lease(50, SOON));
            for _ in 0..polls {
                let polled = std::future::poll_fn(|context| std::task::Poll::Ready(lease.as_mut().poll(context))).await;
                if let std::task::Poll::Ready(leases) = polled {
                    queue.release(&seqs(&leases.unwrap()), Duration::ZERO).await.unwrap();
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let all = tokio::time::timeout(SOON, async {
            let mut all = Vec::new();
            while all.len() < 50 {
                all.append(&mut numbers(&queue.lease(50, SOON).await.unwrap()));
            }
            all
        });
        let mut all = all.await.unwrap();
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>(), "{name}");
    });
}

#[test]
fn peeking_shows_what_waits_and_changes_nothing() {
    on_every_backend(async |name, queue| {
        queue.append(records(0..100)).await.unwrap();
        let leases = queue.lease(10, Duration::ZERO).await.unwrap();
        queue.ack(&seqs(&leases[..5])).await.unwrap();
        let seen = queue.peek(0, 1_000).await.unwrap();
        assert_eq!(numbers(&seen), (5..100).collect::<Vec<_>>(), "{name}");
        assert_eq!(seen.iter().map(|lease| lease.attempt).collect::<Vec<_>>()[..6], [1, 1, 1, 1, 1, 0], "{name}");
        let from = seen[20].seq;
        assert_eq!(numbers(&queue.peek(from, 3).await.unwrap()), [25, 26, 27], "{name}");
        assert_eq!(numbers(&queue.lease(1, Duration::ZERO).await.unwrap()), [10], "{name}");
    });
}

#[test]
fn records_up_to_the_limit_are_taken_and_larger_ones_refused_whole() {
    on_every_backend(async |name, queue| {
        let large = Record { items: 1, payload: vec![b'x'; Record::MAX_BYTES] };
        let too_large = Record { items: 1, payload: vec![b'x'; Record::MAX_BYTES + 1] };
        let error = queue.append(vec![record(0), too_large]).await.unwrap_err();
        assert!(matches!(error, QueueError::TooLarge { limit: Record::MAX_BYTES, .. }), "{name}: {error}");
        assert_eq!(queue.depth(), Depth::default(), "{name}");
        queue.append(vec![large.clone(), Record { items: 0, payload: Vec::new() }, large.clone()]).await.unwrap();
        let leases = lease_all(&*queue).await;
        assert_eq!(leases.iter().map(|lease| lease.payload.len()).collect::<Vec<_>>(), [1 << 20, 0, 1 << 20], "{name}");
    });
}

#[test]
fn a_closed_queue_answers_closed_and_wakes_who_waits() {
    on_every_backend(async |name, queue| {
        queue.append(records(0..1)).await.unwrap();
        let leases = queue.lease(1, Duration::ZERO).await.unwrap();
        let (waiting, closed) = tokio::join!(queue.lease(1, SOON), queue.close());
        closed.unwrap();
        assert!(matches!(waiting, Err(QueueError::Closed { .. })), "{name}");
        assert!(matches!(queue.append(records(1..2)).await, Err(QueueError::Closed { .. })), "{name}");
        assert!(matches!(queue.lease(1, SOON).await, Err(QueueError::Closed { .. })), "{name}");
        assert!(matches!(queue.ack(&seqs(&leases)).await, Err(QueueError::Closed { .. })), "{name}");
        assert!(matches!(queue.release(&seqs(&leases), SOON).await, Err(QueueError::Closed { .. })), "{name}");
        assert!(matches!(queue.peek(0, 1).await, Err(QueueError::Closed { .. })), "{name}");
        queue.close().await.unwrap();
    });
}

#[test]
fn everything_unacked_is_there_after_a_restart_with_its_depth_and_attempts() {
    for closes in [true, false] {
        on_every_lasting_backend(async |name, open| {
            let queue = open();
            queue.append(records(0..300)).await.unwrap();
            let leases = queue.lease(60, Duration::ZERO).await.unwrap();
            queue.ack(&seqs(&leases[10..50])).await.unwrap();
            if closes {
                queue.close().await.unwrap();
            }
            drop(queue);

            let queue = open();
            let left: Vec<usize> = (0..10).chain(50..300).collect();
            assert_eq!(queue.depth(), depth_of(left.clone()), "{name}, closed: {closes}");
            let leases = lease_all(&*queue).await;
            assert_eq!(numbers(&leases), left, "{name}, closed: {closes}");
            let attempts: Vec<u32> = leases.iter().map(|lease| lease.attempt).collect();
            assert!(attempts[..20].iter().all(|attempt| *attempt == 2), "{name}, closed: {closes}: {attempts:?}");
            assert!(attempts[20..].iter().all(|attempt| *attempt == 1), "{name}, closed: {closes}: {attempts:?}");
        });
    }
}

#[test]
fn a_record_that_kills_the_process_each_time_is_counted_each_time() {
    on_every_lasting_backend(async |name, open| {
        open().append(records(0..3)).await.unwrap();
        for attempt in 1..=5 {
            let leases = open().lease(1, Duration::ZERO).await.unwrap();
            assert_eq!((numbers(&leases), leases[0].attempt), (vec![0], attempt), "{name}");
        }
    });
}

#[test]
fn sequences_are_never_used_again() {
    on_every_lasting_backend(async |name, open| {
        let mut last = 0;
        for round in 0..8 {
            let queue = open();
            queue.append(records(round..round + 60)).await.unwrap();
            let leases = lease_all(&*queue).await;
            assert!(seqs(&leases).first().is_some_and(|first| *first > last), "{name}");
            last = seqs(&leases).into_iter().max().unwrap();
            queue.ack(&seqs(&leases)).await.unwrap();
            if round % 2 == 0 {
                queue.close().await.unwrap();
            }
        }
        assert_eq!(open().depth(), Depth::default(), "{name}");
    });
}

#[test]
fn many_producers_at_once_lose_nothing_and_keep_their_own_order() {
    on_every_backend(async |name, queue| {
        let producers = (0..16).map(|producer| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                for step in 0..25 {
                    queue.append(records(producer * 1_000 + step..producer * 1_000 + step + 1)).await.unwrap();
                }
            })
        });
        for producer in producers.collect::<Vec<_>>() {
            producer.await.unwrap();
        }
        let numbers = numbers(&lease_all(&*queue).await);
        for producer in 0..16 {
            let own: Vec<usize> = numbers.iter().copied().filter(|number| number / 1_000 == producer).collect();
            assert_eq!(own, (producer * 1_000..producer * 1_000 + 25).collect::<Vec<_>>(), "{name}");
        }
    });
}
