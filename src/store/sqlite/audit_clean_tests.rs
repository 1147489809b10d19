//! Files of the audit that are written anew, and parts that begin: while events are recorded, after a crash, on a full disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::audit_tests::{START, TINY, all, files, judged, limit, newest_first, open};
use super::connect::{Schema, open_writer};
use super::{AuditDb, schema};
use crate::model::{EventIds, Judged};
use crate::store::archive::Record;
use crate::store::{AuditLog as _, AuditSettings, AuditShelf as _};

const ROOMY: AuditSettings = AuditSettings { advance_months: 1, max_bytes: 1 << 30 };
const SECRET: &str = "erased-router-77";

/// Rows of some hosts, every fifth of the one that is to be erased.
fn rows(count: usize) -> Vec<Judged> {
    let ids = EventIds::new(7);
    let mut rows: Vec<Judged> = (0..count).map(|number| judged(&ids, START + number as i64, number)).collect();
    for row in rows.iter_mut().skip(3).step_by(5) {
        row.event.hostname = SECRET.into();
        row.event.message = format!("{SECRET} said {}", row.event.message).as_str().into();
        row.event.correlation_id = Some(format!("{SECRET}-{}", row.event.id).as_str().into());
    }
    rows
}

fn is_secret(row: &Judged) -> bool {
    row.event.hostname == SECRET
}

/// Records out of order, so that rows move within the tree, and removes those of the host.
async fn recorded_and_removed(audit: &AuditDb, rows: &[Judged]) {
    let (first, second): (Vec<_>, Vec<_>) = rows.iter().cloned().enumerate().partition(|(number, _)| number % 7 < 3);
    for half in [second, first] {
        for chunk in half.chunks(100) {
            audit.record(chunk.iter().map(|(_, row)| row.clone()).collect()).await.unwrap();
        }
    }
    let secrets: Vec<Record> =
        rows.iter().filter(|row| is_secret(row)).map(|row| Record::Event(Box::new(row.clone()), Vec::new())).collect();
    for batch in secrets.chunks(500) {
        audit.remove(batch.to_vec()).await.unwrap();
    }
}

/// No file in a folder, logs included, has a byte of what the host said or of its ids.
fn assert_nothing_is_left(folder: &Path, rows: &[Judged]) {
    let ids: std::collections::BTreeSet<&[u8]> =
        rows.iter().filter(|row| is_secret(row)).map(|row| row.event.id.as_bytes().as_slice()).collect();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let name = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!name, "the host is named in {}", path.display());
        let id = bytes.windows(16).any(|window| ids.contains(window));
        assert!(!id, "an id of the host is in {}", path.display());
    }
}

fn used(folder: &Path, name: &str) -> u64 {
    let connection = Connection::open(folder.join(name)).unwrap();
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    pages.unsigned_abs() * 4_096
}

