//! Rules: list, create, edit, delete, and each one's own history.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Posted, Segment};
use super::super::text::{count, day_label, moment, short_moment, shortened, visible};
use super::rule_bulk::trial_days;
use super::views::{ChangeView, RuleRow, severity_choices};
use super::{ConfirmPage, Frame, Trouble, done, expected, meanwhile, shown, shown_again};
use crate::access::Right;
use crate::admin::{
    AdminError, ChangeQuery, MAX_CHANGE_ROWS, RuleInput, Trial, TrialOf, TrialSample, rule_tag, suggest_match,
};
use crate::model::{Rule, RuleId};

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage {
    frame: Frame,
    rows: Vec<RuleRow>,
    total: usize,
    filter: String,
    problems: Vec<String>,
    /// Whether the user may change them.
    may_edit: bool,
}

/// Rules of one page; more are found by the filter.
const MAX_SHOWN: usize = 500;

/// `GET /rules`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let found = web.admin.rules().await?;
    let filter = fields.text("q");
    let wanted = filter.to_lowercase();
    let holds = |row: &RuleRow| {
        wanted.is_empty()
            || [row.condition(), row.team.clone(), row.prod.clone(), row.id.to_string()]
                .iter()
                .any(|text| text.to_lowercase().contains(&wanted))
    };
    let rows: Vec<RuleRow> = found.rules.iter().map(RuleRow::new).filter(holds).collect();
    shown(&RulesPage {
        frame: Frame::new(&web, &by, "rules").after(&fields),
        total: rows.len(),
        rows: rows.into_iter().take(MAX_SHOWN).collect(),
        filter,
        problems: found.problems.iter().map(|problem| visible(problem)).collect(),
        may_edit: by.session.role.has(Right::Operate),
    })
}

/// What came of trying the rule in the form.
struct TrialView {
    summary: String,
    incomplete: Option<String>,
    days: Vec<(String, u64, u64, u64)>,
    samples: Vec<SampleView>,
    warnings: Vec<String>,
}

/// An event of a trial.
struct SampleView {
    id: String,
    time: String,
    host: String,
    message: String,
    now: String,
    then: String,
}

impl TrialView {
    fn new(trial: &Trial) -> Self {
        let by = |decided: &Option<(RuleId, String)>| {
            decided.as_ref().map_or("no rule".to_owned(), |(id, handling)| format!("rule {id}: {}", visible(handling)))
        };
        let sample = |sample: &TrialSample| SampleView {
            id: sample.id.to_string(),
            time: short_moment(sample.received_at),
            host: visible(&sample.hostname),
            message: visible(&sample.message),
            now: by(&sample.now),
            then: by(&sample.then),
        };
        Self {
            summary: format!(
                "Of {} events since {} UTC it matches {} and would decide {}; {} would be treated otherwise than now: {} more \
                 alerts, {} fewer.",
                count(trial.events),
                moment(trial.reached),
                count(trial.matched),
                count(trial.decided),
                count(trial.changed),
                count(trial.newly_forwarded),
                count(trial.no_longer_forwarded),
            ),
            incomplete: (!trial.complete).then(|| {
                format!("Its time was up: events from before {} UTC were not looked at.", moment(trial.reached))
            }),
            days: trial
                .days
                .iter()
                .map(|(day, counts)| (day_label(*day), counts.matched, counts.decided, counts.changed))
                .collect(),
            samples: trial.samples.iter().map(sample).collect(),
            warnings: trial.warnings.iter().map(|warning| visible(warning)).collect(),
        }
    }
}

/// How long a trial from the form may take: somebody waits for it.
const TRIAL_TIME: Duration = Duration::from_secs(15);

/// Sample events of a trial from the form.
const TRIAL_SAMPLES: usize = 20;

/// `POST /rules/try`: the form again, with what the rule in it would have done.
pub(super) async fn try_out(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let input = input(&posted.fields);
    let id = posted.fields.get("rule_id").and_then(|id| id.parse().ok()).map(RuleId);
    let days = trial_days(&posted.fields)?;
    let outcome = match input.check() {
        Ok(draft) => {
            let of = TrialOf { id, draft: Some(draft), days, limit: TRIAL_TIME, samples: TRIAL_SAMPLES };
            web.admin.try_rule(of).await
        }
        Err(error) => Err(error),
    };
    let mut page = RuleFormPage::new(Frame::new(&web, &posted.by, "rules"), id.map(|id| id.0), input);
    page.reason = posted.fields.text("reason");
    page.version = posted.fields.text("version");
    page.days = days;
    match outcome {
        Ok(trial) => {
            page.trial = Some(TrialView::new(&trial));
            shown(&page)
        }
        Err(error) => {
            page.trouble = error.into();
            let status = page.trouble.status;
            shown_again(&page, status)
        }
    }
}

