//! Rules as people write them: JSON members or form fields, checked into a [`RuleDraft`] with the member at fault named.
//! Does no I/O.

use serde_json::{Map, Value, json};

use super::AdminError;
use crate::model::{Handling, MatchType, Oid, Rule, RuleDraft, Severity, Team};
use crate::rules::check_draft;

/// The members of a rule, in the order they are shown.
const MEMBERS: [&str; 9] = [
    "match_string",
    "trap_oid",
    "syslog_severity",
    "match_type",
    "priority",
    "prod_handling",
    "dev_handling",
    "team_assignment",
    "is_active",
];

/// Priority of a rule that names none: in the middle, so that others can be put before and after it.
const DEFAULT_PRIORITY: &str = "100";

/// A rule as text, member by member; blank means left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleInput {
    /// Text or regular expression.
    pub match_string: String,
    /// Prefix of the trap's OID.
    pub trap_oid: String,
    /// Number or name of a severity.
    pub syslog_severity: String,
    /// `contains` (also when blank), `regex` or `oid_prefix`.
    pub match_type: String,
    /// A whole number; 100 when blank.
    pub priority: String,
    /// Handling of production hosts.
    pub prod_handling: String,
    /// Handling of development hosts; `Ignore` when blank.
    pub dev_handling: String,
    /// The team.
    pub team_assignment: String,
    /// Whether it is in force.
    pub is_active: bool,
}

impl RuleInput {
    /// Checks everything, the regular expression included.
    pub fn check(&self) -> Result<RuleDraft, AdminError> {
        let some = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        let match_type = some(&self.match_type).map_or(Ok(MatchType::Contains), |text| text.parse())?;
        let trap_oid = some(&self.trap_oid).map(|text| text.parse::<Oid>()).transpose();
        let trap_oid = trap_oid.map_err(|error| AdminError::invalid("trap_oid", error.to_string()))?;
        let severity = some(&self.syslog_severity).map(|text| text.parse::<Severity>()).transpose();
        let syslog_severity = severity.map_err(|error| AdminError::invalid("syslog_severity", error.to_string()))?;
        let handling =
            |field: &'static str, text: &str| Handling::new(text).map_err(|error| AdminError::name(field, &error));
        let dev_handling = some(&self.dev_handling).unwrap_or_else(|| "Ignore".to_owned());
        let draft = RuleDraft {
            // Blanks around the text are the operator's: `" down "` differs from `down`. Only a blank field is none.
            match_string: some(&self.match_string).map(|_| self.match_string.clone()),
            trap_oid,
            syslog_severity,
            match_type,
            priority: parse_priority(&some(&self.priority).unwrap_or_else(|| DEFAULT_PRIORITY.to_owned()))?,
            prod_handling: handling("prod_handling", &self.prod_handling)?,
            dev_handling: handling("dev_handling", &dev_handling)?,
            team_assignment: Team::new(&self.team_assignment)
                .map_err(|error| AdminError::name("team_assignment", &error))?,
            is_active: self.is_active,
        };
        check_draft(&draft)?;
        Ok(draft)
    }

    /// Reads a JSON object; unknown members are refused by name, `reason` and `id` are the caller's to take out before.
    pub fn from_json(members: &Map<String, Value>) -> Result<Self, AdminError> {
        if let Some(unknown) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            let shown: String = unknown.chars().take(60).collect();
            return Err(AdminError::invalid(
                shown.clone(),
                format!("`{shown}` is not a member of a rule; known are {}", MEMBERS.join(", ")),
            ));
        }
        let severity = match members.get("syslog_severity") {
            Some(Value::Number(number)) => number.to_string(),
            _ => text(members, "syslog_severity")?,
        };
        let priority = match members.get("priority") {
            Some(Value::Number(number)) => number.to_string(),
            _ => text(members, "priority")?,
        };
        Ok(Self {
            match_string: empty_is_an_error(members, "match_string")?,
            trap_oid: text(members, "trap_oid")?,
            syslog_severity: severity,
            match_type: text(members, "match_type")?,
            priority,
            prod_handling: text(members, "prod_handling")?,
            dev_handling: text(members, "dev_handling")?,
            team_assignment: text(members, "team_assignment")?,
            is_active: match members.get("is_active") {
                None | Some(Value::Null) => true,
                Some(Value::Bool(active)) => *active,
                Some(_) => return Err(AdminError::invalid("is_active", "it is neither true nor false")),
            },
        })
    }

    /// A stored rule as text, to be edited.
    pub fn from_draft(draft: &RuleDraft) -> Self {
        Self {
            match_string: draft.match_string.clone().unwrap_or_default(),
            trap_oid: draft.trap_oid.as_ref().map(ToString::to_string).unwrap_or_default(),
            syslog_severity: draft.syslog_severity.map(|severity| severity.number().to_string()).unwrap_or_default(),
            match_type: draft.match_type.name().to_owned(),
            priority: draft.priority.to_string(),
            prod_handling: draft.prod_handling.as_str().to_owned(),
            dev_handling: draft.dev_handling.as_str().to_owned(),
            team_assignment: draft.team_assignment.as_str().to_owned(),
            is_active: draft.is_active,
        }
    }
}

