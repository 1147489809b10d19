//! What was acknowledged survives a power cut and a `kill -9`.
//!
//! A child process appends, consumes and acks on a file system of its own: ext4 in a loop image. Right after an
//! acknowledgement the file system is shut down without writing its journal (the ioctl with NOLOGFLUSH), which is what a
//! power cut leaves: only what was really synced. The image is mounted again and everything that was acknowledged, and
//! not acked since, must be there. Several cuts hit the same files one after the other, so that what is written after a
//! recovery is tested too. Where loop mounts are not allowed this says so and tests `kill -9` alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use muttd::queue::sled::SledBackend;
use muttd::queue::{Backend, QueueOptions, Record};

use crate::support::SmallDisk;

/// Tells the child where to work and as what: `log:1:/path`.
const CHILD: &str = "MUTTD_TEST_POWER_CUT_CHILD";

/// Cuts for each kind of queue; more with `MUTTD_TEST_ROUNDS`.
const ROUNDS: u64 = 3;

pub(crate) fn rounds() -> u64 {
    std::env::var("MUTTD_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

fn open(kind: &str, dir: &Path) -> Arc<dyn Backend> {
    let options = QueueOptions {
        log_generation_bytes: 24 << 20,
        work_generation_bytes: 12 << 20,
        reserve_free_bytes: 16 << 20,
        ..QueueOptions::default()
    };
    match kind {
        "log" => Arc::new(SledBackend::open_log(dir, kind, &options).unwrap()),
        _ => Arc::new(SledBackend::open_work(dir, kind, &options).unwrap()),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Says on the pipe that the records were acknowledged (`S`) or are about to be acked (`A`).
fn say(word: &str, numbers: &[u64]) {
    let line: String = numbers.iter().map(|number| format!("{word} {number}\n")).collect();
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

fn number_of(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

async fn produce(queue: Arc<dyn Backend>, producer: u64, round: u64) {
    let mut number = (round * 10 + producer) * 1_000_000;
    loop {
        let numbers: Vec<u64> = (number..number + 1 + number % 5).collect();
        let records = numbers.iter().map(|number| {
            // Sizes from a few bytes to 40 kB, incompressible enough for the purpose.
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(8 + (number.wrapping_mul(7_919) % 40_000) as usize, (number % 251) as u8);
            Record { items: 1, payload }
        });
        if queue.append(records.collect()).await.is_err() {
            return;
        }
        say("S", &numbers);
        number += numbers.len() as u64;
    }
}

/// Consumes once some hundred records wait, so that there is always much to lose and the disk does not fill. A work
/// queue also gets some records back for later.
async fn consume(queue: Arc<dyn Backend>, kind: String) {
    loop {
        if queue.depth().records < 400 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let Ok(leases) = queue.lease(20, Duration::from_secs(1)).await else { return };
        let is_done = |number: u64| kind == "log" || !number.is_multiple_of(11);
        let (done, again): (Vec<_>, Vec<_>) = leases.iter().partition(|lease| is_done(number_of(&lease.payload)));
        say("A", &done.iter().map(|lease| number_of(&lease.payload)).collect::<Vec<_>>());
        drop(queue.ack(&done.iter().map(|lease| lease.seq).collect::<Vec<_>>()).await);
        let again: Vec<u64> = again.iter().map(|lease| lease.seq).collect();
        drop(queue.release(&again, Duration::from_millis(500)).await);
    }
}

/// Not a test of its own: the child process is this test, told by a variable that it is one.
#[test]
fn the_child_process_works_until_it_is_cut_off() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let mut parts = task.splitn(3, ':');
    let (kind, round, dir) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let queue = open(kind, Path::new(dir));
    // The harness has begun a line.
    println!();
    runtime().block_on(async {
        let round = round.parse().unwrap();
        let producers: Vec<_> =
            (0..4).map(|producer| tokio::spawn(produce(Arc::clone(&queue), producer, round))).collect();
        tokio::spawn(consume(queue, kind.to_owned()));
        for producer in producers {
            producer.await.unwrap();
        }
    });
}

fn start_child(kind: &str, round: u64, dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "power_cut::the_child_process_works_until_it_is_cut_off",
        "--nocapture",
        "--test-threads=1",
    ]);
    child.env(CHILD, format!("{kind}:{round}:{}", dir.display()));
    child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// What was acknowledged, and what of that was perhaps acked.
#[derive(Default)]
struct Ledger {
    stored: BTreeSet<u64>,
    acked: BTreeSet<u64>,
}

impl Ledger {
    /// Lets a child work until it acknowledged `enough` records, then cuts it off. Only what was said before the cut
    /// counts as acknowledged; an ack that was said after it may have happened just before.
    fn run_and_cut(&mut self, kind: &str, round: u64, dir: &Path, enough: usize, cut: &dyn Fn(&mut Child)) {
        let mut child = start_child(kind, round, dir);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        for line in lines.by_ref().map_while(Result::ok) {
            acknowledged += usize::from(self.note(&line));
            if acknowledged >= enough {
                break;
            }
        }
        cut(&mut child);
        assert!(acknowledged >= enough, "{kind}, round {round}: the child ended after {acknowledged} records");
        for line in lines.map_while(Result::ok).filter(|line| line.starts_with("A ")) {
            self.note(&line);
        }
        drop(child.kill());
        child.wait().unwrap();
    }

    fn note(&mut self, line: &str) -> bool {
        let Some((word, Ok(number))) = line.split_once(' ').map(|(word, number)| (word, number.parse())) else {
            return false;
        };
        match word {
            "S" => self.stored.insert(number),
            "A" => {
                self.acked.insert(number);
                false
            }
            _ => false,
        }
    }

    /// Everything acknowledged and not acked must be there, whole; nothing may have been set aside.
    fn check(&self, kind: &str, round: u64, dir: &Path) {
        let queue = open(kind, dir);
        runtime().block_on(async {
            let mut found = BTreeSet::new();
            let mut from = 0;
            loop {
                let seen = queue.peek(from, 1_000).await.unwrap();
                let Some(last) = seen.last() else { break };
                from = last.seq + 1;
                for lease in &seen {
                    let number = number_of(&lease.payload);
                    assert!(lease.payload[8..].iter().all(|byte| *byte == (number % 251) as u8));
                    found.insert(number);
                }
            }
            let lost: Vec<_> = self.stored.iter().filter(|n| !self.acked.contains(n) && !found.contains(n)).collect();
            assert!(lost.is_empty(), "{kind}, round {round}: {} of {} lost: {lost:?}", lost.len(), self.stored.len());
            assert!(queue.faults().is_empty(), "{kind}, round {round}: {:?}", queue.faults());
            assert!(queue.depth().records >= found.len() as u64, "{kind}, round {round}");
            queue.close().await.unwrap();
        });
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    for kind in ["log", "work"] {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        for round in 1..=rounds() {
            let enough = 1 + (round * 131 % 400) as usize;
            ledger.run_and_cut(kind, round, dir.path(), enough, &|child| child.kill().unwrap());
            ledger.check(kind, round, dir.path());
        }
    }
}

/// An ext4 file system in a file; unmounted when dropped.
pub(crate) struct LoopMount {
    image: PathBuf,
    pub(crate) point: PathBuf,
}

impl LoopMount {
    pub(crate) fn new(dir: &Path) -> Result<Self, String> {
        let (image, point) = (dir.join("image"), dir.join("mount"));
        std::fs::create_dir(&point)
            .and_then(|()| File::create(&image)?.set_len(768 << 20))
            .map_err(|e| e.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mount = Self { image, point };
        mount.mount()?;
        Ok(mount)
    }

    pub(crate) fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.point))
    }

    pub(crate) fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(&self.point))
    }

    /// Stops all writing at once, as if the power were gone (EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH).
    pub(crate) fn cut_power(&self) {
        const SHUTDOWN: libc::c_ulong = 0x8004_587d;
        let no_log_flush: u32 = 2;
        let dir = File::open(&self.point).unwrap();
        // SAFETY: the descriptor is open, and the ioctl reads one u32 that outlives the call.
        let result = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN, &no_log_flush) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        drop(self.unmount());
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {text}")) }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    for kind in ["log", "work"] {
        let dir = tempfile::tempdir().unwrap();
        let mount = match LoopMount::new(dir.path()) {
            Ok(mount) => mount,
            Err(why) => {
                println!("NOT RUN: a power cut needs a loop mount of ext4 and the rights for it: {why}");
                return;
            }
        };
        let data = mount.point.join("queue");
        let mut ledger = Ledger::default();
        for round in 1..=rounds() {
            let enough = 1 + (round * 977 % 2_000) as usize;
            ledger.run_and_cut(kind, round, &data, enough, &|child| {
                mount.cut_power();
                child.kill().unwrap();
            });
            mount.unmount().unwrap();
            mount.mount().unwrap();
            ledger.check(kind, round, &data);
        }
    }
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_works_again_when_there_is_room() {
    for kind in ["log", "work"] {
        let Some(disk) = SmallDisk::mount(96) else { return };
        // No reserve: the disk itself refuses, in the middle of whatever is being written. Generations are small, because
        // the newest one keeps its space until half of it was written, however little is left in it.
        let options = QueueOptions {
            reserve_free_bytes: 0,
            handoff_bytes: 0,
            log_generation_bytes: 16 << 20,
            work_generation_bytes: 16 << 20,
            ..QueueOptions::default()
        };
        let data = disk.path().join("queue");
        let queue = match kind {
            "log" => SledBackend::open_log(&data, kind, &options).unwrap(),
            _ => SledBackend::open_work(&data, kind, &options).unwrap(),
        };
        runtime().block_on(async {
            let mut stored = BTreeSet::new();
            let ballast = disk.path().join("ballast");
            for round in 0..3_u64 {
                fill_up(&ballast, 24 << 20).await;
                let refused = fill(&queue, round * 100_000, &mut stored).await;
                assert!(refused > 0, "{kind}, round {round}");
                std::fs::remove_file(&ballast).unwrap();
                drain(&queue, &mut stored, kind, round).await;
            }
            assert!(!queue.faults().is_empty(), "{kind}");
            queue.close().await.unwrap();
        });
    }
}

/// Writes so many bytes as soon as there is room: what was drained is deleted by the writer a moment after the last ack.
async fn fill_up(ballast: &Path, bytes: usize) {
    for _ in 0..200 {
        match std::fs::write(ballast, vec![1; bytes]) {
            Ok(()) => return,
            Err(_) => drop(std::fs::remove_file(ballast)),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the space of what was drained is not given back");
}

/// Appends until the disk refuses for the third time; returns how often it did.
async fn fill(queue: &SledBackend, first: u64, stored: &mut BTreeSet<u64>) -> usize {
    let mut refused = 0;
    for number in first..first + 20_000 {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(60_000, (number % 251) as u8);
        match queue.append(vec![Record { items: 1, payload }]).await {
            Ok(()) => drop(stored.insert(number)),
            Err(_) => refused += 1,
        }
        if refused == 3 {
            break;
        }
    }
    refused
}

/// Takes everything out, which must hold all that was stored, in order; then waits until appends are taken again.
async fn drain(queue: &SledBackend, stored: &mut BTreeSet<u64>, kind: &str, round: u64) {
    let mut last = 0;
    loop {
        let leases = queue.lease(50, Duration::from_millis(10)).await.unwrap();
        if leases.is_empty() {
            break;
        }
        for lease in &leases {
            let number = number_of(&lease.payload);
            assert!(number >= last, "{kind}, round {round}: {number} after {last}");
            last = number;
            stored.remove(&number);
        }
        queue.ack(&leases.iter().map(|lease| lease.seq).collect::<Vec<_>>()).await.unwrap();
    }
    assert!(stored.is_empty(), "{kind}, round {round}: {stored:?} are lost");
    assert_eq!(queue.depth().records, 0, "{kind}, round {round}");
    for _ in 0..50 {
        let payload = (round * 100_000 + 99_999).to_be_bytes().to_vec();
        if queue.append(vec![Record { items: 1, payload }]).await.is_ok() {
            stored.insert(round * 100_000 + 99_999);
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{kind}, round {round}: appends are still refused: {:?}", queue.faults());
}
