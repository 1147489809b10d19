//! Judges leased records: pure, apart from the time it takes. Runs off the async threads.
//!
//! Nothing in here can lose an event: each one ends up judged or as a dead letter.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use foldhash::HashMap;

use super::signature::write_signature;
use crate::model::{DeadLetter, DeathClass, Decision, Event, Judged, Text, Timestamp};
use crate::queue::{Leased, Seq};
use crate::store::{Kind, Sighting, UnhandledBatch, UnhandledEvents};

/// The origin of dead letters that this stage writes.
pub(super) const ORIGIN: &str = "alerter";
/// A record was leased so often when the process died that its only event is given up.
pub(super) const MAX_CRASHES: u32 = 3;
/// Bytes of a sample message.
const SAMPLE_BYTES: usize = 200;

/// How many events had which outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) forwarded: u64,
    pub(super) ignored: u64,
    pub(super) unhandled: u64,
    pub(super) error: u64,
}

/// What follows from some records, before anything was done about it.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// The records, to be acked when all of this is durable.
    pub(super) seqs: Vec<Seq>,
    /// Every event that could be judged, in the order received, a batch for each record.
    pub(super) judged: Vec<Arc<Vec<Judged>>>,
    /// The unhandled ones by host and kind, a batch for each record.
    pub(super) unhandled: UnhandledEvents,
    /// What could not be judged.
    pub(super) dead: Vec<DeadLetter>,
    /// How many of which.
    pub(super) tally: Tally,
}

/// Judges every event with `decide`; an event for which it panics is tried `max_retries` times more.
pub(super) fn judge(
    records: Vec<Leased<Event>>,
    decide: &dyn Fn(&Event) -> Decision,
    max_retries: u32,
    now: Timestamp,
) -> Judgement {
    let mut judge = Judge { decide, max_retries, now, kinds: Kinds::default(), done: Judgement::default() };
    for record in records {
        judge.record(record);
    }
    judge.done.unhandled.kinds = judge.kinds.known.into_iter().map(|known| known.kind).collect();
    judge.done
}

/// The judging of some records.
struct Judge<'a> {
    decide: &'a dyn Fn(&Event) -> Decision,
    max_retries: u32,
    now: Timestamp,
    kinds: Kinds,
    done: Judgement,
}

impl Judge<'_> {
    fn record(&mut self, record: Leased<Event>) {
        self.done.seqs.push(record.seq);
        match record.items {
            Ok(events) if record.attempt > MAX_CRASHES && events.len() == 1 => {
                let reason = format!("the process ended {} times while this event was in work", record.attempt - 1);
                self.bury(&events[0], DeathClass::Crashed, reason, record.attempt);
            }
            Ok(events) => self.events(events),
            Err(undecodable) => {
                self.done.tally.error += 1;
                let (reason, attempts) = (undecodable.to_string(), record.attempt);
                let letter = DeadLetter::of_bytes(ORIGIN, undecodable.payload, reason, attempts, self.now);
                self.done.dead.push(letter);
            }
        }
    }

    /// The events of one record.
    fn events(&mut self, events: Vec<Event>) {
        let Some(key) = events.first().map(|event| event.id) else { return };
        let mut judged = Vec::with_capacity(events.len());
        for event in events {
            match patiently(self.decide, &event, self.max_retries) {
                Ok(decision) => {
                    self.done.tally.count(&decision);
                    if decision.matched.is_none() {
                        self.kinds.see(&event, judged.len());
                    }
                    judged.push(Judged { event, decision });
                }
                Err(reason) => self.bury(&event, DeathClass::Judging, reason, self.max_retries.saturating_add(1)),
            }
        }
        let sightings = self.kinds.finish_record(&judged);
        if !sightings.is_empty() {
            self.done.unhandled.batches.push(UnhandledBatch { key, sightings });
        }
        self.done.judged.push(Arc::new(judged));
    }

    fn bury(&mut self, event: &Event, class: DeathClass, reason: String, attempts: u32) {
        self.done.tally.error += 1;
        self.done.dead.push(DeadLetter::of_event(event, ORIGIN, class, reason, self.now).after(attempts));
    }
}

