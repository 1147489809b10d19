//! While a target has been failing for too long: its alerts move on to the outbox of its fallback.
//!
//! The failing target's own forwarder does it, so that the alerter need not know, and alerts that came before and those
//! that come now go the same way. Durable in the other outbox first, then acked here: a crash in between sends an alert
//! to both.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::Settings;
use super::desk::{Desk, STORAGE_PAUSE};
use crate::model::{Alert, DeliveryOutcome};
use crate::queue::Seq;
use crate::telemetry::metrics::FORWARD_DIVERTED;

/// Alerts moved with one write.
const BATCH: usize = 64;
/// How long to wait for an alert before the breaker is asked again.
const WAIT: Duration = Duration::from_millis(500);

/// Moves what waits to the fallback.
pub(super) async fn take_over(desk: &Arc<Desk>, settings: &Settings) {
    let Some(fallback) = &settings.fallback else { return };
    let Some(outbox) = desk.parts.outboxes.get(fallback) else {
        // It was taken out of the configuration meanwhile.
        return desk.unless_stopped(tokio::time::sleep(WAIT)).await;
    };
    if desk.parts.board.diverting(Some(fallback)) {
        warn!(target = %desk.parts.name, fallback = %fallback, "the target has failed for too long; its fallback takes its alerts");
    }
    let records = match desk.parts.outbox.lease(BATCH, WAIT).await {
        Ok(records) => records,
        Err(error) => {
            error!(target = %desk.parts.name, %error, "the outbox cannot be read");
            return desk.unless_stopped(tokio::time::sleep(STORAGE_PAUSE)).await;
        }
    };
    let mut moved: Vec<(Seq, u32, Alert)> = Vec::new();
    let mut others = Vec::new();
    for record in records {
        match record.items {
            Ok(alerts) => moved.extend(alerts.into_iter().map(|alert| (record.seq, record.attempt, alert))),
            Err(_) => others.push(record),
        }
    }
    if !others.is_empty() {
        Arc::clone(desk).handle(others).await;
    }
    if moved.is_empty() {
        return;
    }
    let alerts: Vec<Alert> = moved.iter().map(|(_, _, alert)| alert.clone()).collect();
    let seqs: Vec<Seq> = moved.iter().map(|(seq, _, _)| *seq).collect();
    if !desk.stored("outbox of the fallback", || outbox.append(&alerts)).await {
        return desk.release(&seqs, WAIT).await;
    }
    desk.ack(&seqs).await;
    desk.parts.board.diverted(alerts.len() as u64);
    metrics::counter!(FORWARD_DIVERTED, "target" => desk.parts.name.to_string()).increment(alerts.len() as u64);
    let noted: Vec<(u32, &Alert)> = moved.iter().map(|(_, attempt, alert)| (*attempt, alert)).collect();
    desk.note(&noted, DeliveryOutcome::Retrying, &format!("handed to the fallback `{fallback}`")).await;
}

/// Says that the target has its alerts to itself again, if it had not.
pub(super) fn ended(desk: &Desk, settings: &Settings) {
    if !desk.is_given_over(settings) && desk.parts.board.diverting(None) {
        info!(target = %desk.parts.name, "the target gets its alerts itself again");
    }
}
