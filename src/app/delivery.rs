//! The forwarders and probers of all targets: started, spoken to differently, and stopped while everything else runs. What
//! can fail is done by [`Delivery::prepare`]; [`Delivery::commit`] cannot fail. Decides nothing itself.
//!
//! A target that goes leaves its outbox as it is. A crash between the two leaves at most an empty outbox more.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Targets;
use crate::forward::{self, ForwarderParts, TargetConfig, Wiring};
use crate::live::{Live, LiveSender, live};
use crate::model::{DeadLetter, Health, TargetName};
use crate::queue::{Outboxes, Queue};
use crate::remedy::{self, Healths, ProbeParts, start_probe};
use crate::store::AuditLog;
use crate::telemetry::TargetBoard;
use crate::telemetry::trace::Tracer;

/// What every forwarder and prober is built from.
pub(super) struct DeliveryParts {
    pub(super) outboxes: Outboxes,
    pub(super) dead: Queue<DeadLetter>,
    pub(super) audit: Arc<dyn AuditLog>,
    pub(super) board: TargetBoard,
    pub(super) remedy: Live<remedy::Settings>,
    pub(super) clock: Clock,
    pub(super) tracer: Tracer,
    pub(super) stop: CancellationToken,
}

/// A target that is spoken to.
struct Running {
    config: TargetConfig,
    wiring: LiveSender<Wiring>,
    health: Live<Health>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// What is to change.
pub(super) struct Plan {
    gone: Vec<TargetName>,
    changed: Vec<(TargetConfig, Wiring)>,
    fresh: Vec<(TargetConfig, Wiring)>,
}

/// All targets.
pub(super) struct Delivery {
    parts: DeliveryParts,
    running: Mutex<BTreeMap<TargetName, Running>>,
    /// Tasks of targets that are gone, until they have ended.
    ending: Mutex<Vec<JoinHandle<()>>>,
    health: LiveSender<Healths>,
}

impl Delivery {
    /// Speaks to nobody yet.
    pub(super) fn new(parts: DeliveryParts) -> Self {
        Self { parts, running: Mutex::default(), ending: Mutex::default(), health: live(Healths::new()).0 }
    }

    /// How each target is.
    pub(super) fn health(&self) -> Live<Healths> {
        self.health.subscribe()
    }

    /// Makes the targets that are new or were changed, and opens the outboxes that are missing. Blocks; the error is for
    /// people, and then nobody is spoken to differently.
    pub(super) fn prepare(&self, targets: &Targets) -> Result<Plan, String> {
        let running = self.running.lock();
        let mut plan = Plan { gone: Vec::new(), changed: Vec::new(), fresh: Vec::new() };
        plan.gone.extend(running.keys().filter(|name| targets.targets.iter().all(|t| t.name != **name)).cloned());
        for target in &targets.targets {
            let spoken_to = running.get(&target.name);
            let current = spoken_to.map(|running| &running.config);
            if current == Some(target) {
                continue;
            }
            if let Some(running) = spoken_to.filter(|running| is_same_receiver(target, &running.config)) {
                let wiring = Wiring { settings: target.settings.clone(), ..(*running.wiring.get()).clone() };
                plan.changed.push((target.clone(), wiring));
                continue;
            }
            let told = |why: &dyn std::fmt::Display| format!("target `{}`: {why}", target.name);
            let wiring = target.wire(&self.parts.clock).map_err(|why| told(&why))?;
            match current {
                Some(current) if current.kind.name == target.kind.name => plan.changed.push((target.clone(), wiring)),
                current => {
                    // Of another kind, it is another target that happens to have the same name and outbox.
                    plan.gone.extend(current.map(|current| current.name.clone()));
                    self.parts.outboxes.open(&target.name).map_err(|error| told(&error))?;
                    plan.fresh.push((target.clone(), wiring));
                }
            }
        }
        Ok(plan)
    }

    /// Puts a plan into force. To be called within the runtime.
    pub(super) fn commit(&self, plan: Plan) {
        let mut running = self.running.lock();
        let mut ending = self.ending.lock();
        ending.retain(|task| !task.is_finished());
        for name in plan.gone {
            let Some(gone) = running.remove(&name) else { continue };
            gone.stop.cancel();
            self.parts.board.remove(&name);
            ending.extend(gone.tasks);
            tracing::info!(target = %name, "Target `{name}` is not spoken to any more; what waits in its outbox is kept");
        }
        for (config, wiring) in plan.changed {
            if let Some(running) = running.get_mut(&config.name) {
                running.wiring.set(wiring);
                running.config = config;
            }
        }
        for (config, wiring) in plan.fresh {
            running.extend(self.start(config, wiring));
        }
        let healths = running.iter().map(|(name, running)| (name.clone(), running.health.clone()));
        self.health.set(healths.collect());
    }

    /// Starts forwarder and prober; `None` if the outbox that was opened for it is gone, which cannot be.
    fn start(&self, config: TargetConfig, wiring: Wiring) -> Option<(TargetName, Running)> {
        let parts = &self.parts;
        let (name, stop) = (config.name.clone(), parts.stop.child_token());
        let outbox = parts.outboxes.get(&name)?;
        let (board, commands) = parts.board.register(name.clone(), config.kind.name, wiring.target.address());
        let (sender, wiring) = live(wiring);
        let forwarder = ForwarderParts {
            name: name.clone(),
            outbox,
            outboxes: parts.outboxes.clone(),
            dead: parts.dead.clone(),
            wiring: wiring.clone(),
            audit: Arc::clone(&parts.audit),
            board,
            clock: parts.clock.clone(),
            tracer: parts.tracer.clone(),
        };
        let forwarder = forward::start(forwarder, commands, stop.clone());
        let (told, health) = live(Health::unknown(name.clone()));
        let probe = ProbeParts {
            target: name.clone(),
            ask: Arc::new(move || ask(wiring.get()).boxed()),
            health: told,
            settings: parts.remedy.clone(),
            clock: parts.clock.clone(),
        };
        let prober = start_probe(probe, stop.clone());
        Some((name, Running { config, wiring: sender, health, stop, tasks: vec![forwarder, prober] }))
    }

    /// The tasks of all targets, to be waited for once they are told to stop.
    pub(super) fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        let mut tasks = std::mem::take(&mut *self.ending.lock());
        tasks.extend(std::mem::take(&mut *self.running.lock()).into_values().flat_map(|running| running.tasks));
        tasks
    }
}

async fn ask(wiring: Arc<Wiring>) -> Result<(), String> {
    wiring.probe().await
}

/// Whether two configurations of a target differ in pace and patience only, so that its client and its connections can be
/// kept. The time-out is part of the client.
fn is_same_receiver(target: &TargetConfig, current: &TargetConfig) -> bool {
    let paced = TargetConfig { settings: current.settings.clone(), ..target.clone() };
    paced == *current && target.settings.timeout == current.settings.timeout
}
