//! Random histories of a queue against a simple model: append, lease, ack, release, close and reopen, drop and reopen,
//! and looking at a copy of the directory as a `kill -9` at that moment would have left it.
//!
//! What was answered must hold exactly: order, attempts, depth, nothing lost, nothing acked coming back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muttd::queue::sled::SledBackend;
use muttd::queue::{Backend, Depth, QueueOptions, Record, Seq};

/// Histories for each kind of queue, and steps in each.
const HISTORIES: u64 = 12;
const STEPS: usize = 60;

/// A small generator with a seed, so that a failing history can be run again (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone, Copy)]
struct Expected {
    items: u32,
    bytes: usize,
    /// How often it was handed out.
    attempt: u32,
    leased: Option<Seq>,
    /// Whether it was handed out in this life of the process: once released, such a record is due before fresh ones.
    was_out: bool,
}

/// What the queue must hold, by the number in the payload; appended in ascending order.
#[derive(Debug, Clone, Default)]
struct Model {
    waiting: BTreeMap<u64, Expected>,
    next: u64,
}

impl Model {
    fn new_records(&mut self, dice: &mut Dice) -> Vec<Record> {
        let mut records = Vec::new();
        for _ in 0..=dice.below(25) {
            let size = if dice.chance(3) { 100_000 + dice.below(500_000) } else { 8 + dice.below(300) };
            let mut payload = vec![b'.'; size as usize];
            payload[..8].copy_from_slice(&self.next.to_be_bytes());
            let items = 1 + dice.below(5) as u32;
            self.waiting
                .insert(self.next, Expected { items, bytes: payload.len(), attempt: 0, leased: None, was_out: false });
            self.next += 1;
            records.push(Record { items, payload });
        }
        records
    }

    fn depth(&self) -> Depth {
        Depth {
            items: self.waiting.values().map(|expected| u64::from(expected.items)).sum(),
            records: self.waiting.len() as u64,
            bytes: self.waiting.values().map(|expected| expected.bytes as u64).sum(),
        }
    }

    fn restart(&mut self) {
        self.waiting.values_mut().for_each(|expected| (expected.leased, expected.was_out) = (None, false));
    }

    fn some_leased(&self, dice: &mut Dice) -> Vec<u64> {
        let leased = self.waiting.iter().filter(|(_, expected)| expected.leased.is_some());
        leased.map(|(number, _)| *number).filter(|_| dice.chance(50)).collect()
    }

    fn seqs(&self, numbers: &[u64]) -> Vec<Seq> {
        numbers.iter().filter_map(|number| self.waiting[number].leased).collect()
    }

    /// Leases up to `max` and checks that these are the oldest that are due.
    async fn lease(&mut self, queue: &dyn Backend, max: usize, context: &str) -> usize {
        let leases = queue.lease(max, Duration::ZERO).await.unwrap();
        let due = self.waiting.iter().filter(|(_, expected)| expected.leased.is_none());
        let mut due: Vec<(bool, u64)> = due.map(|(number, expected)| (!expected.was_out, *number)).collect();
        due.sort_unstable();
        assert!(leases.is_empty() == due.is_empty() && leases.len() <= max, "{context}: {} due", due.len());
        for (lease, (_, number)) in leases.iter().zip(due) {
            let expected = self.waiting.get_mut(&number).unwrap();
            expected.attempt += 1;
            (expected.leased, expected.was_out) = (Some(lease.seq), true);
            assert_eq!(lease.payload[..8], number.to_be_bytes(), "{context}");
            let found = (lease.items, lease.payload.len(), lease.attempt);
            assert_eq!(found, (expected.items, expected.bytes, expected.attempt), "{context}: record {number}");
        }
        leases.len()
    }

    /// Claims some records wherever they are, some of them leased or long gone, and checks that exactly those come that
    /// wait and nobody has.
    async fn claim(&mut self, queue: &dyn Backend, dice: &mut Dice, context: &str) {
        let seen = queue.peek(0, 400).await.unwrap();
        let mut wanted: Vec<Seq> = seen.iter().map(|lease| lease.seq).filter(|_| dice.chance(20)).collect();
        wanted.extend((0..5).map(|_| dice.below(1_000)));
        wanted.sort_unstable();
        wanted.dedup();
        let leases = queue.claim(&wanted).await.unwrap();
        let number = |payload: &[u8]| u64::from_be_bytes(payload[..8].try_into().unwrap());
        let due = |lease: &&muttd::queue::Lease| {
            wanted.contains(&lease.seq) && self.waiting[&number(&lease.payload)].leased.is_none()
        };
        let expected: Vec<Seq> = seen.iter().filter(due).map(|lease| lease.seq).collect();
        // Those beyond what was looked at are not known here.
        let last = seen.last().map_or(0, |lease| lease.seq);
        let claimed: Vec<Seq> = leases.iter().map(|lease| lease.seq).filter(|seq| *seq <= last).collect();
        assert_eq!(claimed, expected, "{context}");
        for lease in leases {
            let expected = self.waiting.get_mut(&number(&lease.payload)).unwrap();
            expected.attempt += 1;
            (expected.leased, expected.was_out) = (Some(lease.seq), true);
            let found = (lease.items, lease.payload.len(), lease.attempt);
            assert_eq!(found, (expected.items, expected.bytes, expected.attempt), "{context}: claimed {}", lease.seq);
        }
    }
}

