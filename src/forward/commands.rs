//! What people ask of a forwarder: to speak to its target again, and to send a test past the queue.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::desk::Desk;
use super::{DeliveryError, Wiring};
use crate::model::Alert;
use crate::telemetry::{TargetCommand, TestReport};

/// Obeys, one command after the other, until the process stops or nobody can give any.
pub(super) async fn obey(desk: Arc<Desk>, mut orders: mpsc::Receiver<TargetCommand>) {
    while let Some(order) = orders.recv().await {
        match order {
            TargetCommand::Reset => desk.reset(),
            TargetCommand::Test(alert, answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(test(&desk, &alert).await);
            }
        }
    }
}

async fn tried(desk: &Desk, wiring: &Wiring, alert: &Alert) -> Result<String, DeliveryError> {
    let call = AssertUnwindSafe(desk.send(wiring, std::slice::from_ref(alert))).catch_unwind().await;
    let broke = |_| Err(DeliveryError::refused("the target failed while it made the request"));
    call.unwrap_or_else(broke).map(|receipt| receipt.answer)
}

/// Sends one alert whatever the breaker says. The answer changes nothing but what is known of the keys.
async fn test(desk: &Desk, alert: &Alert) -> TestReport {
    let wiring = desk.parts.wiring.get();
    let started = Instant::now();
    let outcome = match wiring.ready() {
        Ok(()) => tried(desk, &wiring, alert).await,
        Err(why) => Err(DeliveryError::refused(why)),
    };
    let taken = outcome.is_ok();
    let answer = outcome.unwrap_or_else(|error| error.to_string());
    TestReport { taken, answer, took: started.elapsed() }
}
