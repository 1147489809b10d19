//! Synthetic lines and rules for measuring: a known share of the lines is hit by a known number of rules.
//!
//! The lines that match nothing use the same words as the rules and differ only in the code number at the end, so that
//! the matcher is not spared the near misses that real traffic has. One line in a thousand is hit by the one rule that
//! forwards, because an appliance that forwards a tenth of its traffic would measure its receiver.

use serde_json::{Value, json};

use crate::cli::samples::Random;
use crate::model::{Handling, InvalidName, MatchType, RuleDraft, Team};

const PARTS: [&str; 8] =
    ["Fan module", "Power supply", "Line card", "Fabric link", "Optics", "Backplane sensor", "Crypto engine", "Uplink"];
const STATES: [&str; 5] = ["failed", "degraded", "overheated", "restarted", "missing"];
/// Lines that match nothing carry codes from here on; rules use those below.
const FIRST_FREE_CODE: u32 = 50_000;
/// Rules that can be told apart: their codes stay below [`FIRST_FREE_CODE`].
pub const MAX_RULES: u32 = FIRST_FREE_CODE;
/// Share of all lines, in percent, that the forwarding rule takes.
const FORWARDED_PERCENT: f64 = 0.1;
/// Different lines made for a run. Their running number is replaced at each use, so a batch of some thousand events
/// never holds the same line twice and compresses no better than real traffic does.
const POOL: usize = 16_384;
const HOSTS: u32 = 50;
const IGNORE: &str = "Ignore";
const TEAM: &str = "BENCH";
const FILLER: &str = "reported by chassis manager during the periodic inventory walk, see the hardware log of the unit for \
                      the readings of the last ten minutes and the serial numbers of neighbouring parts; ";

/// What the synthetic lines look like.
#[derive(Debug, Clone)]
pub struct Synthetic {
    /// How many rules there are to hit.
    pub rules: u32,
    /// Share of the lines that a rule hits, in percent.
    pub match_percent: f64,
    /// Length of the syslog line in bytes, framing not counted.
    pub size: usize,
    /// Seed of the generator.
    pub seed: u64,
}

/// One synthetic message before a protocol carries it.
#[derive(Debug, Clone)]
pub struct Line {
    /// PRI.
    pub pri: u8,
    /// Host name.
    pub host: String,
    /// Program.
    pub app: &'static str,
    /// Text, with its mark at the end.
    pub text: String,
    /// The rule that hits it, if one does.
    pub rule: Option<u32>,
}

impl Line {
    /// As RFC 3164 syslog, stamped `stamp`.
    pub fn syslog(&self, stamp: &str) -> String {
        format!("{}{}", header(self.pri, stamp, &self.host, self.app), self.text)
    }
}

fn header(pri: u8, stamp: &str, host: &str, app: &str) -> String {
    format!("<{pri}>{stamp} {host} {app}[2041]: ")
}

/// The pool of different lines, each ending in `mark`.
pub fn lines(spec: &Synthetic, mark: &str, stamp: &str) -> Vec<Line> {
    let mut random = Random::new(spec.seed);
    (0..POOL).map(|_| line(spec, &mut random, mark, stamp)).collect()
}

/// Which lines of the pool a rule hits, by their place in it. Message `n` of a run is line `n` modulo the length.
pub fn hits(spec: &Synthetic) -> Vec<bool> {
    lines(spec, "", "").iter().map(|line| line.rule.is_some()).collect()
}

fn line(spec: &Synthetic, random: &mut Random, mark: &str, stamp: &str) -> Line {
    let (part, state, code, rule) = if spec.rules > 0 && random.chance(spec.match_percent) {
        let forwarded = random.chance(100.0 * FORWARDED_PERCENT / spec.match_percent);
        let rule = if forwarded || spec.rules == 1 { 0 } else { 1 + random.below(spec.rules - 1) };
        (part_of(rule), state_of(rule), rule, Some(rule))
    } else {
        (*random.pick(&PARTS), *random.pick(&STATES), FIRST_FREE_CODE + random.below(FIRST_FREE_CODE), None)
    };
    let pri = 128 + u8::try_from(random.below(8)).unwrap_or(6);
    let host = format!("edge-{:03}.site.example", random.below(HOSTS));
    let app = "chassisd";
    let slot = random.below(16);
    let session = random.next() >> 32;
    let mut text = format!("{part} {state} code {code:05} on slot {slot}, session {session:08x}, ");
    let used = header(pri, stamp, &host, app).len() + text.len() + mark.len() + 1;
    text.extend(FILLER.chars().cycle().take(spec.size.saturating_sub(used)));
    text.push(' ');
    text.push_str(mark);
    Line { pri, host, app, text, rule }
}

fn part_of(rule: u32) -> &'static str {
    PARTS[rule as usize % PARTS.len()]
}

