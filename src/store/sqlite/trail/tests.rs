//! Tampering, byte by byte and line by line, through a connection of our own with the triggers dropped: every kind must be
//! reported, and name the line where there is one.

use std::path::PathBuf;

use proptest::prelude::*;
use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::*;
use crate::model::Timestamp;
use crate::store::sqlite::ConfigDb;
use crate::store::{Action, Change, ChangeLog, Origin, Tampering, Via};

/// A closed database with some lines of every shape.
struct House {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn clock() -> Clock {
    Clock::fixed(Timestamp::from_millis(1_790_000_000_000))
}

async fn write(database: &ConfigDb, lines: usize) {
    write_as("anna", database, lines).await;
}

async fn write_as(by: &str, database: &ConfigDb, lines: usize) {
    for number in 0..lines {
        let mut change = Change::new(by, format!("c-{number}"));
        if number % 2 == 0 {
            change.reason = Some(format!("ticket {number}"));
            change.origin = Origin { via: Via::Page, peer: Some([192, 0, 2, 7].into()) };
        }
        let old = (number % 3 > 0).then(|| serde_json::json!({"a": number}));
        let new = (number % 3 < 2).then(|| serde_json::json!({"a": number + 1, "b": "\u{e9}"}));
        let action = Action { kind: "targets", record_id: format!("t{number}"), old, new };
        database.note_action(action, &change).await.unwrap();
    }
}

async fn house(lines: usize) -> House {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.db");
    let database = ConfigDb::open(&path, clock()).unwrap();
    write(&database, lines).await;
    database.finish().await.unwrap();
    House { folder, path }
}

impl House {
    /// A connection as somebody has it who found the file.
    fn raw(&self) -> Connection {
        let raw = Connection::open(&self.path).unwrap();
        raw.execute_batch("PRAGMA synchronous = off; DROP TRIGGER config_audit_log_no_update; DROP TRIGGER config_audit_log_no_delete;")
            .unwrap();
        raw
    }

    fn report(&self) -> TrailReport {
        verify_file(&self.path, &[], &clock()).unwrap()
    }

    async fn reopened(&self, lines: usize) -> TrailReport {
        self.reopened_as("anna", lines).await
    }

    async fn reopened_as(&self, by: &str, lines: usize) -> TrailReport {
        let database = ConfigDb::open(&self.path, clock()).unwrap();
        write_as(by, &database, lines).await;
        database.finish().await.unwrap();
        self.report()
    }
}

/// Kinds and lines of what was found, the missing triggers left out.
fn told(report: &TrailReport) -> Vec<(Tampering, Option<i64>)> {
    let faults = report.faults.iter().filter(|fault| fault.kind != Tampering::Guard);
    faults.map(|fault| (fault.kind, fault.id)).collect()
}

#[tokio::test]
async fn an_untouched_log_is_whole_and_stays_so_over_restarts() {
    let house = house(0).await;
    assert!(house.report().is_whole(), "an empty log: {:?}", house.report());
    for total in [3, 6, 9] {
        let report = house.reopened(3).await;
        assert!(report.is_whole(), "{:?}", report.faults);
        assert_eq!((report.lines, report.head.lines), (total, total));
    }
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        house.folder.path().join(name).metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("trail"), mode("trail/chain.key"), mode("trail/anchor.json")), (0o700, 0o600, 0o600));
}

