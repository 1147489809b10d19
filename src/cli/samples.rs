//! Sample messages from a dozen imaginary devices, and the rules, development hosts and teams that fit them.
//!
//! They show an operator what the appliance does before any real device points at it: some messages page, some open a
//! ticket, some are recorded and ignored, some match nothing. The stream is seeded, so one seed and one clock give the
//! same messages each time. It does no I/O and keeps nothing, so there is nothing to lose in a crash.

mod messages;
mod random;
mod setup;

use serde_json::Value;

use self::messages::Writer;
pub use self::random::Random;
pub use self::setup::{SampleSetup, sample_setup};
use super::send::snmp::TrapMessage;
use crate::clock::Clock;

/// One sample, by the way it travels.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// A syslog message without framing: RFC 3164, RFC 5424 or Cisco form.
    Syslog(String),
    /// An SNMP notification.
    Trap(TrapMessage),
    /// An event as the ingest API takes it.
    Json(Value),
}

/// An endless, seeded mixture of sample messages.
#[derive(Debug)]
pub struct SampleStream {
    writer: Writer,
}

impl SampleStream {
    /// A stream stamped with the system's time.
    pub fn new(seed: u64) -> Self {
        Self::with_clock(seed, Clock::system())
    }

    /// A stream stamped by `clock`.
    pub fn with_clock(seed: u64, clock: Clock) -> Self {
        Self { writer: Writer::new(Random::new(seed), clock) }
    }

    /// The next syslog message.
    pub fn syslog(&mut self) -> String {
        self.writer.syslog()
    }

    /// The next SNMP notification.
    pub fn trap(&mut self) -> TrapMessage {
        self.writer.trap()
    }

    /// The next JSON event.
    pub fn json(&mut self) -> Value {
        self.writer.json()
    }
}

impl Iterator for SampleStream {
    type Item = Sample;

    /// Seven in ten are syslog, two JSON, one a trap: about what a mixed site sends.
    fn next(&mut self) -> Option<Sample> {
        Some(match self.writer.random.below(10) {
            0..7 => Sample::Syslog(self.syslog()),
            7..9 => Sample::Json(self.json()),
            _ => Sample::Trap(self.trap()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Condition, Severity, Timestamp};

    fn stream(seed: u64) -> SampleStream {
        SampleStream::with_clock(seed, Clock::fixed(Timestamp::from_millis(1_800_000_000_000)))
    }

    #[test]
    fn one_seed_gives_the_same_messages_and_another_seed_others() {
        let take = |seed| stream(seed).take(200).collect::<Vec<_>>();
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
    }

    #[test]
    fn every_syslog_sample_has_a_valid_pri_and_one_line() {
        let mut stream = stream(1);
        for _ in 0..2_000 {
            let line = stream.syslog();
            let (pri, _) = line.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("a PRI");
            assert!(pri.parse::<u8>().expect("a number") < 192, "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn every_json_sample_has_the_required_members_and_a_known_severity() {
        let mut stream = stream(2);
        for _ in 0..500 {
            let event = stream.json();
            for member in ["hostname", "message", "timestamp", "severity"] {
                assert!(event[member].is_string(), "{member} of {event}");
            }
            event["severity"].as_str().expect("text").parse::<Severity>().expect("a known name");
        }
    }

    #[test]
    fn every_sample_rule_is_valid_and_hit_by_some_but_not_all_samples() {
        let texts: Vec<String> = stream(3).take(2_000).map(text).collect();
        let mut handled = vec![false; texts.len()];
        for rule in sample_setup().rules {
            rule.validate().expect("a valid rule");
            let conditions = rule.conditions();
            let tests: Vec<_> = conditions.iter().map(holds).collect();
            let hits: Vec<bool> = texts.iter().map(|text| tests.iter().all(|test| test(text))).collect();
            let count = hits.iter().filter(|hit| **hit).count();
            assert!((1..1_000).contains(&count), "{conditions:?} is hit by {count}");
            handled.iter_mut().zip(hits).for_each(|(handled, hit)| *handled |= hit);
        }
        let unhandled = handled.iter().filter(|handled| !**handled).count();
        assert!(unhandled > 200, "{unhandled} of 2,000 match no rule");
    }

    #[test]
    fn development_hosts_and_teams_name_devices_that_send() {
        let texts: Vec<String> = stream(4).take(5_000).map(text).collect();
        let setup = sample_setup();
        assert!(!setup.dev_hosts.is_empty());
        for host in setup.dev_hosts.iter().chain(setup.teams.iter().map(|(host, _)| host)) {
            assert!(texts.iter().any(|text| text.contains(host.as_str())), "{host} sends nothing");
        }
    }

    /// A sample as one text in which rules can be looked for; a trap starts with its OID and names its agent.
    fn text(sample: Sample) -> String {
        match sample {
            Sample::Syslog(line) => line,
            Sample::Trap(trap) => format!("{} {}", trap.oid, trap.agent),
            Sample::Json(event) => event.to_string(),
        }
    }

    fn holds(condition: &Condition) -> Box<dyn Fn(&str) -> bool> {
        match condition.clone() {
            Condition::Contains(part) => Box::new(move |text| text.to_lowercase().contains(&part.to_lowercase())),
            Condition::Regex(pattern) => {
                let regex = regex::Regex::new(&format!("(?i){pattern}")).expect("compiles");
                Box::new(move |text| regex.is_match(text))
            }
            Condition::OidPrefix(prefix) => Box::new(move |text| {
                let oid = text.split(' ').next().and_then(|word| word.parse().ok());
                oid.is_some_and(|oid| prefix.is_prefix_of(&oid))
            }),
        }
    }
}
