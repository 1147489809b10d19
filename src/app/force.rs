//! What a running appliance goes by, and how another configuration takes its place: everything that can fail is done
//! beforehand ([`Force::prepare`]), then all readers are switched over ([`Commit`]), which cannot fail. Lives in memory
//! only: after a crash the next start reads the configuration anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::listeners::Listeners;
use crate::admin::AdminSecrets;
use crate::clock::Clock;
use crate::config::{Commit, Config, Keeper, Targets};
use crate::forward::{TargetConfig, Wiring};
use crate::live::{Live, LiveSender, live};
use crate::model::TargetName;
use crate::net::tls::{Certificates, TlsPlan};
use crate::telemetry::logs::LogControl;
use crate::{alerter, ingest, remedy, store, upkeep};

/// What can rewire a target later, and the configuration it has now.
pub(super) type Wired = BTreeMap<TargetName, (TargetConfig, LiveSender<Wiring>)>;

/// The writing sides of everything that can change at run time.
pub(super) struct Senders {
    ingest: LiveSender<ingest::Settings>,
    ingest_secrets: LiveSender<ingest::Secrets>,
    admin_secrets: LiveSender<AdminSecrets>,
    alerter: LiveSender<alerter::Settings>,
    remedy: LiveSender<remedy::Settings>,
    slo: LiveSender<upkeep::slo::Settings>,
    recent: LiveSender<store::RecentSettings>,
}

/// The reading sides, as the stages get them.
pub(super) struct Lives {
    pub(super) ingest: Live<ingest::Settings>,
    pub(super) ingest_secrets: Live<ingest::Secrets>,
    pub(super) admin_secrets: Live<AdminSecrets>,
    pub(super) alerter: Live<alerter::Settings>,
    pub(super) remedy: Live<remedy::Settings>,
    pub(super) slo: Live<upkeep::slo::Settings>,
    pub(super) recent: Live<store::RecentSettings>,
}

/// Both sides, with the values of `config`.
pub(super) fn lives(config: &Config) -> (Senders, Lives) {
    let (ingest_sender, ingest) = live(config.ingest.clone());
    let (ingest_secrets_sender, ingest_secrets) = live(config.ingest_secrets.clone());
    let (admin_sender, admin_secrets) = live(AdminSecrets { admin_api_key: config.admin_api_key.clone() });
    let (alerter_sender, alerter) = live(config.alerter.clone());
    let (remedy_sender, remedy) = live(config.remedy.clone());
    let (slo_sender, slo) = live(config.slo.clone());
    let (recent_sender, recent) = live(config.recent);
    let senders = Senders {
        ingest: ingest_sender,
        ingest_secrets: ingest_secrets_sender,
        admin_secrets: admin_sender,
        alerter: alerter_sender,
        remedy: remedy_sender,
        slo: slo_sender,
        recent: recent_sender,
    };
    (senders, Lives { ingest, ingest_secrets, admin_secrets, alerter, remedy, slo, recent })
}

/// Everything that goes by the configuration.
pub(super) struct Force {
    pub(super) senders: Senders,
    pub(super) targets: Mutex<Wired>,
    pub(super) listeners: Listeners,
    pub(super) certificates: Certificates,
    /// The plan that the certificates go by.
    pub(super) tls: Mutex<TlsPlan>,
    /// Has rules, hosts and teams read again.
    pub(super) changed: Arc<Notify>,
    /// The log's filter, where this process has one of its own.
    pub(super) logs: Option<LogControl>,
    pub(super) clock: Clock,
}

/// A target that is to be spoken to differently.
type Rewired = Vec<(TargetConfig, Wiring)>;

impl Force {
    /// Has `keeper` put what changes into force here. It does not keep this alive: this holds the way into the intake, which
    /// a stop has to close.
    pub(super) fn follow(self: &Arc<Self>, keeper: &Keeper) {
        let force = Arc::downgrade(self);
        keeper.open(Arc::new(move |config| force.upgrade().ok_or("the appliance is stopping")?.prepare(config)));
    }

    /// Makes everything ready for `config`; the error is for people, and then nothing was changed.
    pub(super) fn prepare(self: &Arc<Self>, config: &Config) -> Result<Commit, String> {
        let rewired = self.rewired(&config.targets)?;
        let moves = self.listeners.prepare(&config.listen)?;
        let (force, config) = (Arc::clone(self), config.clone());
        Ok(Box::new(move || {
            force.switch(&config);
            force.rewire(rewired, &config.targets);
            let plan = std::mem::replace(&mut *force.tls.lock(), config.tls.clone());
            if plan != config.tls {
                // Certificates that cannot be used leave those in use where they are, and that is told on their board.
                force.certificates.replace(config.tls.clone());
            }
            force.listeners.commit(moves);
        }))
    }

    fn switch(&self, config: &Config) {
        let senders = &self.senders;
        replace(&senders.ingest, &config.ingest);
        replace(&senders.ingest_secrets, &config.ingest_secrets);
        replace(&senders.admin_secrets, &AdminSecrets { admin_api_key: config.admin_api_key.clone() });
        replace(&senders.alerter, &config.alerter);
        replace(&senders.remedy, &config.remedy);
        replace(&senders.slo, &config.slo);
        replace(&senders.recent, &config.recent);
        if let Some(logs) = &self.logs
            && let Err(error) = logs.set_filter(&config.log_filter)
        {
            // The filter was checked with the configuration; only a log that is gone can refuse it.
            tracing::error!("Log filter kept: {error}");
        }
    }

    /// The targets whose configuration changed, made anew.
    fn rewired(&self, targets: &Targets) -> Result<Rewired, String> {
        let wired = self.targets.lock();
        let known = targets.targets.iter().filter_map(|target| Some((target, wired.get(&target.name)?)));
        let changed = known.filter(|(target, (current, _))| *target != current);
        changed
            .map(|(target, (current, sender))| {
                let wiring = if is_same_receiver(target, current) {
                    Wiring { settings: target.settings.clone(), ..(*sender.get()).clone() }
                } else {
                    target.wire(&self.clock).map_err(|why| format!("target `{}`: {why}", target.name))?
                };
                Ok((target.clone(), wiring))
            })
            .collect()
    }

    fn rewire(&self, rewired: Rewired, targets: &Targets) {
        let mut wired = self.targets.lock();
        for (target, wiring) in rewired {
            if let Some((current, sender)) = wired.get_mut(&target.name) {
                sender.set(wiring);
                *current = target;
            }
        }
        if wired.len() != targets.targets.len()
            || targets.targets.iter().any(|target| !wired.contains_key(&target.name))
        {
            tracing::warn!("Targets that were added or removed take effect after a restart");
        }
    }
}

/// Whether two configurations of a target differ in pace and patience only, so that its client and its connections can be
/// kept. The time-out is part of the client.
fn is_same_receiver(target: &TargetConfig, current: &TargetConfig) -> bool {
    let paced = TargetConfig { settings: current.settings.clone(), ..target.clone() };
    paced == *current && target.settings.timeout == current.settings.timeout
}

/// Tells readers only of what changed: some of them start something anew when they are told.
fn replace<T: PartialEq + Clone>(sender: &LiveSender<T>, value: &T) {
    if *sender.get() != *value {
        sender.set(value.clone());
    }
}