#[tokio::test]
async fn an_alteration_of_any_byte_of_any_column_of_any_line_names_the_line() {
    const LINES: i64 = 6;
    let house = house(6).await;
    let raw = house.raw();
    let columns: Vec<&str> = COLUMNS.iter().copied().chain(["row_hash", "row_marks"]).collect();
    let mut tried = 0;
    for id in 1..=LINES {
        for column in &columns {
            let before: Value = raw
                .query_row(&format!("SELECT {column} FROM config_audit_log WHERE id = ?1"), [id], |row| row.get(0))
                .unwrap();
            for after in alterations(&before, column) {
                // CHECK constraints and types are no hindrance to whoever writes the file.
                raw.execute_batch("PRAGMA ignore_check_constraints = on").unwrap();
                let set = format!("UPDATE config_audit_log SET {column} = ?1 WHERE id = ?2");
                let Ok(1) = raw.execute(&set, params![after, id]) else { continue };
                let report = verify(&raw, &folder_of(&house.path), &[], &clock()).unwrap();
                let named = told(&report);
                let moved = if *column == "id" { integer(&after) } else { id };
                assert!(
                    named.iter().any(|(_, line)| *line == Some(moved)),
                    "{column} of line {id} from {before:?} to {after:?}: {named:?}"
                );
                raw.execute(&set, params![before, moved]).unwrap();
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000, "{tried} alterations are too few to mean anything");
    assert_eq!(told(&verify(&raw, &folder_of(&house.path), &[], &clock()).unwrap()), []);
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        _ => panic!("an id is a number"),
    }
}

/// A value with each of its bytes altered, with another type, and without it.
fn alterations(value: &Value, column: &str) -> Vec<Value> {
    let flipped = |bytes: &[u8], index: usize| {
        let mut bytes = bytes.to_vec();
        bytes[index] ^= 1;
        bytes
    };
    match value {
        Value::Null => vec![Value::Text(String::new()), Value::Integer(0)],
        Value::Integer(number) if column == "id" => vec![Value::Integer(number + 100)],
        Value::Integer(number) => {
            let bits = (0..63).step_by(7).map(|bit| Value::Integer(number ^ (1 << bit)));
            bits.chain([Value::Blob(number.to_be_bytes().to_vec())]).collect()
        }
        Value::Real(_) => panic!("no column is written as one"),
        Value::Text(text) => {
            let bytes = text.as_bytes();
            let flips = (0..bytes.len()).map(|index| String::from_utf8(flipped(bytes, index)).map(Value::Text));
            let mut values: Vec<Value> = flips.filter_map(Result::ok).collect();
            values.push(Value::Blob(bytes.to_vec()));
            values.push(Value::Text(format!("{text}\0")));
            values
        }
        Value::Blob(bytes) => {
            let mut values: Vec<Value> = (0..bytes.len()).map(|index| Value::Blob(flipped(bytes, index))).collect();
            values.extend([Value::Null, Value::Blob(bytes[1..].to_vec())]);
            values
        }
    }
}

#[tokio::test]
async fn what_was_done_is_named_with_the_line() {
    use Tampering::{Edited, Inserted, Moved, Relinked, Removed, Seal, Truncated};
    let check = async |sql: &str, expected: &[(Tampering, Option<i64>)]| {
        let house = house(6).await;
        house.raw().execute_batch(sql).unwrap();
        let report = house.report();
        for wanted in expected {
            assert!(told(&report).contains(wanted), "{sql}: {:?}", report.faults);
        }
        assert!(report.faults.iter().any(|fault| fault.kind == Tampering::Guard));
        // Going on and starting again must not make anything of it good.
        let later = house.reopened(2).await;
        assert!(!told(&later).is_empty(), "{sql} is forgotten after further changes");
    };
    check("UPDATE config_audit_log SET reason = 'none' WHERE id = 3", &[(Edited, Some(3))]).await;
    check("UPDATE config_audit_log SET row_hash = zeroblob(32) WHERE id = 3", &[(Relinked, Some(3))]).await;
    check("DELETE FROM config_audit_log WHERE id = 1", &[(Removed, Some(2))]).await;
    check("DELETE FROM config_audit_log WHERE id IN (3, 4)", &[(Removed, Some(5))]).await;
    check("DELETE FROM config_audit_log WHERE id > 4", &[(Truncated, Some(6))]).await;
    check("DELETE FROM config_audit_log", &[(Truncated, Some(6))]).await;
    let swap = "UPDATE config_audit_log SET id = 99 WHERE id = 2; UPDATE config_audit_log SET id = 2 WHERE id = 4; \
                UPDATE config_audit_log SET id = 4 WHERE id = 99;";
    check(swap, &[(Moved, Some(2)), (Moved, Some(4))]).await;
    let close = "DELETE FROM config_audit_log WHERE id = 3; UPDATE config_audit_log SET id = id - 1 WHERE id > 3;";
    check(close, &[(Moved, Some(3)), (Moved, Some(4)), (Moved, Some(5)), (Truncated, Some(6))]).await;
    let add = "INSERT INTO config_audit_log (id, changed_at, changed_by, operation, table_name, record_id, correlation_id) \
               VALUES (7, 1, 'eve', 'CREATE', 'users', 'eve', 'x')";
    check(add, &[(Inserted, Some(7))]).await;
    check("DELETE FROM config_audit_seal", &[(Seal, None)]).await;
    check("UPDATE config_audit_seal SET doubt = 'x'", &[(Seal, None)]).await;
    check(
        "DELETE FROM config_audit_log WHERE id = 6; UPDATE config_audit_seal SET lines = 5, last_id = 5",
        &[(Seal, None)],
    )
    .await;
}

/// Calculates the chain anew, as somebody can who knows how but has no key.
fn rechain(raw: &Connection) {
    let mut statement = raw.prepare(&format!("{} ORDER BY id", verify::SELECT)).unwrap();
    let mut rows = statement.query([]).unwrap();
    let (mut head, mut lines) = ([0; line::HASH_BYTES], Vec::new());
    while let Some(row) = rows.next().unwrap() {
        let values = verify::read_values(row).unwrap();
        head = link(&head, &values);
        lines.push((row.get::<_, i64>(0).unwrap(), head, marks(&values)));
    }
    for (id, hash, marks) in &lines {
        raw.execute(
            "UPDATE config_audit_log SET row_hash = ?1, row_marks = ?2 WHERE id = ?3",
            params![hash, marks, id],
        )
        .unwrap();
    }
    let last = lines.last().map_or(0, |(id, ..)| *id);
    raw.execute(
        "UPDATE config_audit_seal SET lines = ?1, last_id = ?2, head = ?3",
        params![i64::try_from(lines.len()).unwrap(), last, head],
    )
    .unwrap();
}

#[tokio::test]
async fn a_chain_that_was_calculated_anew_does_not_fit_its_seal() {
    for sql in
        ["UPDATE config_audit_log SET changed_by = 'bob' WHERE id = 2", "DELETE FROM config_audit_log WHERE id = 6"]
    {
        let house = house(6).await;
        let raw = house.raw();
        raw.execute_batch(sql).unwrap();
        rechain(&raw);
        drop(raw);
        let kinds: Vec<Tampering> = house.report().faults.iter().map(|fault| fault.kind).collect();
        assert!(kinds.contains(&Tampering::Seal) && kinds.contains(&Tampering::Anchor), "{sql}: {kinds:?}");
        assert!(!told(&house.reopened(2).await).is_empty(), "{sql}");
    }
}

#[tokio::test]
async fn an_older_database_put_back_is_told_by_the_anchor_until_a_person_accepts_it() {
    let house = house(4).await;
    let older = std::fs::read(&house.path).unwrap();
    let head = head_of_file(&house.path).unwrap();
    assert!(house.reopened(2).await.is_whole());
    let newer = head_of_file(&house.path).unwrap();
    for end in ["-wal", "-shm"] {
        drop(std::fs::remove_file(house.path.with_file_name(format!("config.db{end}"))));
    }
    std::fs::write(&house.path, older).unwrap();
    assert_eq!(told(&house.report()), [(Tampering::Anchor, None)]);
    let later = house.reopened_as("bob", 5).await;
    assert_eq!(told(&later), [(Tampering::Seal, None)], "{:?}", later.faults);
    assert!(later.summary().contains("older than its anchor"), "{}", later.summary());
    let against = |head: &TrailHead| told(&verify_file(&house.path, std::slice::from_ref(head), &clock()).unwrap());
    assert!(!against(&head).contains(&(Tampering::Head, None)), "what came before is still there");
    assert!(against(&newer).contains(&(Tampering::Head, None)), "what was there is not any more");

    let database = ConfigDb::open(&house.path, clock()).unwrap();
    let change = Change { reason: Some("restored".into()), ..Change::new("anna", "c") };
    let copy = database.reseal_trail(&change).await.unwrap();
    write(&database, 1).await;
    assert!(database.verify_trail(&[]).await.unwrap().is_whole());
    let query = crate::store::ChangeQuery { record_id: Some("chain".into()), limit: 5, ..Default::default() };
    let line = database.changes(&query).await.unwrap().remove(0);
    assert_eq!((line.reason.as_deref(), line.table_name.as_str()), (Some("restored"), "config_audit_log"));
    assert!(line.old_values.unwrap()["faults"][0].as_str().unwrap().contains("older than its anchor"));
    database.finish().await.unwrap();
    assert!(folder_of(&house.path).join(copy).exists());
    assert!(house.report().is_whole());
}

#[tokio::test]
async fn key_and_anchor_are_missed_when_they_are_gone() {
    for (name, kind) in [("chain.key", Tampering::Seal), ("anchor.json", Tampering::Anchor)] {
        let house = house(3).await;
        std::fs::remove_file(folder_of(&house.path).join(name)).unwrap();
        assert!(told(&house.report()).contains(&(kind, None)), "{name}");
        assert!(told(&house.reopened(2).await).contains(&(Tampering::Seal, None)), "{name}");
    }
}

#[tokio::test]
async fn a_seal_that_is_altered_under_a_running_appliance_is_noticed_with_the_next_change() {
    let house = house(3).await;
    let database = ConfigDb::open(&house.path, clock()).unwrap();
    let raw = Connection::open(&house.path).unwrap();
    raw.execute_batch("UPDATE config_audit_seal SET lines = 2").unwrap();
    write(&database, 1).await;
    let report = database.verify_trail(&[]).await.unwrap();
    assert_eq!(told(&report), [(Tampering::Seal, None)], "{:?}", report.faults);
    assert_eq!(report.head.lines, 4);
    database.finish().await.unwrap();
}

#[tokio::test]
async fn lines_from_before_there_was_a_chain_are_chained_once() {
    let house = house(5).await;
    // As the version before left it.
    house
        .raw()
        .execute_batch("UPDATE config_audit_log SET row_hash = NULL, row_marks = NULL; DELETE FROM config_audit_seal;")
        .unwrap();
    std::fs::remove_dir_all(folder_of(&house.path)).unwrap();
    let report = house.reopened(2).await;
    assert_eq!((told(&report), report.lines), (Vec::new(), 7));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is altered, in how many places ever: it is reported.
    #[test]
    fn several_alterations_at_once_are_reported(
        edits in proptest::collection::vec((1_i64..=12, 0_usize..COLUMNS.len() + 2, any::<u8>(), 0_u8..4), 1..6)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let house = runtime.block_on(house(12));
        let raw = house.raw();
        raw.execute_batch("PRAGMA ignore_check_constraints = on").unwrap();
        let dump = || -> Vec<Vec<Value>> {
            let mut statement = raw.prepare(&format!("{} ORDER BY id", verify::SELECT)).unwrap();
            let rows = statement.query_map([], |row| (0..COLUMNS.len() + 2).map(|index| row.get(index)).collect()).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let before = dump();
        for (id, column, byte, act) in edits {
            let name = COLUMNS.get(column).copied().unwrap_or(if column == COLUMNS.len() { "row_hash" } else { "row_marks" });
            // What a constraint forbids is no alteration.
            drop(match act {
                0 => raw.execute("DELETE FROM config_audit_log WHERE id = ?1", [id]),
                1 => raw.execute("UPDATE config_audit_log SET id = id + 40 WHERE id = ?1", [id]),
                _ => raw.execute(
                    &format!("UPDATE config_audit_log SET {name} = ?1 WHERE id = ?2"),
                    params![if name == "id" { Value::Integer(i64::from(byte) + 20) } else { Value::Blob(vec![byte; 32]) }, id],
                ),
            });
        }
        let altered = dump() != before;
        let report = verify(&raw, &folder_of(&house.path), &[], &clock()).unwrap();
        prop_assert_eq!(altered, !told(&report).is_empty(), "{:?}", report.faults);
    }
}
