//! Settings: a form for each part of the program, where each value comes from, history and going back. What the file
//! decides is listed below and not changed here.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::Answer;
use super::super::input::{Fields, Posted};
use super::super::text::{bytes, count, shortened, url_encode, visible};
use super::views::{ChangeView, counted};
use super::{Frame, Trouble, done, shown, shown_again};
use crate::admin::{Ignored, Origin, Setting};
use crate::config::keys::Kind;

/// Changes on one page of the history.
const PAGE_SIZE: usize = 50;
/// Characters of a value in a table.
const SHOWN: usize = 120;

/// The parts of the program, in the order an event passes them, by who reads a key first.
const GROUPS: [(&str, &str); 8] = [
    ("ingest", "Inputs and their limits"),
    ("alerter", "Deciding and counting"),
    ("forward", "Delivery to Moogsoft, and breakers of all targets"),
    ("remedy", "Dead letters"),
    ("store", "Recent events"),
    ("upkeep", "Service levels and retention"),
    ("web", "Limits of the API"),
    ("telemetry", "Log and traces"),
];

/// A setting as the page shows it.
struct SettingView {
    id: String,
    /// What is in the field: as it is, or as it was typed.
    value: String,
    /// The value in force.
    was: String,
    origin: &'static str,
    /// Which variable, or what a reset leads to.
    origin_note: String,
    default: String,
    range: String,
    unit: &'static str,
    help: &'static str,
    /// The bounds of a number.
    bounds: Option<(i64, i64)>,
    /// The words it may be.
    choices: Vec<&'static str>,
    resettable: bool,
    live: bool,
}

impl SettingView {
    fn new(setting: &Setting) -> Self {
        let key = setting.key;
        let masked = if setting.is_set { "set, not shown" } else { "not set here" };
        let value = if key.masked { masked.to_owned() } else { visible(&setting.text) };
        let origin_note = match (setting.origin, &setting.beneath) {
            (Origin::Environment(variable), _) => variable.to_owned(),
            (_, Some((value, origin))) => format!("without it: {} ({})", visible(value), origin.name()),
            _ => String::new(),
        };
        Self {
            id: key.id().into_owned(),
            was: value.clone(),
            value,
            origin: setting.origin.name(),
            origin_note,
            default: key.default.parse().map_or_else(|_| key.default.to_owned(), |number| amount(number, key.unit)),
            range: match key.kind {
                Kind::Integer { min, max } => format!("{} to {}", amount(min, key.unit), amount(max, key.unit)),
                other => other.range().into_owned(),
            },
            unit: key.unit,
            help: key.help,
            bounds: match key.kind {
                Kind::Integer { min, max } => Some((min, max)),
                _ => None,
            },
            choices: match key.kind {
                Kind::Choice(words) => words.to_vec(),
                Kind::Truth => vec!["true", "false"],
                _ => Vec::new(),
            },
            resettable: setting.origin == Origin::Store,
            live: key.live,
        }
    }

    fn is(&self, word: &str) -> bool {
        self.value == word
    }

    fn short(&self) -> String {
        shortened(&self.value, SHOWN)
    }
}

/// A number as it is read best: in a unit of bytes if nothing is rounded by that. What is typed stays plain.
fn amount(number: i64, unit: &str) -> String {
    let Ok(number) = u64::try_from(number) else { return number.to_string() };
    let mut rest = number;
    while rest > 0 && rest.is_multiple_of(1_024) {
        rest /= 1_024;
    }
    if unit == "bytes" && number > 0 && rest < 1_024 { bytes(number) } else { count(number) }
}

/// One form.
struct Group {
    name: &'static str,
    title: &'static str,
    settings: Vec<SettingView>,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    groups: Vec<Group>,
    fixed: Vec<SettingView>,
    ignored: Vec<Ignored>,
    /// The form that failed, and the reason that was typed there.
    failed: String,
    reason: String,
    trouble: Trouble,
}

/// `GET /admin/config`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&page(&web, Frame::new(&web, &by, "settings").after(&fields)))
}

fn page(web: &Web, frame: Frame) -> SettingsPage {
    let all = web.admin.settings();
    let (dynamic, fixed): (Vec<&Setting>, Vec<&Setting>) =
        all.settings.iter().partition(|setting| setting.key.is_dynamic());
    let group = |(name, title): (&'static str, &'static str)| {
        let of_group = dynamic.iter().filter(|setting| group_of(setting) == name);
        Group { name, title, settings: of_group.map(|setting| SettingView::new(setting)).collect() }
    };
    SettingsPage {
        frame,
        groups: GROUPS.into_iter().map(group).collect(),
        fixed: fixed.into_iter().map(SettingView::new).collect(),
        ignored: all.ignored.into_iter().map(readable).collect(),
        failed: String::new(),
        reason: String::new(),
        trouble: Trouble::default(),
    }
}

