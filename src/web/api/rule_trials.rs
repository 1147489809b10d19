//! Trying a rule on the events of the last days.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::Web;
use super::super::fault::{Answer, Fault};
use super::super::input::JsonBody;
use super::rules::{RuleBody, draft};
use crate::admin::{MAX_TRIAL_DAYS, MAX_TRIAL_SAMPLES, MAX_TRIAL_SECONDS, Trial, TrialOf};
use crate::model::RuleId;
use crate::web::text::day_label;

/// What is to be tried: `rule` as a new one, `rule_id` as it is, or both: the rule with that number as it would be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TrialBody {
    /// The rule as it would be.
    #[serde(default)]
    #[schema(value_type = Option<RuleBody>)]
    rule: Option<Map<String, Value>>,
    /// A rule that is there.
    #[serde(default)]
    rule_id: Option<i64>,
    /// How many days back; 7 unless said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 400)]
    days: Option<usize>,
    /// How many seconds it may take; 20 unless said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 60)]
    seconds: Option<usize>,
    /// How many sample events are wanted; 10 unless said.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 100)]
    samples: Option<usize>,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub(super) struct TrialAnswer {
    /// Whether everything since `from` was looked at.
    complete: bool,
    /// From when on events were to be looked at.
    #[schema(format = DateTime)]
    from: String,
    /// From when on they were.
    #[schema(format = DateTime)]
    reached: String,
    /// Events looked at.
    events: u64,
    /// Events for which the rule's conditions hold.
    matched: u64,
    /// Events that it would decide: no rule before it matches.
    decided: u64,
    /// Events for which rule, handling or team would be another than by the rules in force. Of a rule that is tried as it
    /// is: than without it.
    changed: u64,
    /// Events of `changed` that would go out as an alert and do not.
    newly_forwarded: u64,
    /// Events of `changed` that go out and would not.
    no_longer_forwarded: u64,
    /// By day, newest first; days without a match are left out.
    days: Vec<TrialDayRow>,
    /// Some of the events, newest first.
    samples: Vec<TrialSampleRow>,
    /// What could not be looked at.
    warnings: Vec<String>,
}

/// One day.
#[derive(Serialize, ToSchema)]
struct TrialDayRow {
    /// The day in UTC.
    #[schema(format = Date)]
    day: String,
    matched: u64,
    decided: u64,
    changed: u64,
}

/// One event.
#[derive(Serialize, ToSchema)]
struct TrialSampleRow {
    id: String,
    #[schema(format = DateTime)]
    received_at: String,
    hostname: String,
    /// The text, shortened.
    message: String,
    /// By the rules in force; null where none matches.
    now: Option<DecidedBy>,
    /// With the rule that is tried; of one that is tried as it is: without it.
    then: Option<DecidedBy>,
}

/// Which rule decides, and what is done.
#[derive(Serialize, ToSchema)]
struct DecidedBy {
    rule_id: i64,
    handling: String,
}

/// Tries a rule on what came in
///
/// Which events of the last days it would decide, by day, with samples, and for how many that would change what is done.
/// Every event of the recent store is looked at, and what the audit has from before its time. It ends at its time limit
/// and then says how far back it came. Nothing is stored or sent.
#[utoipa::path(
    post,
    path = "/rules/try",
    request_body = TrialBody,
    responses((status = 200, body = TrialAnswer), (status = 404, description = "There is no rule of that number"))
)]
pub(super) async fn try_rule(State(web): State<Web>, body: JsonBody) -> Answer<Json<TrialAnswer>> {
    let wanted: TrialBody = body.read()?;
    if wanted.rule.is_none() && wanted.rule_id.is_none() {
        return Err(Fault::bad_request("give `rule`, `rule_id` or both"));
    }
    let within = |name: &str, value: Option<usize>, default: usize, least: usize, most: usize| {
        let value = value.unwrap_or(default);
        let fits = (least..=most).contains(&value);
        fits.then_some(value)
            .ok_or_else(|| Fault::field(name, format!("it is not a whole number from {least} to {most}")))
    };
    let trial = TrialOf {
        id: wanted.rule_id.map(RuleId),
        draft: wanted.rule.as_ref().map(draft).transpose()?,
        days: within("days", wanted.days, 7, 1, MAX_TRIAL_DAYS)?,
        limit: Duration::from_secs(within("seconds", wanted.seconds, 20, 1, MAX_TRIAL_SECONDS)? as u64),
        samples: within("samples", wanted.samples, 10, 0, MAX_TRIAL_SAMPLES)?,
    };
    Ok(Json(TrialAnswer::from(web.admin.try_rule(trial).await?)))
}

impl From<Trial> for TrialAnswer {
    fn from(trial: Trial) -> Self {
        let by =
            |decided: Option<(RuleId, String)>| decided.map(|(id, handling)| DecidedBy { rule_id: id.0, handling });
        Self {
            complete: trial.complete,
            from: trial.from.to_string(),
            reached: trial.reached.to_string(),
            events: trial.events,
            matched: trial.matched,
            decided: trial.decided,
            changed: trial.changed,
            newly_forwarded: trial.newly_forwarded,
            no_longer_forwarded: trial.no_longer_forwarded,
            days: trial
                .days
                .into_iter()
                .map(|(day, counts)| TrialDayRow {
                    day: day_label(day),
                    matched: counts.matched,
                    decided: counts.decided,
                    changed: counts.changed,
                })
                .collect(),
            samples: trial
                .samples
                .into_iter()
                .map(|sample| TrialSampleRow {
                    id: sample.id.to_string(),
                    received_at: sample.received_at.to_string(),
                    hostname: sample.hostname,
                    message: sample.message,
                    now: by(sample.now),
                    then: by(sample.then),
                })
                .collect(),
            warnings: trial.warnings,
        }
    }
}