#[derive(Template)]
#[template(path = "rule_form.html")]
struct RuleFormPage {
    frame: Frame,
    /// `None` for a rule that is being made.
    id: Option<i64>,
    input: RuleInput,
    reason: String,
    severities: Vec<(String, String)>,
    /// The event it is made from, in one line.
    origin: Option<String>,
    /// The tag of the rule that is being edited.
    version: String,
    /// What others did to it meanwhile.
    meanwhile: Vec<ChangeView>,
    /// How many days back the rule is to be tried.
    days: usize,
    /// What came of it.
    trial: Option<TrialView>,
    trouble: Trouble,
}

impl RuleFormPage {
    fn new(frame: Frame, id: Option<i64>, input: RuleInput) -> Self {
        Self {
            frame,
            id,
            input,
            reason: String::new(),
            severities: severity_choices(),
            origin: None,
            version: String::new(),
            meanwhile: Vec::new(),
            days: 7,
            trial: None,
            trouble: Trouble::default(),
        }
    }
}

/// `GET /rules/new`, also from an event (`event`) or a text (`text`).
pub(super) async fn new_form(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let mut input = RuleInput {
        match_type: "contains".into(),
        priority: "100".into(),
        prod_handling: "Page_and_ticket".into(),
        dev_handling: "Ignore".into(),
        is_active: true,
        ..RuleInput::default()
    };
    let mut origin = fields.get("text").map(str::to_owned);
    // The event may be gone from the recent store by now; the text then serves alone.
    let story = match fields.get("event").and_then(|id| id.parse().ok()) {
        Some(id) => web.admin.event(id).await.ok(),
        None => None,
    };
    if let Some(story) = story {
        let event = story.judged.event;
        input.syslog_severity = event.severity.map(|severity| severity.number().to_string()).unwrap_or_default();
        if let Some(trap) = &event.trap {
            input.match_type = "oid_prefix".into();
            input.trap_oid = trap.oid.to_string();
        }
        origin = Some(format!("{}: {}", event.hostname, event.message));
        if event.trap.is_none() {
            input.match_string = suggest_match(&event.message);
        }
    } else if let Some(text) = &origin {
        input.match_string = suggest_match(text);
    }
    let mut page = RuleFormPage::new(Frame::new(&web, &by, "rules"), None, input);
    page.origin = origin.map(|origin| visible(&shortened(&origin, 400)));
    shown(&page)
}

/// `POST /rules`.
pub(super) async fn create(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let input = input(&posted.fields);
    let reason = posted.fields.get("reason");
    let outcome = match input.check() {
        Ok(draft) => web.admin.create_rule(draft, &posted.by.actor, reason).await.map(|_| ()),
        Err(error) => Err(error),
    };
    answer(&web, &posted, None, input, outcome).await
}

/// `GET /rules/{id}`.
pub(super) async fn edit_form(State(web): State<Web>, by: SignedIn, Segment(id): Segment) -> Answer<Response> {
    let rule = web.admin.rule(rule_id(&id)?).await?;
    let mut page =
        RuleFormPage::new(Frame::new(&web, &by, "rules"), Some(rule.id.0), RuleInput::from_draft(&rule.draft));
    page.version = rule_tag(&rule);
    shown(&page)
}

/// `POST /rules/{id}`.
pub(super) async fn save(State(web): State<Web>, Segment(id): Segment, posted: Posted) -> Answer<Response> {
    let id = rule_id(&id)?;
    let input = input(&posted.fields);
    let reason = posted.fields.get("reason");
    let outcome = match input.check() {
        Ok(draft) => {
            let (rule, expected) = (Rule { id, draft }, expected(&posted.fields));
            web.admin.update_rule(rule, expected, &posted.by.actor, reason).await.map(|_| ())
        }
        Err(error) => Err(error),
    };
    answer(&web, &posted, Some(id.0), input, outcome).await
}

