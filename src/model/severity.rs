//! Syslog severities and facilities (RFC 5424 section 6.2.1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How bad the sender says it is: 0 emergency to 7 debug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Severity(u8);

const SEVERITIES: [&str; 8] =
    ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"];

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// A severity that is neither 0-7 nor a known name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "severity `{0}` is not a number from 0 to 7 or one of emergency, alert, critical, error, warning, notice, informational, debug"
)]
pub struct InvalidSeverity(pub String);

impl Severity {
    /// The severity a syslog line without a PRI is given (RFC 3164 section 4.3.3: PRI 13, user.notice).
    pub const NOTICE: Self = Self(5);

    /// From its number; `None` above 7.
    pub const fn new(number: u8) -> Option<Self> {
        if number <= 7 { Some(Self(number)) } else { None }
    }

    /// The severity half of a syslog PRI.
    pub const fn from_pri(pri: u8) -> Self {
        Self(pri & 7)
    }

    /// 0 to 7.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The full name in lower case.
    pub fn name(self) -> &'static str {
        SEVERITIES[usize::from(self.0)]
    }

    /// All eight, worst first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..8).map(Self)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Severity {
    type Err = InvalidSeverity;

    /// Accepts 0-7 and the names and short names in use (`emerg`, `panic`, `crit`, `err`, `warn`, `info`, ...), in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = match text.trim().to_ascii_lowercase().as_str() {
            "0" | "emergency" | "emerg" | "panic" => 0,
            "1" | "alert" => 1,
            "2" | "critical" | "crit" => 2,
            "3" | "error" | "err" => 3,
            "4" | "warning" | "warn" => 4,
            "5" | "notice" => 5,
            "6" | "informational" | "info" | "information" => 6,
            "7" | "debug" => 7,
            _ => return Err(InvalidSeverity(text.chars().take(40).collect())),
        };
        Ok(Self(number))
    }
}

/// The short name of a facility number, if it is one (0-23).
pub fn facility_name(facility: u8) -> Option<&'static str> {
    FACILITIES.get(usize::from(facility)).copied()
}

/// A facility by number (0-23) or name, in any case.
pub fn parse_facility(text: &str) -> Option<u8> {
    if let Ok(number) = text.trim().parse::<u8>() {
        return (number < 24).then_some(number);
    }
    let position = FACILITIES.iter().position(|name| name.eq_ignore_ascii_case(text.trim()))?;
    u8::try_from(position).ok()
}
