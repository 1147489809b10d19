//! Wires the service levels: what they read, where they are kept, and which way an alert about them takes. Decides nothing
//! itself.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::force::Lives;
use super::random_seed;
use super::remediation::reporter;
use crate::clock::Clock;
use crate::model::EventIds;
use crate::queue::Queues;
use crate::store::Stores;
use crate::telemetry::metrics;
use crate::upkeep::slo::{PrometheusSettings, Slo, SloParts};

/// Starts counting.
pub(super) async fn start(
    queues: &Queues,
    stores: &Stores,
    lives: &Lives,
    (clock, prometheus): (&Clock, PrometheusSettings),
    node: String,
    stop: &CancellationToken,
) -> anyhow::Result<(Slo, JoinHandle<()>)> {
    let parts = SloParts {
        levels: Arc::clone(&stores.levels),
        settings: lives.slo.clone(),
        read: Arc::new(metrics::render),
        tell: reporter(queues, stores, lives),
        node,
        ids: EventIds::new(random_seed()?),
        prometheus,
        clock: clock.clone(),
    };
    Slo::start(parts, stop.clone()).await.context("cannot read the counts of the service levels")
}
