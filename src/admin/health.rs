//! How each part of the appliance is, and what is to be done about it: the same facts as the checks of `/ready` and the
//! overview, part by part, with a judgement. Reads only.

use std::time::Duration;

use super::{Admin, LevelState};
use crate::telemetry::{ListenerState, ListenerStatus, TargetStatus};

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    /// It works.
    Ok,
    /// It works, and somebody should look.
    Warning,
    /// It does not work.
    Failed,
}

impl HealthState {
    /// The word in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPart {
    /// `listener.syslog_udp`, `queue.ingest`, `store.config`, `target.moogsoft`, `disk`, ...
    pub name: String,
    /// How it is.
    pub state: HealthState,
    /// What is known of it.
    pub detail: String,
    /// What is to be done, if something is.
    pub hint: Option<String>,
}

/// Free disk, of all, below which somebody should look: what is received in some hours may fill it.
const LOW_DISK_PERCENT: u64 = 10;

/// Age of a clock's verdict: a process that started before this moment of the wall clock runs on a clock that was set back.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

fn part(name: impl Into<String>, state: HealthState, detail: impl Into<String>, hint: Option<String>) -> HealthPart {
    HealthPart { name: name.into(), state, detail: detail.into(), hint }
}

impl Admin {
    /// Every part, the worst first.
    pub async fn health(&self) -> Vec<HealthPart> {
        let now = self.parts.clock.now();
        let mut parts: Vec<HealthPart> = self.listeners().iter().map(listener).collect();
        for certificate in self.certificates() {
            let state = match (certificate.serves(), certificate.hint(now).is_some()) {
                (false, _) => HealthState::Failed,
                (true, true) => HealthState::Warning,
                (true, false) => HealthState::Ok,
            };
            let valid = certificate.facts.as_ref().map(|facts| format!("valid until {}", facts.to));
            let name = format!("certificate.{}", certificate.listener);
            parts.push(part(name, state, valid.unwrap_or_default(), certificate.hint(now)));
        }
        for check in self.readiness().await.checks.into_iter().filter(|check| check.name.starts_with("store.")) {
            let state = if check.ok { HealthState::Ok } else { HealthState::Failed };
            let hint =
                (!check.ok).then(|| "look at the log and at the disk; the store is tried again by itself".to_owned());
            parts.push(part(check.name, state, check.detail, hint));
        }
        parts.extend(self.queue_parts());
        parts.extend(self.targets().iter().map(target));
        parts.push(self.disk_part().await);
        parts.push(self.clock_part());
        parts.push(self.trail_part());
        parts.extend(self.level_part());
        parts.sort_by(|one, other| other.state.cmp(&one.state).then_with(|| one.name.cmp(&other.name)));
        parts
    }

    fn queue_parts(&self) -> Vec<HealthPart> {
        let faults = self.parts.queues.faults();
        let lines = self.queue_lines().into_iter();
        lines
            .map(|line| {
                let fault = faults.iter().rev().find(|fault| fault.queue == line.name);
                let dead = line.name.starts_with("dlq") || line.name == "dead";
                let waits = line.depth.items > 0 && dead;
                let state = if fault.is_some() || waits { HealthState::Warning } else { HealthState::Ok };
                let hint = match fault {
                    Some(fault) => Some(format!("a fault was noticed at {}: {}", fault.at, fault.what)),
                    None if waits => Some("look at the dead letters, put them back or discard them".to_owned()),
                    None => None,
                };
                let detail = format!("{} waiting, {} bytes", line.depth.items, line.depth.bytes);
                part(format!("queue.{}", line.name), state, detail, hint)
            })
            .collect()
    }