/// The group of a setting; what no group claims stands with the inputs, so that nothing is left out.
fn group_of(setting: &Setting) -> &'static str {
    let reader = setting.key.reader.split(',').next().unwrap_or_default().trim();
    GROUPS.iter().map(|(name, _)| *name).find(|name| *name == reader).unwrap_or(GROUPS[0].0)
}

fn readable(ignored: Ignored) -> Ignored {
    let short = |text: &str| visible(&shortened(text, SHOWN));
    Ignored { key: short(&ignored.key), value: short(&ignored.value), why: visible(&ignored.why) }
}

/// `POST /admin/config`: what differs from the values that the form was shown with.
pub(super) async fn save(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let fields = &posted.fields;
    let settings = web.admin.settings().settings;
    let group = fields.text("group");
    let typed: Vec<(String, String, String)> = settings
        .iter()
        .filter(|setting| setting.key.is_dynamic() && group_of(setting) == group)
        .map(|setting| setting.key.id().into_owned())
        .map(|id| (fields.text(&id), fields.text(&format!("was.{id}")), id))
        .map(|(value, was, id)| (id, value, was))
        .collect();
    let changes: Vec<(&str, Option<&str>, Option<&str>)> = typed
        .iter()
        .filter(|(_, value, was)| value != was)
        .map(|(id, value, was)| (id.as_str(), Some(value.as_str()), Some(was.as_str())))
        .collect();
    if changes.is_empty() {
        return Ok(done("/admin/config", "settings-same"));
    }
    let Err(error) = web.admin.set_settings(&changes, &posted.by.actor, fields.get("reason")).await else {
        return Ok(done("/admin/config", "settings-saved"));
    };
    let mut page = page(&web, Frame::new(&web, &posted.by, "settings"));
    for setting in page.groups.iter_mut().flat_map(|group| &mut group.settings) {
        if let Some((_, value, _)) = typed.iter().find(|(id, ..)| *id == setting.id) {
            setting.value.clone_from(value);
        }
    }
    (page.failed, page.reason, page.trouble) = (group, fields.text("reason"), error.into());
    let status = page.trouble.status;
    shown_again(&page, status)
}

/// `POST /admin/config/reset`: back to environment, file or default.
pub(super) async fn reset(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (key, reason) = (posted.fields.text("reset"), posted.fields.get("reason"));
    let by = &posted.by.actor;
    let outcome = match web.admin.setting(&key) {
        Ok(_) => web.admin.reset_setting(&key, None, by, reason).await.map(drop),
        Err(_) => web.admin.forget_setting(&key, by, reason).await,
    };
    let Err(error) = outcome else { return Ok(done("/admin/config", "setting-reset")) };
    let mut page = page(&web, Frame::new(&web, &posted.by, "settings"));
    (page.reason, page.trouble) = (posted.fields.text("reason"), error.into());
    let status = page.trouble.status;
    shown_again(&page, status)
}

/// A change, and the value that going back would give.
struct PastView {
    id: i64,
    key: String,
    change: ChangeView,
    before: String,
}

#[derive(Template)]
#[template(path = "settings_history.html")]
struct HistoryPage {
    frame: Frame,
    key: String,
    total: String,
    changes: Vec<PastView>,
    next: Option<String>,
    trouble: Trouble,
}

/// `GET /admin/config/history?key=`.
pub(super) async fn history(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let before = fields.parsed("before", "a line's number", |text| text.parse().ok())?;
    shown(&history_page(&web, Frame::new(&web, &by, "settings").after(&fields), &fields.text("key"), before).await?)
}

async fn history_page(web: &Web, frame: Frame, key: &str, before: Option<i64>) -> Answer<HistoryPage> {
    let wanted = Some(key).filter(|key| !key.is_empty());
    let found = web.admin.settings_history(wanted, before, PAGE_SIZE).await?;
    let past = |row: &crate::admin::ChangeRow| PastView {
        id: row.id,
        key: row.record_id.clone(),
        change: ChangeView::new(row),
        before: match &row.old_values {
            Some(values) => visible(&shortened(values["value"].as_str().unwrap_or_default(), SHOWN)),
            None => "environment, file or default".to_owned(),
        },
    };
    Ok(HistoryPage {
        frame,
        key: visible(key),
        total: counted(found.total, "change", "changes"),
        changes: found.rows.iter().map(past).collect(),
        next: found.next.map(|id| format!("/admin/config/history?key={}&before={id}", url_encode(key))),
        trouble: Trouble::default(),
    })
}

/// `POST /admin/config/revert`.
pub(super) async fn revert(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (key, reason) = (posted.fields.text("key"), posted.fields.get("reason"));
    let change = posted.fields.parsed("change", "the number of a change", |text| text.parse().ok())?.unwrap_or(0);
    let Err(error) = web.admin.revert_setting(&key, change, None, &posted.by.actor, reason).await else {
        return Ok(done("/admin/config", "setting-reverted"));
    };
    let mut page = history_page(&web, Frame::new(&web, &posted.by, "settings"), "", None).await?;
    page.trouble = error.into();
    let status = page.trouble.status;
    shown_again(&page, status)
}