fn state_of(rule: u32) -> &'static str {
    STATES[rule as usize / PARTS.len() % STATES.len()]
}

/// Rule `number` of the set that the lines are made for, as the API takes it. Every tenth is a regular expression.
/// Rule 0 opens a ticket; the others are recorded only.
pub fn rule(number: u32) -> Value {
    let (match_type, match_string) = condition(number);
    json!({
        "match_string": match_string,
        "trap_oid": null,
        "syslog_severity": null,
        "match_type": match_type.name(),
        "priority": priority(number),
        "prod_handling": handling(number),
        "dev_handling": IGNORE,
        "team_assignment": TEAM,
        "is_active": true,
    })
}

/// The same rule as the program itself keeps it.
pub fn draft(number: u32) -> Result<RuleDraft, InvalidName> {
    let (match_type, match_string) = condition(number);
    Ok(RuleDraft {
        match_string: Some(match_string),
        trap_oid: None,
        syslog_severity: None,
        match_type,
        priority: priority(number),
        prod_handling: Handling::new(handling(number))?,
        dev_handling: Handling::new(IGNORE)?,
        team_assignment: Team::new(TEAM)?,
        is_active: true,
    })
}

fn condition(number: u32) -> (MatchType, String) {
    let text = format!("{} {} code {number:05}", part_of(number), state_of(number)).to_lowercase();
    match number % 10 {
        9 => (MatchType::Regex, format!(r"{text} on (slot|unit) \d+")),
        _ => (MatchType::Contains, text),
    }
}

/// Spread over the range, so that the order of the rules is not the order of their codes.
fn priority(number: u32) -> i32 {
    i32::try_from((u64::from(number) * 7_919) % 99_991 + 1).unwrap_or(1)
}

const fn handling(number: u32) -> &'static str {
    if number == 0 { "Ticket_only" } else { IGNORE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "Nov 21 02:10:11";

    fn spec(rules: u32) -> Synthetic {
        Synthetic { rules, match_percent: 10.0, size: 202, seed: 1 }
    }

    /// A rule's match as the appliance makes it: without regard to case.
    fn test(rule: &Value) -> regex::Regex {
        let pattern = rule["match_string"].as_str().expect("a pattern");
        let pattern = if rule["match_type"] == "contains" { regex::escape(pattern) } else { pattern.to_owned() };
        regex::RegexBuilder::new(&pattern).case_insensitive(true).build().expect("compiles")
    }

    #[test]
    fn lines_have_the_length_asked_for_and_end_in_their_mark() {
        for line in lines(&spec(100), "seq=0000000000", STAMP) {
            assert_eq!(line.syslog(STAMP).len(), 202);
            assert!(line.text.ends_with(" seq=0000000000"));
        }
    }

    #[test]
    fn the_asked_share_of_lines_is_hit_and_by_one_rule_each() {
        let rules: Vec<_> = (0..20).map(|number| test(&rule(number))).collect();
        let mut hit = vec![0; rules.len()];
        // The first lines are a fair sample: each is drawn by itself.
        let lines = lines(&spec(20), "seq=0", STAMP);
        for line in &lines[..4_000] {
            let matching: Vec<usize> = (0..rules.len()).filter(|at| rules[*at].is_match(&line.text)).collect();
            let told: Vec<usize> = line.rule.into_iter().map(|rule| rule as usize).collect();
            assert_eq!(matching, told, "{}", line.text);
            matching.iter().for_each(|at| hit[*at] += 1);
        }
        let total: i32 = hit.iter().sum();
        assert!((total - 400).abs() < 80, "{total} lines are hit");
        assert!(hit.iter().all(|count| *count > 0), "a rule is never hit: {hit:?}");
    }

    #[test]
    fn a_rule_is_the_same_for_the_api_and_for_the_program() {
        for number in [0, 1, 9, 49_999] {
            let (draft, rule) = (draft(number).expect("valid"), rule(number));
            assert_eq!(draft.validate(), Ok(()));
            assert_eq!(draft.match_string.as_deref(), rule["match_string"].as_str());
            assert_eq!(draft.match_type.name(), rule["match_type"]);
            assert_eq!(draft.prod_handling.as_str(), rule["prod_handling"]);
        }
    }

    #[test]
    fn the_lines_that_are_hit_do_not_depend_on_the_mark() {
        let told: Vec<bool> = lines(&spec(20), "run seq=0", STAMP).iter().map(|line| line.rule.is_some()).collect();
        assert_eq!(hits(&spec(20)), told);
    }

    #[test]
    fn no_line_is_hit_when_there_are_no_rules() {
        let rule = test(&rule(0));
        assert!(lines(&spec(0), "m", STAMP).iter().all(|line| !rule.is_match(&line.text)));
    }
}
