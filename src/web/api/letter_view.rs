//! Dead letters and remediation as the API tells of them. Pure.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::openapi::schemas::{AlertJson, EventJson};
use crate::admin::{self, DeadGroup, DeadGroups, DeadItem, DeadPage, DeadQueue, DeadRecord, RemedyStatus, RunReport};
use crate::model::{DeathClass, event_json};

/// The letters of a queue.
#[derive(Serialize, ToSchema)]
pub(super) struct LetterQueue {
    queue: &'static str,
    /// Letters in the queue, whether they fit or not.
    total: u64,
    items: Vec<Letter>,
    /// What `cursor` must be for those that follow; null at the end.
    next_cursor: Option<String>,
}

/// What could not be processed or delivered.
#[derive(Serialize, ToSchema)]
pub(super) struct Letter {
    /// Its place in the queue.
    seq: u64,
    /// The stage or target it died at.
    origin: Option<String>,
    /// The kind of reason.
    class: &'static str,
    reason: String,
    /// What the receiver answered.
    answer: Option<String>,
    attempts: Option<u32>,
    replays: Option<u32>,
    #[schema(format = DateTime)]
    first_died_at: Option<String>,
    #[schema(format = DateTime)]
    died_at: Option<String>,
    edited: Option<Edited>,
    /// `event`, `alert` or, for what is not understood, `bytes`.
    holds: &'static str,
    event_id: Option<String>,
    #[schema(value_type = Option<EventJson>)]
    event: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AlertJson>)]
    pub(super) alert: Option<Value>,
    /// How many bytes it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<usize>,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hex: Option<String>,
}

/// Who changed a letter last.
#[derive(Serialize, ToSchema)]
struct Edited {
    by: String,
    #[schema(format = DateTime)]
    at: String,
}

/// How many letters of a queue died for which reason.
#[derive(Serialize, ToSchema)]
pub(super) struct LetterGroups {
    queue: &'static str,
    groups: Vec<LetterGroup>,
    /// Whether the whole queue was looked at.
    complete: bool,
}

/// Letters that died for one reason.
#[derive(Serialize, ToSchema)]
struct LetterGroup {
    origin: String,
    class: &'static str,
    reason: String,
    count: u64,
    #[schema(format = DateTime)]
    first_died_at: Option<String>,
    #[schema(format = DateTime)]
    died_at: Option<String>,
    /// The place of one of them.
    example_seq: u64,
}

/// What was done with letters.
#[derive(Serialize, ToSchema)]
pub(super) struct Acted {
    /// Letters that were found.
    selected: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<u64>,
    /// Those that stayed, and why.
    kept: Vec<Kept>,
    /// Whether there are more that fit.
    more: bool,
}

/// A letter that stayed.
#[derive(Serialize, ToSchema)]
struct Kept {
    seq: u64,
    reason: String,
}

/// How remediation is.
#[derive(Serialize, ToSchema)]
pub(super) struct Remediation {
    enabled: bool,
    interval_seconds: u64,
    batch_size: usize,
    max_poison_retries: u32,
    health_probe_ttl_seconds: u64,
    last_run: Option<RemediationRun>,
    targets: Vec<TargetHealth>,
}

/// What the health probe of a target found.
#[derive(Serialize, ToSchema)]
struct TargetHealth {
    name: String,
    healthy: bool,
    #[schema(format = DateTime)]
    checked_at: Option<String>,
    why: Option<String>,
}

/// A run of remediation.
#[derive(Serialize, ToSchema)]
pub(super) struct RemediationRun {
    #[schema(format = DateTime)]
    at: String,
    replayed: u64,
    /// Letters replayed too often, which are in the queue `dead` now.
    poison: u64,
    skipped_unhealthy: Vec<SkippedTarget>,
    skipped_no_target: u64,
    failed: u64,
    error: Option<String>,
}

/// A target that was left alone because it is not healthy.
#[derive(Serialize, ToSchema)]
struct SkippedTarget {
    target: String,
    why: String,
}

impl LetterQueue {
    /// A page of a queue.
    pub(super) fn new(queue: DeadQueue, page: &DeadPage) -> Self {
        Self {
            queue: queue.name(),
            total: page.total,
            items: page.items.iter().map(Letter::from).collect(),
            next_cursor: page.next.map(|seq| seq.to_string()),
        }
    }
}