type Open = fn(&Path, &QueueOptions) -> Arc<dyn Backend>;

/// Checks that a queue holds exactly what the model says, by leasing all of it.
async fn check_all(queue: &dyn Backend, mut model: Model, context: &str) {
    assert_eq!(queue.depth(), model.depth(), "{context}");
    while model.lease(queue, 100, context).await > 0 {}
    assert!(model.waiting.values().all(|expected| expected.leased.is_some()), "{context}");
    let all: Vec<u64> = model.waiting.keys().copied().collect();
    queue.ack(&model.seqs(&all)).await.unwrap();
    assert_eq!(queue.depth(), Depth::default(), "{context}");
}

/// Copies a directory; a generation that is deleted meanwhile is not there in the copy either.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (from, to) = (from.join(entry.as_ref().unwrap().file_name()), to.join(entry?.file_name()));
        let copied = if from.is_dir() { copy(&from, &to) } else { std::fs::copy(&from, to.clone()).map(drop) };
        match copied {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && from.extension().is_none() && to.is_dir() => {
                std::fs::remove_dir_all(to)?;
            }
            other => other?,
        }
    }
    Ok(())
}

async fn run_history(seed: u64, open: Open, name: &str) {
    // In memory where there is such a place: syncs are not what is tested here.
    let root = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(root).unwrap();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let options = QueueOptions {
        generation_items: 50 + dice.below(400),
        work_generation_bytes: 5_000 + dice.below(2_000_000),
        handoff_bytes: dice.below(40_000) as usize,
        reserve_free_bytes: 0,
        ..QueueOptions::default()
    };
    let path = dir.path().join("queue");
    let mut queue = open(&path, &options);
    let mut model = Model::default();
    for step in 0..STEPS {
        let context = format!("{name}, seed {seed}, step {step}");
        match dice.below(100) {
            0..40 => queue.append(model.new_records(&mut dice)).await.unwrap(),
            40..46 if name == "work" => model.claim(&*queue, &mut dice, &context).await,
            40..65 => drop(model.lease(&*queue, 1 + dice.below(60) as usize, &context).await),
            65..82 => {
                let numbers = model.some_leased(&mut dice);
                queue.ack(&model.seqs(&numbers)).await.unwrap();
                model.waiting.retain(|number, _| !numbers.contains(number));
            }
            82..92 => {
                let numbers = model.some_leased(&mut dice);
                queue.release(&model.seqs(&numbers), Duration::ZERO).await.unwrap();
                numbers.iter().for_each(|number| model.waiting.get_mut(number).unwrap().leased = None);
            }
            92..94 => {
                let mut then = model.clone();
                then.restart();
                copy(&path, &dir.path().join("copy")).unwrap();
                let killed = open(&dir.path().join("copy"), &options);
                check_all(&*killed, then, &format!("{context}, as a kill would leave it")).await;
                drop(killed);
                std::fs::remove_dir_all(dir.path().join("copy")).unwrap();
            }
            choice => {
                if choice < 97 {
                    queue.close().await.unwrap();
                }
                drop(queue);
                model.restart();
                queue = open(&path, &options);
            }
        }
        assert_eq!(queue.depth(), model.depth(), "{context}");
        assert!(queue.faults().is_empty(), "{context}: {:?}", queue.faults());
    }
    drop(queue);
    model.restart();
    check_all(&*open(&path, &options), model, &format!("{name}, seed {seed}, at the end")).await;
}

fn run_histories(name: &str, open: Open) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for seed in 1..=HISTORIES {
        runtime.block_on(run_history(seed, open, name));
    }
}

#[test]
fn random_histories_of_a_log_agree_with_the_model() {
    run_histories("log", |dir, options| Arc::new(SledBackend::open_log(dir, "log", options).unwrap()));
}

#[test]
fn random_histories_of_a_work_queue_agree_with_the_model() {
    run_histories("work", |dir, options| Arc::new(SledBackend::open_work(dir, "work", options).unwrap()));
}
