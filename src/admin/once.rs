//! Doing what a request asks for once, though it is sent again: what became of it is asked of the store, and kept there.
//!
//! A request is noted before it is carried out and its end afterwards, each durably; both writes together are what a key
//! costs. Between them lies the one thing nobody can know after a crash: whether it was done. Such a request is never done
//! again by itself; whoever repeats it is told how to find out. Requests under way in this process are held in memory too,
//! which is how one that is being carried out is told from one that was broken off.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Admin, AdminError};
use crate::store::{KeptAnswer, Repeat, RepeatId, Repeats};

/// Requests with a key carried out at once; far more than the appliance has threads.
const MAX_UNDER_WAY: usize = 1_000;

/// What each key is being used for.
#[derive(Debug, Default)]
pub(super) struct UnderWayBoard(Mutex<HashMap<[u8; 32], [u8; 32]>>);

/// What is to be done with a request that carries a key.
pub enum Once {
    /// It is new: carry it out and say how it ended.
    Begun(Turn),
    /// The same is being carried out.
    UnderWay,
    /// The key was used for another.
    Other,
    /// The same was begun and broken off; the id is that of its changes in the change log.
    BrokenOff(String),
    /// The same was done, and this was the answer, if it was kept.
    Done(Option<KeptAnswer>),
}

/// The right to carry out a request. Dropped without a word it leaves the request broken off.
pub struct Turn {
    id: RepeatId,
    store: Arc<dyn Repeats>,
    board: Arc<UnderWayBoard>,
}

impl Admin {
    /// Whether to carry out a request that carries a key.
    pub async fn begin_once(&self, id: RepeatId, correlation_id: &str) -> Result<Once, AdminError> {
        {
            let mut board = self.under_way.0.lock();
            if let Some(request) = board.get(&id.key) {
                return Ok(if *request == id.request { Once::UnderWay } else { Once::Other });
            }
            if board.len() >= MAX_UNDER_WAY {
                return Err(AdminError::Unavailable("too many requests with keys are under way".to_owned()));
            }
            board.insert(id.key, id.request);
        }
        let store = Arc::clone(&self.parts.stores.repeats);
        let turn = Turn { id, store, board: Arc::clone(&self.under_way) };
        Ok(match turn.store.begin_repeat(id, correlation_id).await? {
            Repeat::New => Once::Begun(turn),
            Repeat::Other => Once::Other,
            Repeat::Begun { correlation_id } => Once::BrokenOff(correlation_id),
            Repeat::Done(answer) => Once::Done(answer),
        })
    }
}

impl Turn {
    /// It was done; `None` if the answer is not to be kept. If this cannot be written the request counts as broken off,
    /// which errs on the side of not doing it twice.
    pub async fn done(self, answer: Option<KeptAnswer>) {
        if let Err(error) = self.store.end_repeat(self.id, answer).await {
            tracing::warn!(%error, "The answer to a request with an idempotency key cannot be kept");
        }
    }

    /// It changed nothing: its key is free.
    pub async fn undone(self) {
        if let Err(error) = self.store.forget_repeat(self.id).await {
            tracing::warn!(%error, "The idempotency key of a request that failed cannot be freed");
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.board.0.lock().remove(&self.id.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;

    const SENT: RepeatId = RepeatId { key: [1; 32], request: [1; 32], caller: [1; 32] };
    const OTHER: RepeatId = RepeatId { key: [1; 32], request: [2; 32], caller: [1; 32] };

    async fn told(house: &TestAdmin, id: RepeatId) -> String {
        match house.admin.begin_once(id, "c-1").await.expect("answered") {
            Once::Begun(_) => "begun".to_owned(),
            Once::UnderWay => "under way".to_owned(),
            Once::Other => "other".to_owned(),
            Once::BrokenOff(correlation_id) => format!("broken off, {correlation_id}"),
            Once::Done(answer) => format!("done, {:?}", answer.map(|answer| answer.status)),
        }
    }

    async fn begun(house: &TestAdmin) -> Turn {
        match house.admin.begin_once(SENT, "c-1").await.expect("answered") {
            Once::Begun(turn) => turn,
            _ => panic!("it is not new"),
        }
    }

    #[tokio::test]
    async fn a_request_is_carried_out_once_and_one_that_was_broken_off_never_again() {
        let house = TestAdmin::new().await;
        let turn = begun(&house).await;
        assert_eq!((told(&house, SENT).await, told(&house, OTHER).await), ("under way".into(), "other".into()));
        turn.undone().await;
        let turn = begun(&house).await;
        drop(turn);
        assert_eq!((told(&house, SENT).await, told(&house, OTHER).await), ("broken off, c-1".into(), "other".into()));
        house.stores.repeats.forget_repeat(SENT).await.expect("forgotten");
        let answer = KeptAnswer { status: 201, headers: Vec::new(), body: b"{}".to_vec() };
        begun(&house).await.done(Some(answer)).await;
        assert_eq!((told(&house, SENT).await, told(&house, OTHER).await), ("done, Some(201)".into(), "other".into()));
        assert!(house.admin.under_way.0.lock().is_empty());
    }

    #[tokio::test]
    async fn requests_under_way_are_bounded() {
        let house = TestAdmin::new().await;
        for number in 0..MAX_UNDER_WAY {
            let mut key = [9; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            house.admin.under_way.0.lock().insert(key, [0; 32]);
        }
        assert!(matches!(house.admin.begin_once(SENT, "c-1").await, Err(AdminError::Unavailable(_))));
    }
}
