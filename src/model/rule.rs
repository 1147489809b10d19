//! Alert rules, under upstream's column names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{InvalidName, Oid, RuleId, Severity, Team};

/// Longest match string in bytes: longer ones make automata that serve nobody.
pub const MAX_MATCH_STRING: usize = 1_024;

/// How a rule's text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchType {
    /// The text occurs anywhere in the message, ignoring case.
    Contains,
    /// The regular expression matches anywhere in the message, ignoring case.
    Regex,
    /// The trap's OID is the rule's or lies below it.
    OidPrefix,
}

impl MatchType {
    /// The name used in the API and the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::Regex => "regex",
            Self::OidPrefix => "oid_prefix",
        }
    }
}

impl FromStr for MatchType {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "contains" => Ok(Self::Contains),
            "regex" => Ok(Self::Regex),
            "oid_prefix" => Ok(Self::OidPrefix),
            _ => Err(InvalidRule::new("match_type", format!("`{text}` is not one of contains, regex, oid_prefix"))),
        }
    }
}

/// What has to be true of an event, apart from its severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The message contains this text, ignoring case.
    Contains(String),
    /// The message matches this regular expression, ignoring case.
    Regex(String),
    /// The trap OID is this one or lies below it.
    OidPrefix(Oid),
}

/// What is to be done with a matched event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handling {
    /// Forwarded: wake someone and open a ticket.
    PageAndTicket,
    /// Forwarded: wake someone.
    PageOnly,
    /// Forwarded: open a ticket.
    TicketOnly,
    /// Recorded, not forwarded (`Ignore` or any other word).
    Other(String),
}

impl Handling {
    /// Reads upstream's words in any case; any other word is kept as it is.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let text = text.trim();
        let invalid = |why| InvalidName { kind: "handling", text: text.chars().take(60).collect(), why };
        if text.is_empty() {
            return Err(invalid("it is empty; use Page_and_ticket, Page_only, Ticket_only or Ignore"));
        }
        if text.chars().count() > 50 || text.chars().any(char::is_control) {
            return Err(invalid("use at most 50 characters and no control characters"));
        }
        Ok(match text.to_ascii_lowercase().as_str() {
            "page_and_ticket" => Self::PageAndTicket,
            "page_only" => Self::PageOnly,
            "ticket_only" => Self::TicketOnly,
            _ => Self::Other(text.to_owned()),
        })
    }

    /// Upstream's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::PageAndTicket => "Page_and_ticket",
            Self::PageOnly => "Page_only",
            Self::TicketOnly => "Ticket_only",
            Self::Other(text) => text,
        }
    }

    /// Whether events handled so leave the house.
    pub const fn is_forwarded(&self) -> bool {
        !matches!(self, Self::Other(_))
    }
}

impl fmt::Display for Handling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which of a rule's two handlings applies to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Environment {
    /// Any host that is not listed as a development host.
    Prod,
    /// A host listed in `development_hosts`.
    Dev,
}

impl Environment {
    /// `prod` or `dev`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prod => "prod",
            Self::Dev => "dev",
        }
    }
}

/// A rule that cannot be saved, and which of its members is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule not valid, {field}: {why}")]
pub struct InvalidRule {
    /// The member's name as in the API.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub why: String,
}

impl InvalidRule {
    /// A fault in `field`.
    pub fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// A checked rule without a number: what a person writes, what the store is given.
///
/// Every condition that is present must hold. With `match_type` `contains` or `regex`, `match_string` is compared that
/// way and `trap_oid`, if given too, must be a prefix of the trap's OID. With `oid_prefix`, `trap_oid` is compared and
/// `match_string`, if given too, must be contained in the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleDraft {
    /// Text or regular expression to find in the message.
    pub match_string: Option<String>,
    /// Prefix of the trap's OID.
    pub trap_oid: Option<Oid>,
    /// The event's severity must equal this one.
    pub syslog_severity: Option<Severity>,
    /// How `match_string` is compared.
    pub match_type: MatchType,
    /// Lower wins; among equals the lower id wins.
    pub priority: i32,
    /// Handling of hosts that are not development hosts.
    pub prod_handling: Handling,
    /// Handling of development hosts.
    pub dev_handling: Handling,
    /// The team alerts go to.
    pub team_assignment: Team,
    /// Inactive rules match nothing.
    pub is_active: bool,
}

/// A rule as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its number.
    pub id: RuleId,
    /// Everything else.
    pub draft: RuleDraft,
}

impl RuleDraft {
    /// Checks what can be checked without compiling: lengths and which conditions are present.
    /// Regular expressions are compiled by `rules::check_draft` before saving.
    pub fn validate(&self) -> Result<(), InvalidRule> {
        let text = self.match_string.as_deref();
        if text.is_some_and(str::is_empty) {
            return Err(InvalidRule::new("match_string", "it is empty; leave it out or give a text to find"));
        }
        if text.is_some_and(|text| text.len() > MAX_MATCH_STRING) {
            return Err(InvalidRule::new("match_string", format!("it is longer than {MAX_MATCH_STRING} bytes")));
        }
        match (self.match_type, text, &self.trap_oid) {
            (_, None, None) => Err(InvalidRule::new(
                "match_string",
                "give match_string or trap_oid; a rule without both would match everything",
            )),
            (MatchType::OidPrefix, Some(_), None) => {
                Err(InvalidRule::new("trap_oid", "match_type oid_prefix needs trap_oid, such as 1.3.6.1.4.1.9"))
            }
            (MatchType::Regex, None, Some(_)) => {
                Err(InvalidRule::new("match_string", "match_type regex needs a regular expression in match_string"))
            }
            _ => Ok(()),
        }
    }

    /// The conditions that must all hold.
    pub fn conditions(&self) -> Vec<Condition> {
        let text = self.match_string.clone().map(|text| match self.match_type {
            MatchType::Regex => Condition::Regex(text),
            MatchType::Contains | MatchType::OidPrefix => Condition::Contains(text),
        });
        let oid = self.trap_oid.clone().map(Condition::OidPrefix);
        text.into_iter().chain(oid).collect()
    }

    /// The handling for an environment.
    pub const fn handling(&self, environment: Environment) -> &Handling {
        match environment {
            Environment::Prod => &self.prod_handling,
            Environment::Dev => &self.dev_handling,
        }
    }
}