/// The decision, or what the panic said when every try ended in one.
fn patiently(decide: &dyn Fn(&Event) -> Decision, event: &Event, max_retries: u32) -> Result<Decision, String> {
    let mut tries = 0;
    loop {
        // Nothing is left half done by a panic: `decide` only reads.
        match catch_unwind(AssertUnwindSafe(|| decide(event))) {
            Ok(decision) => return Ok(decision),
            Err(_) if tries < max_retries => tries += 1,
            Err(panic) => return Err(format!("judging it failed: {}", panic_text(panic.as_ref()))),
        }
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

impl Tally {
    fn count(&mut self, decision: &Decision) {
        match &decision.matched {
            Some(matched) if matched.handling.is_forwarded() => self.forwarded += 1,
            Some(_) => self.ignored += 1,
            None => self.unhandled += 1,
        }
    }
}

/// Unhandled events by host and kind, record after record. Most are of a kind seen before, so seeing one allocates
/// nothing.
#[derive(Default)]
struct Kinds {
    known: Vec<Known>,
    places: HashMap<Box<str>, usize>,
    /// Signature, a zero byte (which no signature holds), host.
    key: String,
    /// What the record at hand holds.
    seen: Vec<Seen>,
    record: usize,
}

struct Known {
    kind: Kind,
    /// The last record that held it, and the place there among what was seen.
    record: usize,
    place: usize,
}

/// Events of one kind in one record.
struct Seen {
    kind: usize,
    count: u64,
    /// Place of the last one among those judged.
    last: usize,
}

impl Kinds {
    /// Counts an event that will be at `place` among those judged of the record.
    fn see(&mut self, event: &Event, place: usize) {
        write_signature(event, &mut self.key);
        let signature_end = self.key.len();
        self.key.push('\0');
        self.key.push_str(&event.hostname);
        let kind = match self.places.get(self.key.as_str()) {
            Some(kind) => *kind,
            None => self.learn(event, signature_end),
        };
        let known = &mut self.known[kind];
        if known.record == self.record {
            let seen = &mut self.seen[known.place];
            seen.count += 1;
            seen.last = place;
            return;
        }
        known.record = self.record;
        known.place = self.seen.len();
        self.seen.push(Seen { kind, count: 1, last: place });
    }

    fn learn(&mut self, event: &Event, signature_end: usize) -> usize {
        let place = self.known.len();
        self.places.insert(self.key.as_str().into(), place);
        let signature = Text::from(&self.key[..signature_end]);
        let kind = Kind { hostname: event.hostname.clone(), signature };
        self.known.push(Known { kind, record: usize::MAX, place: 0 });
        place
    }

    /// What the record held; the next one begins.
    fn finish_record(&mut self, judged: &[Judged]) -> Vec<Sighting> {
        self.record += 1;
        let sighting = |seen: Seen| {
            let event = &judged[seen.last].event;
            Sighting {
                kind: seen.kind,
                count: seen.count,
                last: event.id,
                at: event.received_at,
                sample: event.message.part(&event.message[..event.message.floor_char_boundary(SAMPLE_BYTES)]),
            }
        };
        self.seen.drain(..).map(sighting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerter::fixtures::{NOW, event, rule};
    use crate::queue::Undecodable;
    use crate::rules::{RuleSet, Ruling, Scratch};

    fn ruling() -> Ruling {
        let (rules, _) = RuleSet::compile(&[rule(1, "down", "Page_only"), rule(2, "up", "Ignore")]);
        Ruling { rules, ..Ruling::default() }
    }

    fn record(seq: Seq, attempt: u32, events: Vec<Event>) -> Leased<Event> {
        Leased { seq, attempt, items: Ok(events) }
    }

    fn judged(records: Vec<Leased<Event>>) -> Judgement {
        let ruling = ruling();
        judge(records, &|event| ruling.decide(event, &mut Scratch::default()), 3, NOW)
    }

    #[test]
    fn every_event_is_tallied_once() {
        let events = vec![event("a", "link down"), event("a", "link up"), event("a", "link flaps")];
        let judgement = judged(vec![record(4, 1, events), record(5, 1, vec![event("b", "down")])]);
        assert_eq!(judgement.tally, Tally { forwarded: 2, ignored: 1, unhandled: 1, error: 0 });
        assert_eq!(judgement.seqs, [4, 5]);
        assert_eq!(judgement.judged.iter().map(|judged| judged.len()).sum::<usize>(), 4);
    }

    #[test]
    fn unhandled_events_are_gathered_by_host_and_kind_under_their_records_key() {
        let events = vec![event("a", "down"), event("a", "fan 1"), event("a", "fan 2"), event("b", "fan 3")];
        let (key, last) = (events[0].id, events[2].id);
        let unhandled = judged(vec![record(1, 1, events)]).unhandled;
        let [batch] = unhandled.batches.as_slice() else { panic!("one record makes one batch") };
        assert_eq!(batch.key, key);
        let host = |sighting: &Sighting| &*unhandled.kinds[sighting.kind].hostname;
        let seen: Vec<_> = batch.sightings.iter().map(|s| (host(s), s.count, &*s.sample)).collect();
        assert_eq!(seen, [("a", 2, "fan 2"), ("b", 1, "fan 3")]);
        assert_eq!(batch.sightings[0].last, last);
    }

    #[test]
    fn an_event_whose_judging_panics_is_buried_and_the_others_are_judged() {
        let tries = std::cell::Cell::new(0);
        let decide = |event: &Event| {
            if event.message == "poison" {
                tries.set(tries.get() + 1);
                panic!("cannot bear it");
            }
            ruling().decide(event, &mut Scratch::default())
        };
        let poison = event("a", "poison");
        let events = vec![event("a", "down"), poison.clone(), event("a", "down")];
        let judgement = judge(vec![record(1, 1, events)], &decide, 3, NOW);
        assert_eq!(tries.get(), 4);
        assert_eq!(judgement.tally, Tally { forwarded: 2, error: 1, ..Tally::default() });
        let [dead] = judgement.dead.as_slice() else { panic!("one dead letter") };
        assert_eq!((dead.event_id, dead.attempts), (Some(poison.id), 4));
        assert!(dead.reason.contains("cannot bear it"), "{}", dead.reason);
        assert_eq!(postcard::from_bytes::<Event>(&dead.payload).expect("an event"), poison);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_buried_with_its_bytes() {
        let undecodable = Undecodable { why: "format 9 is unknown to this version".into(), payload: vec![9, 1] };
        let judgement = judged(vec![Leased { seq: 3, attempt: 1, items: Err(undecodable) }]);
        assert_eq!((judgement.dead[0].payload.as_slice(), judgement.tally.error), ([9, 1].as_slice(), 1));
        assert_eq!(judgement.seqs, [3]);
    }

    #[test]
    fn a_lone_event_during_which_the_process_died_too_often_is_buried() {
        let check = |attempt, dead| {
            assert_eq!(judged(vec![record(1, attempt, vec![event("a", "down")])]).dead.len(), dead, "{attempt}");
        };
        check(MAX_CRASHES, 0);
        check(MAX_CRASHES + 1, 1);
    }
}