/// On to the list, or the form again with what was typed and what others did meanwhile.
async fn answer(
    web: &Web,
    posted: &Posted,
    id: Option<i64>,
    input: RuleInput,
    outcome: Result<(), AdminError>,
) -> Answer<Response> {
    let Err(error) = outcome else {
        return Ok(done("/rules", if id.is_some() { "rule-saved" } else { "rule-created" }));
    };
    let mut page = RuleFormPage::new(Frame::new(web, &posted.by, "rules"), id, input);
    page.reason = posted.fields.text("reason");
    page.version = match &error {
        AdminError::Stale { tag, .. } => tag.clone(),
        _ => posted.fields.text("version"),
    };
    let record = id.map(|id| id.to_string()).unwrap_or_default();
    page.meanwhile = meanwhile(web, &error, "alert_rules", &record).await;
    page.trouble = error.into();
    let status = page.trouble.status;
    shown_again(&page, status)
}

fn input(fields: &Fields) -> RuleInput {
    RuleInput {
        match_string: fields.exact("match_string"),
        trap_oid: fields.text("trap_oid"),
        syslog_severity: fields.text("syslog_severity"),
        match_type: fields.text("match_type"),
        priority: fields.text("priority"),
        prod_handling: fields.text("prod_handling"),
        dev_handling: fields.text("dev_handling"),
        team_assignment: fields.text("team_assignment"),
        is_active: fields.get("is_active").is_some(),
    }
}

/// `GET /rules/{id}/delete`.
pub(super) async fn confirm_delete(State(web): State<Web>, by: SignedIn, Segment(id): Segment) -> Answer<Response> {
    let rule = web.admin.rule(rule_id(&id)?).await?;
    shown(&confirm_page(Frame::new(&web, &by, "rules"), &rule))
}

/// `POST /rules/{id}/delete`.
pub(super) async fn delete(State(web): State<Web>, Segment(id): Segment, posted: Posted) -> Answer<Response> {
    let id = rule_id(&id)?;
    let (expected, reason) = (expected(&posted.fields), posted.fields.get("reason"));
    let Err(error) = web.admin.delete_rule(id, expected, &posted.by.actor, reason).await else {
        return Ok(done("/rules", "rule-deleted"));
    };
    let rule = web.admin.rule(id).await?;
    confirm_page(Frame::new(&web, &posted.by, "rules"), &rule).again(error, &posted.fields)
}

/// Asks about the rule as it is now; the answer counts for that one.
fn confirm_page(frame: Frame, rule: &Rule) -> ConfirmPage {
    let row = RuleRow::new(rule);
    ConfirmPage {
        frame,
        title: format!("Delete rule {}", rule.id),
        consequence: "Events that only this rule matches will count as unhandled. The rule stays in the change log; \
                      to stop it for a while, edit it and make it inactive instead.",
        facts: vec![
            ("Condition", row.condition()),
            ("Priority", row.priority.to_string()),
            ("Handling", row.prod),
            ("Development", row.dev),
            ("Team", row.team),
            ("State", if row.active { "active" } else { "inactive" }.to_owned()),
        ],
        action: format!("/rules/{}/delete", rule.id),
        hidden: vec![("version", rule_tag(rule))],
        button: "Delete rule",
        back: "/rules".into(),
        trouble: Trouble::default(),
        reason: String::new(),
    }
}

#[derive(Template)]
#[template(path = "rule_history.html")]
struct HistoryPage {
    frame: Frame,
    id: i64,
    exists: bool,
    changes: Vec<ChangeView>,
}

/// `GET /rules/{id}/history`: also of a rule that was deleted.
pub(super) async fn history(State(web): State<Web>, by: SignedIn, Segment(id): Segment) -> Answer<Response> {
    let id = rule_id(&id)?;
    let query = ChangeQuery {
        table_name: Some("alert_rules".into()),
        record_id: Some(id.to_string()),
        limit: MAX_CHANGE_ROWS,
        ..ChangeQuery::default()
    };
    let found = web.admin.changes(&query).await?;
    let exists = web.admin.rule(id).await.is_ok();
    if !exists && found.rows.is_empty() {
        return Err(AdminError::NotFound { what: "rule", key: id.to_string() }.into());
    }
    shown(&HistoryPage {
        frame: Frame::new(&web, &by, "rules"),
        id: id.0,
        exists,
        changes: found.rows.iter().map(ChangeView::new).collect(),
    })
}

fn rule_id(text: &str) -> Result<RuleId, AdminError> {
    let not_found = || AdminError::NotFound { what: "rule", key: text.chars().take(40).collect() };
    text.parse().map(RuleId).map_err(|_| not_found())
}
