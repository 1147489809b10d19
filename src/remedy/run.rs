//! One run of the remediation: looks at every letter there was when it began, once, oldest first.
//!
//! The run is repeatable: it takes no input, does not retry, and leaves whatever it could not do to the next one. It is
//! bounded in letters put back (`remediation_batch_size`), in letters set aside and in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::letters::{DeadItem, DeadQueue};
use super::poison::{Fate, Findings, fate, is_report, set_aside};
use super::replay::{CHUNK, Desk};
use super::{Healths, Settings};
use crate::clock::Clock;
use crate::live::Live;
use crate::model::{Alert, EventIds, TargetName, Timestamp};
use crate::queue::{QueueError, Seq};
use crate::telemetry::metrics::AUTO_REMEDIATION;

/// Letters looked at with one read.
const PAGE: usize = 128;
/// Letters set aside in one run: they stay leased until they are reported, and a queue leases 4,096 at once.
const MOST_SET_ASIDE: usize = 1_000;

/// Sends an alert on its normal way: audit, routing, outboxes.
pub type Reporter = Arc<dyn Fn(Alert) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What one run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunReport {
    /// When it began.
    pub at: Timestamp,
    /// Letters put back.
    pub replayed: u64,
    /// Letters that went to the queue `dead`.
    pub poison: u64,
    /// Targets that have letters and were not healthy, with the reason.
    pub unhealthy: BTreeMap<TargetName, String>,
    /// Letters of targets that do not exist any more.
    pub no_target: u64,
    /// Letters that could not be put back, and what went wrong last.
    pub failed: u64,
    /// What went wrong last.
    pub error: Option<String>,
}

/// Everything a run needs.
pub(super) struct Runner {
    pub(super) desk: Desk,
    pub(super) health: Live<Healths>,
    pub(super) settings: Live<Settings>,
    pub(super) report: Reporter,
    pub(super) node: String,
    pub(super) ids: EventIds,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
}

/// What a run has in hand.
struct Round {
    settings: Arc<Settings>,
    /// Letters that may still be put back.
    budget: usize,
    /// Letters to be set aside, with the reason.
    poison: BTreeMap<DeadQueue, Vec<(Seq, String)>>,
    report: RunReport,
}

impl Runner {
    /// One run.
    pub(super) async fn run(&self) -> RunReport {
        let settings = self.settings.get();
        let at = self.clock.now();
        let budget = settings.batch_size;
        let mut round =
            Round { settings, budget, poison: BTreeMap::new(), report: RunReport { at, ..RunReport::default() } };
        // The alerter's letters are few; they leave half of the batch to the forwarder's if those need it.
        let forwarders = usize::try_from(self.desk.queues.dead_alerts.depth().records).unwrap_or(usize::MAX);
        let reserved = forwarders.min(budget / 2);
        round.budget = budget - reserved;
        self.look_through(DeadQueue::Alerter, &mut round).await;
        round.budget += reserved;
        self.look_through(DeadQueue::Forwarder, &mut round).await;
        self.set_aside(&mut round).await;
        count(&round.report);
        tell(&round.report);
        round.report
    }

    /// Looks at the letters that are there now, not at those that come back meanwhile.
    async fn look_through(&self, queue: DeadQueue, round: &mut Round) {
        let mut left = usize::try_from(self.desk.queue(queue).depth().records).unwrap_or(usize::MAX);
        let mut from = 0;
        while left > 0 && round.has_room() && !self.stop.is_cancelled() {
            let page = match self.desk.queue(queue).peek(from, PAGE.min(left)).await {
                Ok(page) => page,
                Err(error) => return round.fail(0, &error),
            };
            let Some(last) = page.last().map(|record| record.seq) else { return };
            left -= page.len().min(left);
            from = last.saturating_add(1);
            let items = page.into_iter().map(|record| DeadItem::of(record, queue));
            let chosen: Vec<Seq> = items.filter(|item| self.choose(queue, item, round)).map(|item| item.seq).collect();
            for some in chosen.chunks(CHUNK) {
                match self.desk.put_back(queue, some, None).await {
                    Ok(done) => {
                        round.report.replayed += done.replayed;
                        round.keep(queue, done.kept);
                    }
                    Err(error) => return round.fail(some.len(), &error),
                }
            }
        }
    }

    /// Whether a letter is to be put back now; notes what else is to become of it.
    fn choose(&self, queue: DeadQueue, item: &DeadItem, round: &mut Round) -> bool {
        if let Fate::SetAside(why) = fate(item, round.settings.max_poison_retries) {
            round.set_aside(queue, item.seq, why);
            return false;
        }
        let origin = item.letter.as_ref().map(|letter| letter.origin.as_str()).unwrap_or_default();
        if queue == DeadQueue::Forwarder {
            let Some(target) = self.desk.target_of(origin) else {
                round.report.no_target += 1;
                return false;
            };
            if let Err(why) = self.is_healthy(&target) {
                round.report.unhealthy.entry(target.clone()).or_insert(why);
                return false;
            }
        }
        let chosen = round.budget > 0;
        round.budget = round.budget.saturating_sub(1);
        chosen
    }

