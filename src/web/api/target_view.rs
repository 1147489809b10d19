//! Delivery targets as the API tells of them. Pure.

use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::{Abandoned, TargetDefinition, TargetLine};
use crate::model::Timestamp;
use crate::telemetry::TargetStatus;

/// A delivery target that is spoken to, and how it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Target {
    name: String,
    kind: &'static str,
    /// Where it is, without user, password, path or query.
    address: String,
    /// Whether the last delivery was taken; null before the first.
    up: Option<bool>,
    #[schema(format = DateTime)]
    last_success: Option<String>,
    last_error: Option<Mishap>,
    breaker: Breaker,
    /// Until when it asked for patience.
    #[schema(format = DateTime)]
    held_until: Option<String>,
    /// The target that gets its alerts while it fails.
    diverted_to: Option<String>,
    /// Alerts taken since the start.
    delivered: u64,
    /// Deliveries to be tried again since the start.
    retried: u64,
    /// Alerts given up since the start.
    dead: u64,
    /// Alerts handed to the fallback since the start.
    diverted: u64,
    /// Alerts in its outbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_bytes: Option<u64>,
    /// Where it is defined, as with a target that is not spoken to; so the members that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// A target: how it is, if it is spoken to, and how it is defined.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ShownTarget {
    Spoken(Box<Target>),
    Defined(DefinedTarget),
}

/// Whether a target is spoken to.
#[derive(Serialize, ToSchema)]
struct Breaker {
    /// `closed`, `half_open` or `open`.
    state: &'static str,
    /// How often it was left alone since the start.
    trips: u64,
    last_trip: Option<Mishap>,
    /// When one alert is tried, while it is left alone.
    #[schema(format = DateTime)]
    next_probe: Option<String>,
}

/// What went wrong, and when.
#[derive(Serialize, ToSchema)]
struct Mishap {
    #[schema(format = DateTime)]
    at: String,
    error: String,
}

/// How a target is defined.
#[derive(Serialize, ToSchema)]
pub(super) struct DefinedTarget {
    name: String,
    kind: String,
    /// `store`, or `file` for those of the configuration file, which are changed there.
    origin: &'static str,
    /// What was written, for those of the store.
    definition: Option<String>,
    enabled: bool,
    /// Why it is not spoken to, although it should be.
    problem: Option<String>,
}

/// The outbox of a target that is gone.
#[derive(Serialize, ToSchema)]
pub(super) struct AbandonedOutbox {
    name: String,
    waiting: u64,
    bytes: u64,
}

fn mishap((at, why): &(Timestamp, String)) -> Mishap {
    Mishap { at: at.to_string(), error: why.clone() }
}

impl From<&TargetStatus> for Target {
    fn from(target: &TargetStatus) -> Self {
        let time = |at: Timestamp| at.to_string();
        Self {
            name: target.name.as_str().to_owned(),
            kind: target.kind,
            address: target.address.clone(),
            up: target.up,
            last_success: target.last_success.map(time),
            last_error: target.last_error.as_ref().map(mishap),
            breaker: Breaker {
                state: target.breaker.name(),
                trips: target.trips,
                last_trip: target.last_trip.as_ref().map(mishap),
                next_probe: target.next_probe.map(time),
            },
            held_until: target.held_until.map(time),
            diverted_to: target.diverted_to.as_ref().map(|name| name.as_str().to_owned()),
            delivered: target.delivered,
            retried: target.retried,
            dead: target.dead,
            diverted: target.diverted,
            waiting: None,
            waiting_bytes: None,
            origin: None,
            definition: None,
            enabled: None,
            problem: None,
        }
    }
}

impl From<&TargetLine> for Target {
    fn from(line: &TargetLine) -> Self {
        let (waiting, waiting_bytes) = (Some(line.waiting.items), Some(line.waiting.bytes));
        Self { waiting, waiting_bytes, ..Self::from(&line.status) }
    }
}

impl From<&TargetDefinition> for DefinedTarget {
    fn from(target: &TargetDefinition) -> Self {
        Self {
            name: target.name.clone(),
            kind: target.kind.clone(),
            origin: if target.definition.is_some() { "store" } else { "file" },
            definition: target.definition.clone(),
            enabled: target.enabled,
            problem: target.problem.clone(),
        }
    }
}

impl ShownTarget {
    /// A target by its definition, and its line if it is spoken to.
    pub(super) fn new(definition: &TargetDefinition, line: Option<&TargetLine>) -> Self {
        let defined = DefinedTarget::from(definition);
        let Some(line) = line else { return Self::Defined(defined) };
        let DefinedTarget { origin, definition, enabled, problem, .. } = defined;
        let (origin, enabled) = (Some(origin), Some(enabled));
        Self::Spoken(Box::new(Target { origin, definition, enabled, problem, ..Target::from(line) }))
    }
}

impl From<&Abandoned> for AbandonedOutbox {
    fn from(line: &Abandoned) -> Self {
        Self { name: line.name.as_str().to_owned(), waiting: line.waiting.items, bytes: line.waiting.bytes }
    }
}