/// A rule with these members changed; `id` may be there as the rule's own number.
pub(super) fn changed_draft(rule: &Rule, changes: &Map<String, Value>) -> Result<RuleDraft, AdminError> {
    let mut members = match rule_json(rule) {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    if changes.get("id").is_some_and(|id| !id.is_null() && id.as_i64() != Some(rule.id.0)) {
        return Err(AdminError::invalid("id", "it is not the rule's number"));
    }
    members.extend(changes.clone());
    members.shift_remove("id");
    RuleInput::from_json(&members)?.check()
}

fn text(members: &Map<String, Value>, name: &'static str) -> Result<String, AdminError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(AdminError::invalid(name, "it is not a text")),
    }
}

/// A client that sends an empty text most likely lost its value; leaving the member out says "none".
fn empty_is_an_error(members: &Map<String, Value>, name: &'static str) -> Result<String, AdminError> {
    let value = text(members, name)?;
    let given = members.get(name).is_some_and(Value::is_string);
    if given && value.trim().is_empty() {
        return Err(AdminError::invalid(name, "it is empty; leave it out or give a text to find"));
    }
    Ok(value)
}

fn parse_priority(text: &str) -> Result<i32, AdminError> {
    text.parse().map_err(|_| {
        AdminError::invalid(
            "priority",
            format!("it is not a whole number from {} to {}; lower numbers win", i32::MIN, i32::MAX),
        )
    })
}

/// A rule as the API shows it: upstream's names, absent values null.
pub fn rule_json(rule: &Rule) -> Value {
    let draft = &rule.draft;
    json!({
        "id": rule.id.0,
        "match_string": draft.match_string,
        "trap_oid": draft.trap_oid.as_ref().map(ToString::to_string),
        "syslog_severity": draft.syslog_severity.map(Severity::number),
        "match_type": draft.match_type.name(),
        "priority": draft.priority,
        "prod_handling": draft.prod_handling.as_str(),
        "dev_handling": draft.dev_handling.as_str(),
        "team_assignment": draft.team_assignment.as_str(),
        "is_active": draft.is_active,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: Value, field: Option<&str>) {
        let members = body.as_object().expect("an object").clone();
        let outcome = RuleInput::from_json(&members).and_then(|input| input.check());
        match (&outcome, field) {
            (Ok(_), None) => {}
            (Err(AdminError::Invalid { field: Some(found), .. }), Some(wanted)) if found == wanted => {}
            _ => panic!("{body}: {outcome:?}, expected a fault in {field:?}"),
        }
    }

    fn with(change: Value) -> Value {
        let mut body = json!({"match_string": "down", "prod_handling": "Page_only", "team_assignment": "NETO"});
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body
    }

    #[test]
    fn each_fault_names_its_member() {
        check(with(json!({})), None);
        check(with(json!({"syslog_severity": 3, "priority": 5, "is_active": false})), None);
        check(with(json!({"syslog_severity": "warning"})), None);
        check(with(json!({"syslog_severity": 8})), Some("syslog_severity"));
        check(with(json!({"syslog_severity": 1.5})), Some("syslog_severity"));
        check(with(json!({"priority": "soon"})), Some("priority"));
        check(with(json!({"priority": 1e12})), Some("priority"));
        check(with(json!({"is_active": "yes"})), Some("is_active"));
        check(with(json!({"match_string": ""})), Some("match_string"));
        check(with(json!({"match_string": null})), Some("match_string"));
        check(with(json!({"match_string": 7})), Some("match_string"));
        check(with(json!({"match_type": "glob"})), Some("match_type"));
        check(with(json!({"trap_oid": "1.3.x"})), Some("trap_oid"));
        check(with(json!({"prod_handling": ""})), Some("prod_handling"));
        check(with(json!({"team_assignment": " "})), Some("team_assignment"));
        check(with(json!({"colour": "red"})), Some("colour"));
    }

    #[test]
    fn a_stored_rule_survives_its_text_form() {
        let members = with(json!({"trap_oid": "1.3.6.1.4.1.9", "syslog_severity": 2}));
        let draft = RuleInput::from_json(members.as_object().expect("object")).and_then(|input| input.check());
        let draft = draft.expect("valid");
        assert_eq!(RuleInput::from_draft(&draft).check().expect("valid again"), draft);
    }
}
