//! The certificates of all listeners: loaded at the start, watched, and exchanged when their files change.
//!
//! What is new is checked as a whole before it is used: readable, certificate and key of one pair, valid now. If it is
//! not, the old one stays and the reason is logged once, counted and shown until it is mended. Connections that are open
//! keep what they began with. A listener that never had a usable certificate lets nobody in until it has; the others go
//! on. Nothing is kept over a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::door::{Door, Way};
use super::files::{Loaded, Stamp, TlsError, load};
use super::{TlsListener, TlsPlan, TlsSettings, own};
use crate::clock::Clock;
use crate::live::{Live, LiveSender, live};
use crate::model::Timestamp;
use crate::telemetry::metrics::TLS_RELOADS;
use crate::telemetry::{CertificateBoard, CertificateFacts, CertificateStatus};

/// How often the files are looked at: a few system calls.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Files that could not be used are tried again after so many looks even if they did not change: a certificate that is
/// valid from midnight on, a clock that was set right.
const TRY_AGAIN_AFTER: u32 = 60;

/// The certificates of one process; clones share them.
#[derive(Clone)]
pub struct Certificates {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    board: CertificateBoard,
    state: Mutex<State>,
}

struct State {
    plan: TlsPlan,
    lines: Vec<Line>,
}

/// One listener.
struct Line {
    listener: TlsListener,
    settings: TlsSettings,
    way: LiveSender<Way>,
    /// The files as they were when they were tried last.
    tried: Option<Stamp>,
    /// The files as they were at the last look, if that was news: they are used when they keep still.
    seen: Option<Stamp>,
    facts: Option<CertificateFacts>,
    problem: Option<TlsError>,
    looks: u32,
}

impl Certificates {
    /// Loads what `plan` names. A listener whose certificate cannot be used is shut, and told on `board`. Blocks.
    pub fn open(plan: TlsPlan, clock: Clock, board: CertificateBoard) -> Self {
        super::use_ring();
        let lines = plan.listeners.iter().map(|(listener, settings)| Line {
            listener: *listener,
            settings: settings.clone(),
            way: live(if settings.enabled { Way::Shut } else { Way::Plain }).0,
            tried: None,
            seen: None,
            facts: None,
            problem: None,
            looks: 0,
        });
        let state = State { lines: lines.collect(), plan };
        let certificates = Self { shared: Arc::new(Shared { clock, board, state: Mutex::new(state) }) };
        certificates.reload();
        certificates
    }

    /// The door of a listener; one that is not in the plan is open.
    pub fn door(&self, listener: TlsListener) -> Door {
        let state = self.shared.state.lock();
        let line = state.lines.iter().find(|line| line.listener == listener);
        let way = line.map_or_else(|| Live::constant(Way::Plain), |line| line.way.subscribe());
        Door::new(listener.name(), way)
    }

    /// Puts another plan into force and reads every file again, changed or not. A listener without TLS gets it only if
    /// its certificate can be used. Blocks.
    pub fn replace(&self, plan: TlsPlan) {
        let now = self.shared.clock.now();
        let mut state = self.shared.state.lock();
        state.plan = plan;
        let State { plan, lines } = &mut *state;
        for line in lines {
            let Some(settings) = plan.of(line.listener) else { continue };
            let before = std::mem::replace(&mut line.settings, settings.clone());
            if line.settings.enabled
                && !before.enabled
                && let Err(problem) = line.read(plan, now)
            {
                tracing::error!(listener = line.listener.name(), "TLS is not switched on: {problem}");
                line.settings = before;
            }
            line.use_files(plan, &self.shared);
        }
    }

    /// Reads every file again. Blocks.
    pub fn reload(&self) {
        let mut state = self.shared.state.lock();
        let State { plan, lines } = &mut *state;
        for line in lines {
            line.use_files(plan, &self.shared);
        }
    }

    /// Looks whether files changed, and uses those that did and keep still. Blocks.
    pub fn look(&self) {
        let mut state = self.shared.state.lock();
        let State { plan, lines } = &mut *state;
        for line in lines.iter_mut().filter(|line| line.settings.enabled) {
            if line.should_be_used(plan) {
                line.use_files(plan, &self.shared);
            }
        }
    }

    /// Looks once a second until `stop` is cancelled. Must be called within a tokio runtime.
    pub fn watch(&self, stop: CancellationToken) -> JoinHandle<()> {
        let certificates = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                let certificates = certificates.clone();
                if tokio::task::spawn_blocking(move || certificates.look()).await.is_err() {
                    tracing::error!("Looking at the certificates failed; it is tried again");
                }
            }
        })
    }
}

