//! Requests with an idempotency key in `config.db`: in a backup they lie beside what they changed, so that a restored
//! appliance knows of exactly those requests whose changes it has.
//!
//! A request is a row from before it is carried out; a row without an end is one that the process did not live to see
//! the end of. Never holds a key or a request, only their hashes.

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::config::ConfigDb;
use super::connect::Fault;
use crate::model::Timestamp;
use crate::store::{KeptAnswer, REPEATS_KEPT, Repeat, RepeatId, Repeats, StoreResult};

/// Requests known at once.
const MAX_REQUESTS: i64 = 10_000;

/// Bytes of all bodies kept.
const MAX_BYTES: i64 = 16 << 20;

/// The values of `state`.
const BEGUN: i64 = 0;
const DONE: i64 = 1;
const DONE_AND_KEPT: i64 = 2;

#[async_trait]
impl Repeats for ConfigDb {
    async fn begin_repeat(&self, id: RepeatId, correlation_id: &str) -> StoreResult<Repeat> {
        let correlation_id = correlation_id.to_owned();
        self.write(move |transaction, now| {
            forget_old(transaction, now)?;
            if let Some(known) = find(transaction, id)? {
                return Ok(known);
            }
            make_room(transaction, MAX_REQUESTS - 1)?;
            transaction
                .prepare_cached(
                    "INSERT INTO repeats (key, request, at, state, correlation_id, bytes, caller) \
                     VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
                )?
                .execute(params![id.key, id.request, now.as_micros(), BEGUN, correlation_id, id.caller])?;
            Ok(Repeat::New)
        })
        .await
    }

    async fn end_repeat(&self, id: RepeatId, answer: Option<KeptAnswer>) -> StoreResult<()> {
        self.write(move |transaction, now| {
            let (status, headers, body) = answer.map_or((None, None, None), |answer| {
                let headers = serde_json::to_string(&answer.headers).unwrap_or_default();
                (Some(answer.status), Some(headers), Some(answer.body))
            });
            let state = if body.is_some() { DONE_AND_KEPT } else { DONE };
            let bytes = body.as_ref().map_or(0, |body: &Vec<u8>| i64::try_from(body.len()).unwrap_or(i64::MAX));
            // Its row may have had to make room while it was carried out.
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO repeats \
                     (key, request, at, state, correlation_id, status, headers, body, bytes, caller) \
                     VALUES (?1, ?2, ?3, ?4, '', ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    id.key,
                    id.request,
                    now.as_micros(),
                    state,
                    status,
                    headers,
                    body,
                    bytes,
                    id.caller
                ])?;
            within_bytes(transaction)
        })
        .await
    }

    async fn forget_repeat(&self, id: RepeatId) -> StoreResult<()> {
        self.write(move |transaction, _| {
            transaction.execute("DELETE FROM repeats WHERE key = ?1", [id.key])?;
            Ok(())
        })
        .await
    }
}

fn find(transaction: &Transaction<'_>, id: RepeatId) -> Result<Option<Repeat>, Fault> {
    let mut statement = transaction
        .prepare_cached("SELECT request, state, correlation_id, status, headers, body FROM repeats WHERE key = ?1")?;
    let found = statement.query_row([id.key], |row| {
        if row.get::<_, Vec<u8>>(0)? != id.request {
            return Ok(Repeat::Other);
        }
        Ok(match row.get::<_, i64>(1)? {
            BEGUN => Repeat::Begun { correlation_id: row.get(2)? },
            DONE_AND_KEPT => Repeat::Done(Some(read_answer(row)?)),
            _ => Repeat::Done(None),
        })
    });
    Ok(found.optional()?)
}

fn read_answer(row: &Row<'_>) -> rusqlite::Result<KeptAnswer> {
    let headers: String = row.get(4)?;
    Ok(KeptAnswer {
        status: row.get(3)?,
        headers: serde_json::from_str(&headers).unwrap_or_default(),
        body: row.get(5)?,
    })
}

fn forget_old(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
    let kept = i64::try_from(REPEATS_KEPT.as_micros()).unwrap_or(i64::MAX);
    let mut delete = transaction.prepare_cached("DELETE FROM repeats WHERE at <= ?1")?;
    delete.execute([now.as_micros().saturating_sub(kept)])?;
    Ok(())
}

/// Leaves at most so many: whoever has most loses the oldest, so that nobody can push out what others need.
fn make_room(transaction: &Transaction<'_>, most: i64) -> Result<(), Fault> {
    loop {
        // Counted by the index alone, which holds no bodies.
        let mut count = transaction.prepare_cached("SELECT count(*) FROM repeats INDEXED BY repeats_age")?;
        let count: i64 = count.query_row([], |row| row.get(0))?;
        if count <= most {
            return Ok(());
        }
        let mut delete = transaction.prepare_cached(
            "DELETE FROM repeats WHERE id IN (SELECT id FROM repeats WHERE caller = \
             (SELECT caller FROM repeats GROUP BY caller ORDER BY count(*) DESC LIMIT 1) ORDER BY at, id LIMIT ?1)",
        )?;
        if delete.execute([count - most])? == 0 {
            return Ok(());
        }
    }
}

