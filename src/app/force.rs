//! What a running appliance goes by, and how another configuration takes its place: everything that can fail is done
//! beforehand ([`Force::prepare`]), then all readers are switched over ([`Commit`]), which cannot fail. Lives in memory
//! only: after a crash the next start reads the configuration anew.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::delivery::Delivery;
use super::listeners::Listeners;
use crate::admin::AdminSecrets;
use crate::config::{Commit, Config, Keeper};
use crate::live::{Live, LiveSender, live};
use crate::net::tls::{Certificates, TlsPlan};
use crate::telemetry::logs::LogControl;
use crate::telemetry::trace;
use crate::{alerter, ingest, remedy, store, upkeep};

/// The writing sides of everything that can change at run time.
pub(super) struct Senders {
    ingest: LiveSender<ingest::Settings>,
    ingest_secrets: LiveSender<ingest::Secrets>,
    admin_secrets: LiveSender<AdminSecrets>,
    alerter: LiveSender<alerter::Settings>,
    remedy: LiveSender<remedy::Settings>,
    slo: LiveSender<upkeep::slo::Settings>,
    retention: LiveSender<upkeep::retention::Settings>,
    recent: LiveSender<store::RecentSettings>,
    audit: LiveSender<store::AuditSettings>,
    trace: LiveSender<trace::Settings>,
}

/// The reading sides, as the stages get them.
pub(super) struct Lives {
    pub(super) ingest: Live<ingest::Settings>,
    pub(super) ingest_secrets: Live<ingest::Secrets>,
    pub(super) admin_secrets: Live<AdminSecrets>,
    pub(super) alerter: Live<alerter::Settings>,
    pub(super) remedy: Live<remedy::Settings>,
    pub(super) slo: Live<upkeep::slo::Settings>,
    pub(super) retention: Live<upkeep::retention::Settings>,
    pub(super) recent: Live<store::RecentSettings>,
    pub(super) audit: Live<store::AuditSettings>,
    pub(super) trace: Live<trace::Settings>,
}

/// Both sides, with the values of `config`.
pub(super) fn lives(config: &Config) -> (Senders, Lives) {
    let (ingest_sender, ingest) = live(config.ingest.clone());
    let (ingest_secrets_sender, ingest_secrets) = live(config.ingest_secrets.clone());
    let (admin_sender, admin_secrets) = live(AdminSecrets { admin_api_key: config.admin_api_key.clone() });
    let (alerter_sender, alerter) = live(config.alerter.clone());
    let (remedy_sender, remedy) = live(config.remedy.clone());
    let (slo_sender, slo) = live(config.slo.clone());
    let (retention_sender, retention) = live(config.retention.clone());
    let (recent_sender, recent) = live(config.recent);
    let (audit_sender, audit) = live(config.audit);
    let (trace_sender, trace) = live(config.trace.clone());
    let senders = Senders {
        ingest: ingest_sender,
        ingest_secrets: ingest_secrets_sender,
        admin_secrets: admin_sender,
        alerter: alerter_sender,
        remedy: remedy_sender,
        slo: slo_sender,
        retention: retention_sender,
        recent: recent_sender,
        audit: audit_sender,
        trace: trace_sender,
    };
    (senders, Lives { ingest, ingest_secrets, admin_secrets, alerter, remedy, slo, retention, recent, audit, trace })
}

/// Everything that goes by the configuration.
pub(super) struct Force {
    pub(super) senders: Senders,
    pub(super) delivery: Delivery,
    pub(super) listeners: Listeners,
    pub(super) certificates: Certificates,
    /// The plan that the certificates go by.
    pub(super) tls: Mutex<TlsPlan>,
    /// Has rules, hosts and teams read again.
    pub(super) changed: Arc<Notify>,
    /// The log's filter.
    pub(super) logs: LogControl,
}

impl Force {
    /// Has `keeper` put what changes into force here. It does not keep this alive: this holds the way into the intake, which
    /// a stop has to close.
    pub(super) fn follow(self: &Arc<Self>, keeper: &Keeper) {
        let force = Arc::downgrade(self);
        keeper.open(Arc::new(move |config| force.upgrade().ok_or("the appliance is stopping")?.prepare(config)));
    }

    /// Makes everything ready for `config`; the error is for people, and then nothing was changed.
    pub(super) fn prepare(self: &Arc<Self>, config: &Config) -> Result<Commit, String> {
        let targets = self.delivery.prepare(&config.targets)?;
        let moves = self.listeners.prepare(&config.listen)?;
        let (force, config) = (Arc::clone(self), config.clone());
        Ok(Box::new(move || {
            force.switch(&config);
            force.delivery.commit(targets);
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
        replace(&senders.retention, &config.retention);
        replace(&senders.recent, &config.recent);
        replace(&senders.audit, &config.audit);
        replace(&senders.trace, &config.trace);
        if let Err(error) = self.logs.set_filter(&config.log_filter) {
            // The filter was checked with the configuration; only a log that is gone can refuse it.
            tracing::error!("Log filter kept: {error}");
        }
    }
}

/// Tells readers only of what changed: some of them start something anew when they are told.
fn replace<T: PartialEq + Clone>(sender: &LiveSender<T>, value: &T) {
    if *sender.get() != *value {
        sender.set(value.clone());
    }
}