impl Line {
    /// Files are written one after the other, so they are used only when two looks find them the same.
    fn should_be_used(&mut self, plan: &TlsPlan) -> bool {
        let now = self.stamp(plan);
        if self.tried.as_ref() == Some(&now) {
            self.seen = None;
            self.looks = if self.problem.is_some() { self.looks + 1 } else { 0 };
            return self.looks >= TRY_AGAIN_AFTER;
        }
        let still = self.seen.as_ref() == Some(&now);
        self.seen = Some(now);
        still
    }

    fn stamp(&self, plan: &TlsPlan) -> Stamp {
        let own = own::own_pair(&plan.data_dir);
        let pair = self.settings.files.as_ref().unwrap_or(&own);
        let mut files: Vec<&Path> = vec![&pair.certificate, &pair.key];
        files.extend(self.settings.client_ca.as_deref());
        Stamp::of(&files)
    }

    fn use_files(&mut self, plan: &TlsPlan, shared: &Shared) {
        self.looks = 0;
        if !self.settings.enabled {
            if !matches!(*self.way.get(), Way::Plain) {
                self.way.set(Way::Plain);
            }
            (self.facts, self.problem) = (None, None);
            shared.board.remove(self.listener.name());
            return;
        }
        let now = shared.clock.now();
        // The stamp before the files: what is written in between is found at the next look.
        let before = self.stamp(plan);
        let loaded = self.read(plan, now);
        // One made just now was not there before.
        self.tried = Some(if self.settings.files.is_none() { self.stamp(plan) } else { before });
        match loaded.and_then(|loaded| self.acceptable(loaded, now)) {
            Ok(loaded) => self.serve(loaded, now),
            Err(problem) => self.keep(problem),
        }
        shared.board.put(CertificateStatus {
            listener: self.listener.name(),
            clients: self.settings.clients.name(),
            facts: self.facts.clone(),
            problem: self.problem.as_ref().map(ToString::to_string),
        });
    }

    fn read(&self, plan: &TlsPlan, now: Timestamp) -> Result<Loaded, TlsError> {
        let pair = self.settings.files.clone().map_or_else(|| own::ensure(plan, now), Ok)?;
        load(self.listener, &self.settings, &pair)
    }

    /// One that is not valid now is better than none, but not better than one that is.
    fn acceptable(&self, loaded: Loaded, now: Timestamp) -> Result<Loaded, TlsError> {
        let have_better = self.facts.as_ref().is_some_and(|facts| (facts.from..=facts.to).contains(&now));
        match loaded.valid_at(now) {
            Err(problem) if have_better => Err(problem),
            _ => Ok(loaded),
        }
    }

    fn serve(&mut self, loaded: Loaded, now: Timestamp) {
        let name = self.listener.name();
        metrics::counter!(TLS_RELOADS, "listener" => name, "result" => "ok").increment(1);
        let same = self.facts.as_ref().is_some_and(|facts| facts.fingerprint == loaded.fingerprint);
        if !same || self.problem.is_some() {
            tracing::info!(
                listener = name,
                certificate.file = %loaded.file.display(),
                certificate.sha256 = %loaded.fingerprint,
                certificate.until = %loaded.to,
                "Certificate in use"
            );
        }
        if let Err(problem) = loaded.valid_at(now) {
            tracing::error!(listener = name, "A certificate is used although clients will refuse it: {problem}");
        }
        let since = self.facts.as_ref().filter(|_| same).map_or(now, |facts| facts.since);
        self.facts = Some(CertificateFacts {
            file: loaded.file.display().to_string(),
            fingerprint: loaded.fingerprint,
            from: loaded.from,
            to: loaded.to,
            since,
        });
        self.problem = None;
        self.way.set(Way::Tls(loaded.config));
    }

    fn keep(&mut self, problem: TlsError) {
        let name = self.listener.name();
        metrics::counter!(TLS_RELOADS, "listener" => name, "result" => "failed").increment(1);
        if self.problem.as_ref() == Some(&problem) {
            return;
        }
        if self.facts.is_some() {
            tracing::error!(listener = name, "A new certificate cannot be used, the old one stays: {problem}");
        } else {
            tracing::error!(listener = name, "TLS is wanted and there is no usable certificate: {problem}");
        }
        self.problem = Some(problem);
    }
}
