//! Domain values as templates want them: text ready to be shown, nothing invisible. Pure functions.

use serde_json::Value;

use super::super::text::{count, moment, short_moment, shortened, url_encode, visible, visible_lines};
use crate::admin::ChangeRow;
use crate::model::{EventId, Judged, Protocol, Rule, RuleId, Severity};

/// Characters of a message in a table.
const MESSAGE_IN_TABLE: usize = 300;

/// A severity as number and word; the word carries the meaning, the colour only helps.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeverityTag {
    pub number: u8,
    pub name: &'static str,
}

impl From<Severity> for SeverityTag {
    fn from(severity: Severity) -> Self {
        Self { number: severity.number(), name: severity.name() }
    }
}

/// What the rules made of an event.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdict {
    /// Some rule matched, or the program made the event itself.
    pub matched: bool,
    /// The rule; `None` for the alert that too many unhandled events make.
    pub rule: Option<i64>,
    pub handling: String,
    pub forwarded: bool,
}

/// An event in a table.
#[derive(Debug, Clone)]
pub(super) struct EventRow {
    pub id: String,
    pub time: String,
    pub iso: String,
    pub host: String,
    pub host_query: String,
    pub severity: Option<SeverityTag>,
    pub source: &'static str,
    pub message: String,
    pub verdict: Verdict,
}

impl EventRow {
    pub fn new(judged: &Judged) -> Self {
        let event = &judged.event;
        Self {
            id: event.id.to_string(),
            time: short_moment(event.received_at),
            iso: event.received_at.to_string(),
            host: visible(&event.hostname),
            host_query: url_encode(&event.hostname),
            severity: event.severity.map(SeverityTag::from),
            source: event.source.protocol.name(),
            message: visible(&shortened(&event.message, MESSAGE_IN_TABLE)),
            verdict: verdict(judged),
        }
    }
}

pub(super) fn verdict(judged: &Judged) -> Verdict {
    let Some(matched) = &judged.decision.matched else { return Verdict::default() };
    Verdict {
        matched: true,
        rule: (matched.rule != RuleId(0)).then_some(matched.rule.0),
        handling: visible(matched.handling.as_str()),
        forwarded: matched.handling.is_forwarded(),
    }
}

/// The address under which a rule is made from an event.
pub(super) fn rule_from(event: EventId) -> String {
    format!("/rules/new?event={event}")
}

/// A rule in a table.
#[derive(Debug, Clone)]
pub(super) struct RuleRow {
    pub id: i64,
    pub priority: i32,
    pub match_type: &'static str,
    pub match_string: Option<String>,
    pub trap_oid: Option<String>,
    pub severity: Option<SeverityTag>,
    pub prod: String,
    pub dev: String,
    pub team: String,
    pub active: bool,
}

impl RuleRow {
    pub fn new(rule: &Rule) -> Self {
        let draft = &rule.draft;
        Self {
            id: rule.id.0,
            priority: draft.priority,
            match_type: draft.match_type.name(),
            match_string: draft.match_string.as_deref().map(visible),
            trap_oid: draft.trap_oid.as_ref().map(ToString::to_string),
            severity: draft.syslog_severity.map(SeverityTag::from),
            prod: visible(draft.prod_handling.as_str()),
            dev: visible(draft.dev_handling.as_str()),
            team: visible(draft.team_assignment.as_str()),
            active: draft.is_active,
        }
    }

    /// What it looks for, in one line.
    pub fn condition(&self) -> String {
        let text = self.match_string.as_ref().map(|text| match self.match_type {
            "regex" => format!("matches /{text}/"),
            _ => format!("contains \u{201c}{text}\u{201d}"),
        });
        let oid = self.trap_oid.as_ref().map(|oid| format!("trap below {oid}"));
        text.into_iter().chain(oid).collect::<Vec<_>>().join(" and ")
    }
}

/// One value of a row before and after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueChange {
    pub name: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// A line of the change log.
