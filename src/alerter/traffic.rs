//! What the traffic is like: a sample of messages to choose by what rules are looked for, and how much work that is.
//!
//! The worker shows it each batch, of which it takes a few messages; nothing is done for each event. It takes about half
//! a megabyte. A crash loses it; rules are then looked for as if nothing were known, which costs time and never changes
//! what they match.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::Event;
use crate::queue::Leased;
use crate::rules::{Effort, Sample};

/// Messages kept: those of trials in which choosing by a sample made matching several times as fast.
const MESSAGES: usize = 2_000;
/// Bytes kept of one message; what rules look for mostly stands in front.
const MESSAGE_BYTES: usize = 256;
/// Messages taken from a batch, at most.
const FROM_BATCH: usize = 16;
/// Once there are enough, the sample is renewed no faster than this, so that it spans half a minute at least and a short
/// storm does not fill it.
const PACE: Duration = Duration::from_millis(250);

/// The sample and the work so far; shared by the worker and the task that loads rules.
#[derive(Debug, Default)]
pub struct Traffic {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// At most [`MESSAGES`]; the oldest is overwritten.
    messages: Vec<String>,
    next: usize,
    taken_at: Option<Instant>,
    effort: Effort,
}

impl Traffic {
    /// Takes some messages of a batch.
    pub(super) fn see(&self, records: &[Leased<Event>]) {
        let mut seen = self.seen.lock();
        if seen.is_full() && seen.taken_at.is_some_and(|taken_at| taken_at.elapsed() < PACE) {
            return;
        }
        seen.taken_at = Some(Instant::now());
        let events = || records.iter().filter_map(|record| record.items.as_ref().ok()).flatten();
        let step = events().count().div_ceil(FROM_BATCH).max(1);
        events().step_by(step).for_each(|event| seen.keep(&event.message));
    }

    /// Adds the work that judging a batch was.
    pub(super) fn count(&self, effort: Effort) {
        let mut seen = self.seen.lock();
        seen.effort.events += effort.events;
        seen.effort.steps += effort.steps;
    }

    /// The messages taken last.
    pub(super) fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        self.seen.lock().messages.iter().for_each(|message| sample.add(message));
        sample
    }

    /// Whether the sample has its full size.
    pub(super) fn is_sampled(&self) -> bool {
        self.seen.lock().is_full()
    }

    /// The work so far.
    pub(super) fn effort(&self) -> Effort {
        self.seen.lock().effort
    }
}

#[cfg(test)]
impl Traffic {
    /// A full sample of one message.
    pub(super) fn fill(&self, message: &str) {
        (0..MESSAGES).for_each(|_| self.seen.lock().keep(message));
    }
}

impl Seen {
    fn is_full(&self) -> bool {
        self.messages.len() >= MESSAGES
    }

    fn keep(&mut self, message: &str) {
        let message = &message[..message.floor_char_boundary(MESSAGE_BYTES)];
        if self.is_full() {
            let oldest = &mut self.messages[self.next];
            oldest.clear();
            oldest.push_str(message);
            self.next = (self.next + 1) % MESSAGES;
        } else {
            self.messages.push(message.to_owned());
        }
    }
}

/// Says when to choose anew by what rules are looked for: when there is a full sample for the first time, and when
/// judging has become much more work than it was after the last choice.
#[derive(Debug)]
pub(super) struct Watch {
    chosen_at: Instant,
    by_sample: bool,
    /// Steps for an event in the time after the choice, once known.
    usual: Option<f64>,
    /// The work done when it was last looked at.
    mark: Effort,
}

/// Choices because of the traffic are at least this far apart.
const CHOICE_INTERVAL: Duration = Duration::from_secs(300);
/// Events from which the work for one of them is reckoned.
const MEASURED_EVENTS: u64 = 10_000;
/// It is much more work from twice as much and this many steps (some 10 ns each) more on.
const MUCH_MORE: f64 = 16.0;

