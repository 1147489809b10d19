//! The nouns of the product: plain data, checked in its constructors. Nothing here does I/O or reads a clock.

mod alert;
mod day;
mod dead_letter;
mod decision;
mod event;
mod health;
mod ids;
mod json;
mod oid;
mod rule;
mod severity;
mod text;
mod time;
mod trace;
mod wire;

pub use alert::{Alert, Cause, DeliveryNote, DeliveryOutcome};
pub use day::Day;
pub use dead_letter::{DeadLetter, DeathClass, Edited, Holds};
pub use decision::{Decision, Judged, Matched};
pub use event::{Event, Flag, Protocol, SdElement, Source, Trap, VarKind, Varbind};
pub use health::Health;
pub use ids::{EventId, EventIds, InvalidName, RuleId, TargetName, Team, host_key};
pub use json::{alert_json, event_json};
pub use oid::{InvalidOid, Oid};
pub use rule::{Condition, Environment, Handling, InvalidRule, MatchType, Rule, RuleDraft};
pub use severity::{InvalidSeverity, Severity, facility_name, parse_facility};
pub use text::Text;
pub use time::Timestamp;
pub use trace::{SpanId, TRACEPARENT, TRACESTATE, TraceContext, TraceId, scattered};
pub use wire::{read_events, write_events};