#[derive(Debug, Clone)]
pub(super) struct ChangeView {
    pub time: String,
    pub iso: String,
    pub by: String,
    pub operation: &'static str,
    pub table: String,
    pub record: String,
    pub reason: Option<String>,
    pub correlation: String,
    pub correlation_query: String,
    /// What differs.
    pub values: Vec<ValueChange>,
    /// What does not, as it was and is.
    pub unchanged: Vec<(String, String)>,
    pub history: String,
    pub id: i64,
    pub via: Option<String>,
    pub from: Option<String>,
}

impl ChangeView {
    pub fn new(row: &ChangeRow) -> Self {
        let table = visible(&row.table_name);
        Self {
            time: moment(row.changed_at),
            iso: row.changed_at.to_string(),
            by: visible(&row.changed_by),
            operation: row.operation.name(),
            record: visible(&row.record_id),
            reason: row.reason.as_deref().map(visible),
            correlation: visible(&row.correlation_id),
            correlation_query: url_encode(&row.correlation_id),
            values: value_changes(row.old_values.as_ref(), row.new_values.as_ref()),
            unchanged: unchanged(row.old_values.as_ref(), row.new_values.as_ref()),
            history: match row.table_name.as_str() {
                "alert_rules" => format!("/rules/{}/history", url_encode(&row.record_id)),
                "dynamic_config" => format!("/admin/config/history?key={}", url_encode(&row.record_id)),
                table => history_of(table, &row.record_id),
            },
            id: row.id,
            via: row.changed_via.as_deref().map(visible),
            from: row.changed_from.as_deref().map(visible),
            table,
        }
    }
}

/// Where everything that was done to one object is shown.
pub(super) fn history_of(table: &str, record: &str) -> String {
    format!("/changes?table_name={}&record_id={}", url_encode(table), url_encode(record))
}

/// Members that both rows have with the same value.
fn unchanged(old: Option<&Value>, new: Option<&Value>) -> Vec<(String, String)> {
    let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) else { return Vec::new() };
    let same = old.iter().filter(|(name, value)| new.get(*name) == Some(value));
    same.map(|(name, value)| (visible(name), value_text(Some(value)).unwrap_or_else(|| "-".to_owned()))).collect()
}

/// What differs between two rows; everything when there is only one of them.
fn value_changes(old: Option<&Value>, new: Option<&Value>) -> Vec<ValueChange> {
    let empty = serde_json::Map::new();
    let members = |row: Option<&Value>| row.and_then(Value::as_object).cloned().unwrap_or_else(|| empty.clone());
    let (old, new) = (members(old), members(new));
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    names
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| ValueChange { name: visible(name), old: value_text(old.get(name)), new: value_text(new.get(name)) })
        .filter(|change| change.old.is_some() || change.new.is_some())
        .collect()
}

fn value_text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(visible_lines(text)),
        other => Some(visible(&other.to_string())),
    }
}

/// The choices of a severity field: value, text.
pub(super) fn severity_choices() -> Vec<(String, String)> {
    Severity::all().map(|s| (s.number().to_string(), format!("{} {}", s.number(), s.name()))).collect()
}

/// The choices of a source field.
pub(super) fn source_choices() -> Vec<(String, String)> {
    Protocol::ALL.iter().map(|protocol| (protocol.name().to_owned(), protocol.name().to_owned())).collect()
}

/// `1 event`, `2,000 events`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {many}", count(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(old: Option<Value>, new: Option<Value>, expected: &[(&str, Option<&str>, Option<&str>)]) {
        let found = value_changes(old.as_ref(), new.as_ref());
        let found: Vec<_> = found.iter().map(|c| (c.name.as_str(), c.old.as_deref(), c.new.as_deref())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_change_shows_only_what_differs() {
        let old = json!({"id": 1, "match_string": "a", "trap_oid": null, "is_active": true});
        let new = json!({"id": 1, "match_string": "b", "trap_oid": null, "is_active": false});
        check(
            Some(old.clone()),
            Some(new),
            &[("match_string", Some("a"), Some("b")), ("is_active", Some("true"), Some("false"))],
        );
        let created = [("id", None, Some("1")), ("match_string", None, Some("a")), ("is_active", None, Some("true"))];
        check(None, Some(old), &created);
        check(None, None, &[]);
    }
}