    fn is_healthy(&self, target: &TargetName) -> Result<(), String> {
        let healths = self.health.get();
        let Some(health) = healths.get(target).map(Live::get) else { return Err("nobody asks how it is".to_owned()) };
        if health.healthy { Ok(()) } else { Err(health.why.clone()) }
    }

    /// Moves poison to the queue `dead` and reports it. The letters are acked last: a crash before that repeats the
    /// move and the report, and loses neither.
    async fn set_aside(&self, round: &mut Round) {
        let mut findings = Findings::default();
        let mut moved: Vec<(DeadQueue, Vec<Seq>)> = Vec::new();
        for (queue, letters) in std::mem::take(&mut round.poison) {
            for some in letters.chunks(CHUNK) {
                match self.move_to_dead(queue, some, &mut findings).await {
                    Ok(seqs) => {
                        round.report.poison += seqs.len() as u64;
                        moved.push((queue, seqs));
                    }
                    Err(error) => round.fail(some.len(), &error),
                }
            }
        }
        if !findings.is_empty() {
            self.tell_operator(&findings, &round.settings).await;
        }
        for (queue, seqs) in moved {
            if let Err(error) = self.desk.queue(queue).ack(&seqs).await {
                round.fail(0, &error);
            }
        }
    }

    /// Returns the letters that were moved; they are leased still.
    async fn move_to_dead(
        &self,
        queue: DeadQueue,
        letters: &[(Seq, String)],
        findings: &mut Findings,
    ) -> Result<Vec<Seq>, QueueError> {
        let seqs: Vec<Seq> = letters.iter().map(|(seq, _)| *seq).collect();
        let claimed = self.desk.queue(queue).claim(&seqs).await?;
        let now = self.clock.now();
        let (mut taken, mut moved) = (Vec::new(), Vec::new());
        for record in claimed {
            let item = DeadItem::of(record, queue);
            let why = letters.iter().find(|(seq, _)| *seq == item.seq).map_or("", |(_, why)| why);
            let is_report = is_report(&item.record);
            taken.push(item.seq);
            let letter = set_aside(item, queue, why, now);
            if !is_report {
                findings.add(&letter);
            }
            moved.push(letter);
        }
        if let Err(error) = self.desk.queues.dead.append(&moved).await {
            self.desk.release(queue, &taken).await;
            return Err(error);
        }
        Ok(taken)
    }

    async fn tell_operator(&self, findings: &Findings, settings: &Settings) {
        let now = self.clock.now();
        tracing::error!("{}", findings.sentence());
        let alert = findings.alert(self.ids.next(now), &self.node, settings, now);
        if let Err(error) = (self.report)(alert).await {
            tracing::error!(%error, "The alert about it could not be sent; the messages are in the queue `dead`");
        }
    }
}

impl Round {
    /// Whether there is anything left to do with further letters.
    fn has_room(&self) -> bool {
        self.budget > 0 && self.poison.values().map(Vec::len).sum::<usize>() < MOST_SET_ASIDE
    }

    fn set_aside(&mut self, queue: DeadQueue, seq: Seq, why: String) {
        if self.poison.values().map(Vec::len).sum::<usize>() < MOST_SET_ASIDE {
            self.poison.entry(queue).or_default().push((seq, why));
        }
    }

    /// What does not fit into its queue now will not fit later either.
    fn keep(&mut self, queue: DeadQueue, kept: Vec<(Seq, String)>) {
        let seen: BTreeSet<Seq> = self.poison.get(&queue).into_iter().flatten().map(|(seq, _)| *seq).collect();
        for (seq, why) in kept.into_iter().filter(|(seq, _)| !seen.contains(seq)) {
            self.set_aside(queue, seq, why);
        }
    }

    fn fail(&mut self, letters: usize, error: &QueueError) {
        self.report.failed += letters as u64;
        self.report.error = Some(error.to_string());
        self.budget = 0;
    }
}

fn count(report: &RunReport) {
    let actions = [
        ("replayed", report.replayed),
        ("poison", report.poison),
        ("skipped_unhealthy", report.unhealthy.len() as u64),
        ("skipped_no_target", report.no_target),
        ("failed", report.failed.max(u64::from(report.error.is_some()))),
    ];
    for (action, count) in actions {
        metrics::counter!(AUTO_REMEDIATION, "action" => action).increment(count);
    }
}

fn tell(report: &RunReport) {
    if let Some(error) = &report.error {
        tracing::error!(error, letters = report.failed, "Dead letters could not be put back; the next run tries again");
    }
    if report.replayed > 0 {
        tracing::info!(
            letters = report.replayed,
            "{} dead letters were put back to be processed again",
            report.replayed
        );
    }
}
