//! Wires the remediation: which way a report takes. Decides nothing itself and keeps nothing.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::force::Lives;
use super::{node_name, random_seed};
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{Alert, Decision, EventIds, Judged, Matched, RuleId};
use crate::queue::Queues;
use crate::remedy::{Healths, Remedy, RemedyParts, Reporter};
use crate::store::Stores;

/// The rule number of alerts that no rule made, as meta-alerts have it.
const NO_RULE: RuleId = RuleId(0);

/// What the remediation is built from.
pub(super) struct Parts<'a> {
    pub(super) queues: &'a Queues,
    pub(super) stores: &'a Stores,
    pub(super) lives: &'a Lives,
    pub(super) clock: &'a Clock,
    /// How each target is.
    pub(super) health: Live<Healths>,
    /// The name of this appliance in its reports.
    pub(super) node: String,
}

impl<'a> Parts<'a> {
    /// For the targets that there are, whichever they come to be.
    pub(super) fn new(
        queues: &'a Queues,
        stores: &'a Stores,
        lives: &'a Lives,
        clock: &'a Clock,
        health: Live<Healths>,
    ) -> Self {
        Self { queues, stores, lives, clock, health, node: node_name() }
    }
}

/// Starts the loop.
pub(super) fn start(parts: Parts<'_>, stop: &CancellationToken) -> anyhow::Result<(Remedy, JoinHandle<()>)> {
    let remedy = RemedyParts {
        queues: parts.queues.clone(),
        health: parts.health,
        settings: parts.lives.remedy.clone(),
        report: reporter(parts.queues, parts.stores, parts.lives),
        node: parts.node,
        ids: EventIds::new(random_seed()?),
        clock: parts.clock.clone(),
    };
    Ok(Remedy::start(remedy, stop.clone()))
}

/// The way of a meta-alert: into the audit and the recent store, then to the default targets.
pub(super) fn reporter(queues: &Queues, stores: &Stores, lives: &Lives) -> Reporter {
    let (outboxes, settings) = (queues.outboxes.clone(), lives.alerter.clone());
    let (audit, recent) = (Arc::clone(&stores.audit), Arc::clone(&stores.recent));
    Arc::new(move |alert: Alert| {
        let (outboxes, settings, audit) = (outboxes.clone(), settings.get(), Arc::clone(&audit));
        let recent = Arc::clone(&recent);
        async move {
            let matched = Matched { rule: NO_RULE, handling: alert.handling.clone(), team: alert.team.clone() };
            let decision = Decision { environment: alert.environment, matched: Some(matched) };
            let judged = Judged { event: alert.event.clone(), decision };
            if let Err(error) = audit.record(vec![judged.clone()]).await {
                tracing::warn!(%error, "a report is not audited; it is sent all the same");
            }
            recent.append(&Arc::new(vec![judged]));
            let outboxes = outboxes.all();
            let named = outboxes.iter().filter(|(name, _)| settings.default_targets.contains(name));
            let mut chosen: Vec<_> = named.map(|(_, outbox)| outbox).collect();
            if chosen.is_empty() {
                chosen.extend(outboxes.values().next());
            }
            for outbox in chosen {
                outbox.append(std::slice::from_ref(&alert)).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        }
        .boxed()
    })
}
