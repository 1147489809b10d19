//! Starts a listener, and tries again for as long as its address cannot be bound: whoever holds the port may let go of it,
//! and an address may come up after the program.
//!
//! It never gives up and never stops the others; only the stop token ends it. The first failure is logged, and the first
//! success after it; what the state is meanwhile stands on the board, where the listener itself puts it.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::BindError;

/// Pause before the first new try: a program that is being replaced lets go of its port within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause: an operator who freed the port should not wonder whether anything happens.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Calls `start` now and, as long as it fails, again and again; the task ends with what was started. Must be called within
/// a tokio runtime; later tries run on a thread where they may block, since a failed one searches `/proc` for the holder.
pub fn keep_trying<F>(stop: &CancellationToken, mut start: F) -> JoinHandle<()>
where
    F: FnMut() -> Result<JoinHandle<()>, BindError> + Send + 'static,
{
    match start() {
        Ok(task) => task,
        Err(error) => {
            tracing::error!("A listener did not start, the others go on; it is tried again: {}", error.explain());
            tokio::spawn(retry(stop.clone(), start))
        }
    }
}

async fn retry<F>(stop: CancellationToken, mut start: F)
where
    F: FnMut() -> Result<JoinHandle<()>, BindError> + Send + 'static,
{
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let tried = tokio::task::spawn_blocking(move || {
            let outcome = start();
            (outcome, start)
        });
        let Ok((outcome, back)) = tried.await else {
            tracing::error!("A listener cannot be started: the attempt ended early; restart the program");
            return;
        };
        start = back;
        if let Ok(task) = outcome {
            if let Err(error) = task.await {
                tracing::error!("A listener's task failed: {error}");
            }
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::bind_tcp;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A start that fails so many times, and how often it was tried.
    fn start_failing(
        times: u32,
        stop: &CancellationToken,
    ) -> (impl FnMut() -> Result<JoinHandle<()>, BindError> + Send + 'static, Arc<AtomicU32>) {
        let tries = Arc::new(AtomicU32::new(0));
        let (counted, stop) = (Arc::clone(&tries), stop.clone());
        // 192.0.2.0/24 is reserved for documentation (RFC 5737): no machine has it.
        let failure = || bind_tcp(([192, 0, 2, 1], 0).into()).map(drop).expect_err("not ours");
        let start = move || match counted.fetch_add(1, Ordering::Relaxed) {
            done if done < times => Err(failure()),
            _ => Ok(tokio::spawn(stop.clone().cancelled_owned())),
        };
        (start, tries)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_until_it_works_and_then_no_more() {
        let stop = CancellationToken::new();
        let (start, tries) = start_failing(8, &stop);
        let begun = tokio::time::Instant::now();
        let task = keep_trying(&stop, start);
        while tries.load(Ordering::Relaxed) < 9 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // 0.5 + 1 + 2 + 4 + 8 + 3 * 10 seconds.
        assert!((45..48).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tries.load(Ordering::Relaxed), 9);
        stop.cancel();
        task.await.expect("it ends with what was started");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_trying() {
        let stop = CancellationToken::new();
        let (start, tries) = start_failing(u32::MAX, &stop);
        let task = keep_trying(&stop, start);
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.cancel();
        task.await.expect("it ends");
        assert!(tries.load(Ordering::Relaxed) >= 2);
    }
}