impl From<&DeadItem> for Letter {
    fn from(item: &DeadItem) -> Self {
        let letter = item.letter.as_ref().ok();
        let edited = letter.and_then(|letter| letter.edited.as_ref());
        Self {
            seq: item.seq,
            origin: letter.map(|letter| letter.origin.clone()),
            class: letter.map_or(DeathClass::Undecodable, |letter| letter.class).name(),
            reason: item.letter.as_ref().map_or_else(Clone::clone, |letter| letter.reason.clone()),
            answer: letter.and_then(|letter| letter.answer.clone()),
            attempts: letter.map(|letter| letter.attempts),
            replays: letter.map(|letter| letter.replays),
            first_died_at: letter.map(|letter| letter.first_died_at.to_string()),
            died_at: letter.map(|letter| letter.died_at.to_string()),
            edited: edited.map(|edited| Edited { by: edited.by.clone(), at: edited.at.to_string() }),
            holds: match &item.record {
                DeadRecord::Event(_) => "event",
                DeadRecord::Alert(_) => "alert",
                DeadRecord::Bytes(_) => "bytes",
            },
            event_id: letter.and_then(|letter| letter.event_id).map(|id| id.to_string()),
            event: item.record.event().map(event_json),
            alert: None,
            bytes: None,
            hex: None,
        }
    }
}

impl LetterGroups {
    /// The groups of a queue.
    pub(super) fn new(queue: DeadQueue, found: &DeadGroups) -> Self {
        let groups = found.groups.iter().map(LetterGroup::from).collect();
        Self { queue: queue.name(), groups, complete: found.complete }
    }
}

impl From<&DeadGroup> for LetterGroup {
    fn from(group: &DeadGroup) -> Self {
        Self {
            origin: group.origin.clone(),
            class: group.class.name(),
            reason: group.reason.clone(),
            count: group.count,
            first_died_at: group.first.map(|time| time.to_string()),
            died_at: group.last.map(|time| time.to_string()),
            example_seq: group.example,
        }
    }
}

impl Acted {
    /// Letters that were replayed.
    pub(super) fn replayed(acted: &admin::Acted) -> Self {
        Self { replayed: Some(acted.done), ..Self::without_count(acted) }
    }

    /// Letters that were discarded.
    pub(super) fn discarded(acted: &admin::Acted) -> Self {
        Self { discarded: Some(acted.done), ..Self::without_count(acted) }
    }

    fn without_count(acted: &admin::Acted) -> Self {
        let kept = acted.kept.iter().map(|(seq, why)| Kept { seq: *seq, reason: why.clone() }).collect();
        Self { selected: acted.selected, replayed: None, discarded: None, kept, more: acted.more }
    }
}

impl From<&RemedyStatus> for Remediation {
    fn from(status: &RemedyStatus) -> Self {
        let settings = &status.settings;
        let targets = status.health.iter().map(|health| TargetHealth {
            name: health.target.as_str().to_owned(),
            healthy: health.healthy,
            checked_at: health.checked_at.map(|time| time.to_string()),
            why: Some(health.why.clone()).filter(|why| !why.is_empty()),
        });
        Self {
            enabled: settings.enabled,
            interval_seconds: settings.interval.as_secs(),
            batch_size: settings.batch_size,
            max_poison_retries: settings.max_poison_retries,
            health_probe_ttl_seconds: settings.health_probe_ttl.as_secs(),
            last_run: status.last.as_ref().map(RemediationRun::from),
            targets: targets.collect(),
        }
    }
}

impl From<&RunReport> for RemediationRun {
    fn from(report: &RunReport) -> Self {
        let skipped = report.unhealthy.iter();
        let skipped = skipped
            .map(|(target, why)| SkippedTarget { target: target.as_str().to_owned(), why: why.clone() })
            .collect();
        Self {
            at: report.at.to_string(),
            replayed: report.replayed,
            poison: report.poison,
            skipped_unhealthy: skipped,
            skipped_no_target: report.no_target,
            failed: report.failed,
            error: report.error.clone(),
        }
    }
}
