//! Records that were handed out at least once and not acked yet: leased, delayed, or due again.
//!
//! Pure bookkeeping in memory, shared by all backends: no I/O, no clock, no waiting. Bounded by its users, which hand
//! out nothing fresh while too much is out. What of it must survive a crash is written by the backend.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tokio::time::Instant;

use super::backend::Seq;

/// Where such a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Leased,
    Delayed(Instant),
    Ready,
}

/// What is remembered of such a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hand {
    /// How often it was handed out.
    pub(super) attempt: u32,
    /// Its items; 0 until it was read after a restart.
    pub(super) items: u32,
    /// Its payload bytes; 0 until it was read after a restart.
    pub(super) bytes: u32,
    place: Place,
}

/// All of them, by sequence.
#[derive(Debug, Default)]
pub(super) struct Hands {
    all: BTreeMap<Seq, Hand>,
    delayed: BTreeSet<(Instant, Seq)>,
    ready: BTreeSet<Seq>,
    leased: usize,
}

impl Hands {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn leased(&self) -> usize {
        self.leased
    }

    pub(super) fn is_leased(&self, seq: Seq) -> bool {
        self.all.get(&seq).is_some_and(|hand| hand.place == Place::Leased)
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Hand> {
        self.all.get(&seq)
    }

    /// Whether any record of this range is out.
    pub(super) fn any_in(&self, range: Range<Seq>) -> bool {
        self.all.range(range).next().is_some()
    }

    /// Every record that is out, with how often it was handed out.
    pub(super) fn attempts(&self) -> impl Iterator<Item = (Seq, u32)> + '_ {
        self.all.iter().map(|(seq, hand)| (*seq, hand.attempt))
    }

    /// The leased ones among them.
    pub(super) fn leased_attempts(&self) -> impl Iterator<Item = (Seq, u32)> + '_ {
        self.all.iter().filter(|(_, hand)| hand.place == Place::Leased).map(|(seq, hand)| (*seq, hand.attempt))
    }

    /// Notes that a fresh record is handed out for the `attempt`th time.
    pub(super) fn lease_fresh(&mut self, seq: Seq, attempt: u32, items: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.put(seq, Hand { attempt, items, bytes, place: Place::Leased });
    }

    /// Notes a record known from before the restart, due now.
    pub(super) fn restore_ready(&mut self, seq: Seq, attempt: u32) {
        self.put(seq, Hand { attempt, items: 0, bytes: 0, place: Place::Ready });
    }

    /// Notes a record known from before the restart, due later.
    pub(super) fn restore_delayed(&mut self, seq: Seq, attempt: u32, items: u32, bytes: usize, due: Instant) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.put(seq, Hand { attempt, items, bytes, place: Place::Delayed(due) });
    }

    /// Makes due what is due at `now`.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(&(due, seq)) = self.delayed.first()
            && due <= now
        {
            self.move_to(seq, Place::Ready);
        }
    }

    /// When the next delayed record is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// The oldest record that is due again.
    pub(super) fn first_ready(&self) -> Option<(Seq, Hand)> {
        let seq = *self.ready.first()?;
        self.all.get(&seq).map(|hand| (seq, *hand))
    }

    /// Hands a record out again, for the `attempt`th time.
    pub(super) fn lease_again(&mut self, seq: Seq, attempt: u32) {
        self.move_to(seq, Place::Leased);
        if let Some(hand) = self.all.get_mut(&seq) {
            hand.attempt = attempt;
        }
    }

    /// Notes the size of a record that was read again.
    pub(super) fn measure(&mut self, seq: Seq, items: u32, bytes: usize) {
        if let Some(hand) = self.all.get_mut(&seq) {
            hand.items = items;
            hand.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        }
    }

    /// Makes a leased record due again at `due`, at once if `None`.
    pub(super) fn release(&mut self, seq: Seq, due: Option<Instant>) {
        self.move_to(seq, due.map_or(Place::Ready, Place::Delayed));
    }

    /// Takes back a record whose hand-out did not reach anyone: that attempt does not count.
    pub(super) fn take_back(&mut self, seq: Seq) {
        self.move_to(seq, Place::Ready);
        if let Some(hand) = self.all.get_mut(&seq) {
            hand.attempt = hand.attempt.saturating_sub(1);
        }
    }

    /// Forgets a record.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Hand> {
        let hand = self.all.remove(&seq)?;
        self.leave(seq, hand.place);
        Some(hand)
    }

    /// Forgets every record of a range.
    pub(super) fn remove_range(&mut self, range: Range<Seq>) {
        let seqs: Vec<Seq> = self.all.range(range).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            self.remove(seq);
        }
    }

    fn put(&mut self, seq: Seq, hand: Hand) {
        self.remove(seq);
        self.all.insert(seq, hand);
        self.enter(seq, hand.place);
    }

    fn move_to(&mut self, seq: Seq, place: Place) {
        let Some(hand) = self.all.get_mut(&seq) else { return };
        let before = std::mem::replace(&mut hand.place, place);
        self.leave(seq, before);
        self.enter(seq, place);
    }

    fn enter(&mut self, seq: Seq, place: Place) {
        match place {
            Place::Leased => self.leased += 1,
            Place::Ready => drop(self.ready.insert(seq)),
            Place::Delayed(due) => drop(self.delayed.insert((due, seq))),
        }
    }

    fn leave(&mut self, seq: Seq, place: Place) {
        match place {
            Place::Leased => self.leased -= 1,
            Place::Ready => drop(self.ready.remove(&seq)),
            Place::Delayed(due) => drop(self.delayed.remove(&(due, seq))),
        }
    }
}
