//! Asks one target how it is, again and again, and publishes what it says. Sends no alert. Keeps nothing: after a crash
//! the first question is asked at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::clock::Clock;
use crate::live::{Live, LiveSender};
use crate::model::{Health, TargetName};
use crate::telemetry::metrics::{HEALTH_STATUS, TARGET_HEALTH};

/// A target that has not answered by then is not healthy, whatever its own time-out says.
const PATIENCE: Duration = Duration::from_secs(30);
/// The target whose health has a metric of its own, as dashboards of MUTT 2.x have it.
const MOOGSOFT: &str = "moogsoft";

/// Asks a target whether it is there; an error says why not, without a key or a URL.
pub type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What one prober works with.
pub struct ProbeParts {
    /// Whom it asks.
    pub target: TargetName,
    /// How.
    pub ask: Ask,
    /// Where the answer is published.
    pub health: LiveSender<Health>,
    /// How often.
    pub settings: Live<Settings>,
    /// The wall clock.
    pub clock: Clock,
}

/// Starts the prober of one target: one question at once, the next ones `health_probe_ttl` apart.
pub fn start_probe(parts: ProbeParts, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut settings = parts.settings.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = parts.probe() => {}
            }
            let asked = Instant::now();
            // A shorter interval takes effect at once.
            while !stop.is_cancelled() {
                let next = asked + settings.get().health_probe_ttl;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep_until(next) => break,
                    () = settings.changed() => {}
                }
            }
        }
    })
}

impl ProbeParts {
    async fn probe(&self) {
        let asked = AssertUnwindSafe((self.ask)()).catch_unwind();
        let outcome = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the target failed while it was asked".to_owned()),
            Err(_) => Err(format!("it did not answer within {} s", PATIENCE.as_secs())),
        };
        let before = self.health.get();
        let health = Health::probed(self.target.clone(), self.clock.now(), outcome);
        if before.healthy != health.healthy {
            match health.healthy {
                true => tracing::info!(target = %self.target, "Target `{}` is healthy", self.target),
                false => {
                    tracing::warn!(target = %self.target, why = health.why, "Target `{}` is not healthy", self.target)
                }
            }
        }
        let value = if health.healthy { 1.0 } else { 0.0 };
        metrics::gauge!(TARGET_HEALTH, "target" => self.target.to_string()).set(value);
        if self.target.as_str() == MOOGSOFT {
            metrics::gauge!(HEALTH_STATUS).set(value);
        }
        self.health.set(health);
    }
}