fn is_marked(folder: &Path, name: &str) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM facts WHERE name = 'unclean')";
    Connection::open(folder.join(name)).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_cleaned_while_events_go_on_being_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Arc::new(open(folder.path(), ROOMY));
    let rows = rows(8_000);
    recorded_and_removed(&audit, &rows).await;
    let (stop, recorder) = (Arc::new(AtomicBool::new(false)), Arc::clone(&audit));
    let is_over = Arc::clone(&stop);
    let recording = tokio::spawn(async move {
        let (ids, mut recorded) = (EventIds::new(8), Vec::new());
        while !is_over.load(Ordering::Relaxed) {
            let number = recorded.len();
            let row = judged(&ids, START + 100_000 + number as i64, number);
            recorder.record(vec![row.clone()]).await.unwrap();
            recorded.push(row);
        }
        recorded
    });
    audit.forget_host(SECRET).await.unwrap();
    assert_nothing_is_left(folder.path(), &rows);
    stop.store(true, Ordering::Relaxed);
    let mut expected: Vec<Judged> = rows.into_iter().filter(|row| !is_secret(row)).collect();
    expected.extend(recording.await.unwrap());
    assert_eq!(all(&audit, &limit(1_000)).await, newest_first(&expected));
    assert_eq!(audit.approximate_rows().await.unwrap(), expected.len() as u64);
    assert!(!is_marked(folder.path(), "events-2026-11.db"));
    audit.record(expected.clone()).await.unwrap();
    assert_eq!(audit.approximate_rows().await.unwrap(), expected.len() as u64, "nothing is there twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_file_is_cleaned_without_a_further_part_and_one_that_a_crash_left_is_cleaned_later() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), ROOMY);
    let rows = rows(400);
    recorded_and_removed(&audit, &rows).await;
    audit.forget_host(SECRET).await.unwrap();
    assert_nothing_is_left(folder.path(), &rows);
    audit.close().await.unwrap();
    assert!(!files(folder.path()).contains(&"events-2026-11.2.db".to_owned()), "{:?}", files(folder.path()));
    // As after a crash between the name's end and the file's: nobody knows the host, the mark is there.
    let connection = Connection::open(folder.path().join("events-2026-11.db")).unwrap();
    connection.execute("INSERT INTO facts VALUES ('unclean', 1)", []).unwrap();
    drop(connection);
    let audit = open(folder.path(), ROOMY);
    audit.forget_host(SECRET).await.unwrap();
    assert!(!is_marked(folder.path(), "events-2026-11.db"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_its_time_delays_the_end_of_an_erasure_and_does_not_spoil_it() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Arc::new(open(folder.path(), ROOMY));
    let rows = rows(4_000);
    recorded_and_removed(&audit, &rows).await;
    let reader = Connection::open(folder.path().join("events-2026-11.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let erasing = tokio::spawn({
        let audit = Arc::clone(&audit);
        async move { audit.forget_host(SECRET).await }
    });
    // Until the file was written anew; its log cannot be emptied before the reader has gone.
    let part = folder.path().join("events-2026-11.db-wal");
    while !is_marked(folder.path(), "events-2026-11.db") {
        tokio::task::yield_now().await;
    }
    assert!(part.metadata().unwrap().len() > 0 && !erasing.is_finished());
    drop(reader);
    erasing.await.unwrap().unwrap();
    assert_nothing_is_left(folder.path(), &rows);
}

/// Copies what a process that is killed at this moment leaves, while its connections are open.
fn as_killed(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

#[tokio::test]
async fn killed_between_a_roll_and_the_first_row_the_month_goes_on_in_the_new_part() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), TINY);
    let ids = EventIds::new(1);
    let rows: Vec<Judged> = (0..1_000).map(|number| judged(&ids, START + number as i64, number)).collect();
    let mut recorded = 0;
    // The part is full: the next row begins another one.
    while used(folder.path(), "events-2026-11.db") < TINY.max_bytes || recorded == 0 {
        audit.record(rows[recorded..recorded + 20].to_vec()).await.unwrap();
        recorded += 20;
    }
    audit.close().await.unwrap();
    let before = files(folder.path());
    let next = folder.path().join("events-2026-11.2.db");
    assert!(recorded < 900 && !next.exists(), "{before:?}");
    // An empty file, and one with each number of its migrations done.
    for done in 0..=schema::AUDIT.migrations.len() + 1 {
        let _open = match done.checked_sub(1) {
            None => {
                std::fs::write(&next, "").unwrap();
                None
            }
            Some(done) => {
                let part = Schema { migrations: &schema::AUDIT.migrations[..done], ..schema::AUDIT };
                Some(open_writer(&next, part).unwrap())
            }
        };
        let killed = as_killed(folder.path());
        let audit = open(killed.path(), TINY);
        assert_eq!(all(&audit, &limit(500)).await, newest_first(&rows[..recorded]), "{done} steps");
        // What was not answered comes again, with what came since.
        audit.record(rows[recorded - 20..recorded + 40].to_vec()).await.unwrap();
        assert_eq!(all(&audit, &limit(500)).await, newest_first(&rows[..recorded + 40]), "{done} steps");
        assert_eq!(audit.approximate_rows().await.unwrap(), recorded as u64 + 40, "{done} steps");
        audit.close().await.unwrap();
        let there = files(killed.path());
        assert!(there.contains(&"events-2026-11.2.db".to_owned()), "{there:?}");
        assert!(!there.iter().any(|name| name.contains("damaged")), "{there:?}");
    }
}