impl Watch {
    /// A choice was made just now, by a full sample or not, after `effort`.
    pub(super) fn new(by_sample: bool, effort: Effort) -> Self {
        Self { chosen_at: Instant::now(), by_sample, usual: None, mark: effort }
    }

    /// Whether it is time for another choice.
    pub(super) fn wants_choice(&mut self, traffic: &Traffic) -> bool {
        let first = !self.by_sample && traffic.is_sampled();
        first || self.has_changed(traffic.effort(), self.chosen_at.elapsed())
    }

    fn has_changed(&mut self, effort: Effort, since: Duration) -> bool {
        let events = effort.events - self.mark.events;
        if events < MEASURED_EVENTS {
            return false;
        }
        let steps = (effort.steps - self.mark.steps) as f64 / events as f64;
        self.mark = effort;
        let usual = *self.usual.get_or_insert(steps);
        since >= CHOICE_INTERVAL && steps > 2.0 * usual + MUCH_MORE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerter::fixtures::event;

    fn batch(messages: &[&str]) -> Vec<Leased<Event>> {
        let events = messages.iter().map(|message| event("a", message)).collect();
        vec![Leased { seq: 1, attempt: 1, items: Ok(events) }]
    }

    #[test]
    fn some_messages_of_a_batch_are_taken_from_all_over_it() {
        let traffic = Traffic::default();
        let messages: Vec<String> = (0..160).map(|number| format!("message {number}")).collect();
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        traffic.see(&batch(&messages));
        let kept = &traffic.seen.lock().messages;
        assert_eq!(kept.len(), FROM_BATCH);
        assert_eq!((kept[0].as_str(), kept[15].as_str()), ("message 0", "message 150"));
    }

    #[test]
    fn a_full_sample_replaces_its_oldest_and_is_not_renewed_at_once() {
        let mut seen = Seen::default();
        (0..=MESSAGES).for_each(|number| seen.keep(&format!("message {number}")));
        assert_eq!(seen.messages.len(), MESSAGES);
        assert_eq!((seen.messages[0].as_str(), seen.messages[1].as_str()), ("message 2000", "message 1"));
        seen.keep(&"é".repeat(MESSAGE_BYTES));
        assert_eq!(seen.messages[1].len(), MESSAGE_BYTES);
        seen.taken_at = Some(Instant::now() + PACE);
        let traffic = Traffic { seen: Mutex::new(seen) };
        traffic.see(&batch(&["news"]));
        assert!(traffic.seen.lock().messages.iter().all(|message| message != "news"));
        assert_eq!(traffic.sample().len(), MESSAGES);
    }

    #[test]
    fn the_first_full_sample_asks_for_a_choice() {
        let traffic = Traffic::default();
        let mut watch = Watch::new(false, Effort::default());
        assert!(!watch.wants_choice(&traffic));
        traffic.fill("x");
        assert!(watch.wants_choice(&traffic));
        assert!(!Watch::new(true, Effort::default()).wants_choice(&traffic));
    }

    #[test]
    fn much_more_work_than_usual_asks_for_a_choice_but_not_soon_after_the_last() {
        let long = CHOICE_INTERVAL;
        let check = |each: &[u64], since: Duration, expected: bool| {
            let mut watch = Watch::new(true, Effort::default());
            let mut effort = Effort::default();
            let mut asked = false;
            for steps in each {
                effort.events += MEASURED_EVENTS;
                effort.steps += MEASURED_EVENTS * steps;
                asked = watch.has_changed(effort, since);
            }
            assert_eq!(asked, expected, "{each:?}");
        };
        check(&[5, 40], long, true);
        check(&[5, 40], long / 2, false);
        check(&[5, 20], long, false);
        check(&[40, 60], long, false);
        check(&[40], long, false);
        let mut watch = Watch::new(true, Effort::default());
        assert!(!watch.has_changed(Effort { events: 10, steps: 10_000 }, long));
    }
}