    async fn disk_part(&self) -> HealthPart {
        let Some(space) = self.disk_space().await else {
            return part("disk", HealthState::Warning, "free space is not known", None);
        };
        let detail = format!("{} of {} bytes free", space.free, space.total);
        let is_low = space.free.saturating_mul(100) < space.total.saturating_mul(LOW_DISK_PERCENT);
        let hint = is_low.then(|| {
            "free some space, or shorten what is kept (recent_max_bytes, retention); below queue.reserve_free_bytes no event \
             is taken"
                .to_owned()
        });
        part("disk", if is_low { HealthState::Warning } else { HealthState::Ok }, detail, hint)
    }

    /// The wall clock against the time that passed since the start: they differ when somebody set the clock.
    fn clock_part(&self) -> HealthPart {
        let (now, uptime) = (self.parts.clock.now(), self.uptime());
        let expected = self.parts.started_at.plus(uptime);
        let off = now.since(expected).max(expected.since(now));
        if off <= CLOCK_SLACK {
            return part("clock", HealthState::Ok, now.to_string(), None);
        }
        let detail = format!("{now}; it was moved by {} s since the start", off.as_secs());
        let hint = "check the time service (timedatectl); events are filed by the time they were received".to_owned();
        part("clock", HealthState::Warning, detail, Some(hint))
    }

    fn trail_part(&self) -> HealthPart {
        match self.trail_warning() {
            None => part("change_log", HealthState::Ok, "it is as it was written, as far as it was verified", None),
            Some(why) => {
                let hint = "see RUNBOOK.md, \"The change log is not as it was written\"".to_owned();
                part("change_log", HealthState::Failed, why, Some(hint))
            }
        }
    }

    fn level_part(&self) -> Option<HealthPart> {
        let levels = self.service_levels();
        let missed: Vec<&str> =
            levels.iter().filter(|one| one.state != LevelState::Ok).map(|one| one.level.name()).collect();
        let hint = (!missed.is_empty()).then(|| "see /slo for windows and burn rates".to_owned());
        let state = if missed.is_empty() { HealthState::Ok } else { HealthState::Warning };
        let detail =
            if missed.is_empty() { "all are met".to_owned() } else { format!("missed: {}", missed.join(", ")) };
        (!levels.is_empty()).then(|| part("service_levels", state, detail, hint))
    }
}

fn listener(listener: &ListenerStatus) -> HealthPart {
    let (state, detail) = match &listener.state {
        ListenerState::Failed(why) => (HealthState::Failed, why.clone()),
        ListenerState::Listening(address) if listener.hint().is_some() => {
            (HealthState::Warning, format!("listening on {address}"))
        }
        ListenerState::Listening(address) => (HealthState::Ok, format!("listening on {address}")),
    };
    part(format!("listener.{}", listener.name), state, detail, listener.hint())
}

fn target(target: &TargetStatus) -> HealthPart {
    let name = format!("target.{}", target.name);
    let error = target.last_error.as_ref().map(|(_, error)| error.clone());
    match (target.up, error) {
        (Some(false), error) => {
            let detail = error.unwrap_or_else(|| "it does not take alerts".to_owned());
            let hint = "its alerts wait and are delivered when it answers again; check it, and its secret".to_owned();
            part(name, HealthState::Warning, detail, Some(hint))
        }
        (Some(true), _) => part(name, HealthState::Ok, "it takes alerts", None),
        (None, _) => part(name, HealthState::Ok, "nothing was sent to it yet", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;

    #[tokio::test]
    async fn what_does_not_work_comes_first_with_what_to_do() {
        let house = TestAdmin::new().await;
        let parts = house.admin.health().await;
        assert_eq!((parts[0].name.as_str(), parts[0].state), ("listener.snmp", HealthState::Failed));
        assert!(parts[0].detail.contains("snmptrapd"), "{parts:?}");
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        for name in ["listener.syslog_udp", "store.config", "queue.ingest", "disk", "clock", "change_log"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        let clock = parts.iter().find(|part| part.name == "clock").expect("there");
        assert_eq!(clock.state, HealthState::Ok, "{clock:?}");
    }
}