/// Leaves the bodies that fit: whoever has most loses the oldest. That a request was done stays known, so that it is not
/// done again.
fn within_bytes(transaction: &Transaction<'_>) -> Result<(), Fault> {
    loop {
        let mut sum =
            transaction.prepare_cached("SELECT coalesce(sum(bytes), 0) FROM repeats INDEXED BY repeats_age")?;
        let bytes: i64 = sum.query_row([], |row| row.get(0))?;
        if bytes <= MAX_BYTES {
            return Ok(());
        }
        let mut empty = transaction.prepare_cached(
            "UPDATE repeats SET state = ?2, status = NULL, headers = NULL, body = NULL, bytes = 0 WHERE id IN \
             (SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY at, id) - bytes AS before FROM repeats \
             WHERE bytes > 0 AND caller = (SELECT caller FROM repeats GROUP BY caller ORDER BY sum(bytes) DESC LIMIT 1)) \
             WHERE before < ?1)",
        )?;
        if empty.execute([bytes - MAX_BYTES, DONE])? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Clock;

    fn open(dir: &Path, clock: &Clock) -> ConfigDb {
        ConfigDb::open(&dir.join("config.db"), clock.clone()).expect("opens")
    }

    fn id(key: u16, request: u8) -> RepeatId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&key.to_be_bytes());
        RepeatId { key: bytes, request: [request; 32], caller: [1; 32] }
    }

    fn answer(bytes: usize) -> KeptAnswer {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        KeptAnswer { status: 201, headers, body: vec![b'x'; bytes] }
    }

    #[tokio::test]
    async fn what_was_begun_and_what_was_done_is_known_after_a_restart_for_a_day() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::fixed(Timestamp::from_millis(1_772_366_400_000));
        let store = open(dir.path(), &clock);
        for key in 1..=3 {
            assert_eq!(store.begin_repeat(id(key, 1), "c-1").await.expect("begun"), Repeat::New);
        }
        store.end_repeat(id(1, 1), Some(answer(3))).await.expect("ended");
        store.end_repeat(id(2, 1), None).await.expect("ended");
        drop(store);
        let store = open(dir.path(), &clock);
        let known = async |key, request| store.begin_repeat(id(key, request), "c-2").await.expect("answered");
        assert_eq!(known(1, 1).await, Repeat::Done(Some(answer(3))));
        assert_eq!(known(2, 1).await, Repeat::Done(None));
        assert_eq!(known(3, 1).await, Repeat::Begun { correlation_id: "c-1".to_owned() });
        for key in 1..=3 {
            assert_eq!(known(key, 2).await, Repeat::Other);
        }
        store.forget_repeat(id(3, 1)).await.expect("forgotten");
        assert_eq!(known(3, 2).await, Repeat::New, "its key is free");
        clock.advance(REPEATS_KEPT);
        assert_eq!(known(1, 2).await, Repeat::New, "a day is over");
    }

    #[tokio::test]
    async fn requests_are_bounded_in_number_and_bytes_and_the_oldest_go_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::fixed(Timestamp::from_millis(1_772_366_400_000));
        let store = open(dir.path(), &clock);
        let largest = 64 << 10;
        let most = u16::try_from(MAX_BYTES / largest).expect("some hundred");
        for key in 0..most + 3 {
            store.begin_repeat(id(key, 1), "c").await.expect("begun");
            store.end_repeat(id(key, 1), Some(answer(65_536))).await.expect("ended");
        }
        assert_eq!(store.begin_repeat(id(3, 1), "c").await.expect("known"), Repeat::Done(Some(answer(65_536))));
        assert_eq!(
            store.begin_repeat(id(2, 1), "c").await.expect("known"),
            Repeat::Done(None),
            "the oldest answer went, and what it answers is not done again"
        );
        let count = store
            .write(|transaction, now| {
                let mut insert = transaction.prepare(
                    "INSERT INTO repeats (key, request, at, state, correlation_id, bytes) VALUES (?1, ?1, ?2, 0, '', 0)",
                )?;
                for number in 0..MAX_REQUESTS {
                    insert.execute(params![number.to_be_bytes(), now.as_micros() + 1])?;
                }
                make_room(transaction, MAX_REQUESTS - 1)?;
                Ok(transaction.query_row("SELECT count(*) FROM repeats", [], |row| row.get::<_, i64>(0))?)
            })
            .await;
        assert_eq!(count.expect("counted"), MAX_REQUESTS - 1);
    }

    #[tokio::test]
    async fn whoever_sends_most_pushes_out_nobody_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::fixed(Timestamp::from_millis(1_772_366_400_000));
        let store = open(dir.path(), &clock);
        let theirs = RepeatId { caller: [7; 32], ..id(9_999, 1) };
        store.begin_repeat(theirs, "c").await.expect("begun");
        store.end_repeat(theirs, Some(answer(3))).await.expect("ended");
        let most = u16::try_from(MAX_BYTES / (64 << 10)).expect("some hundred");
        for key in 0..most + 3 {
            clock.advance(std::time::Duration::from_millis(1));
            store.begin_repeat(id(key, 1), "c").await.expect("begun");
            store.end_repeat(id(key, 1), Some(answer(65_536))).await.expect("ended");
        }
        let left = store.write(|transaction, _| make_room(transaction, 2)).await;
        left.expect("room is made");
        assert_eq!(store.begin_repeat(theirs, "c").await.expect("known"), Repeat::Done(Some(answer(3))));
        assert_eq!(store.begin_repeat(id(0, 1), "c").await.expect("new"), Repeat::New, "the oldest of theirs went");
    }
}
