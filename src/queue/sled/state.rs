//! What one queue knows in memory: depth, what is handed out, what was read ahead. Pure bookkeeping behind a short lock.
//!
//! Memory is bounded by the two buffers of committed records (the hand-off and one read from the disk) and by
//! [`Kind::most_out`] records that are out; a waiting backlog costs nothing. It holds nothing that the disk does not.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use tokio::time::Instant;

use super::cursor::Mark;
use super::layout::Totals;
use crate::queue::backend::{Depth, Lease, Record, Seq};
use crate::queue::hands::{Hand, Hands};

/// Records that may be leased at once; also what the cursor file has room for.
const MOST_LEASED: usize = 4_096;

/// Payload bytes read back from the disk for one lease of records that are due again.
const MOST_BYTES_AGAIN: usize = 16 << 20;

/// How a queue is used, and so how it remembers what was acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Consumed in order: the cursor file says what is acked; records are never removed one by one.
    Log,
    /// Each record on its own: acked records are removed, released ones carry their due time.
    Work,
}

impl Kind {
    /// Records that may be out (leased, delayed, due again) before nothing fresh is handed out.
    const fn most_out(self) -> usize {
        match self {
            // All of them must fit into the cursor file.
            Self::Log => MOST_LEASED,
            // About 100 bytes each.
            Self::Work => 131_072,
        }
    }
}

/// A committed record on its way to its first lease in this process.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) seq: Seq,
    /// How often it was handed out before the restart.
    pub(super) attempt: u32,
    pub(super) record: Record,
}

/// Counts of one generation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// As in its totals.
    pub(super) holds: Depth,
    /// Not acked.
    pub(super) waits: Depth,
}

/// What a lease takes.
#[derive(Debug, Default)]
pub(super) struct Claim {
    pub(super) fresh: Vec<Lease>,
    /// Sequence and attempt of records whose payload must be read again.
    pub(super) again: Vec<(Seq, u32)>,
}

impl Claim {
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.again.is_empty()
    }
}

/// See the module's documentation.
pub(super) struct State {
    kind: Kind,
    pub(super) closed: bool,
    pub(super) depth: Depth,
    /// By first sequence; the last one is appended to.
    generations: BTreeMap<Seq, Counts>,
    /// Everything before this is durable; the consumer sees nothing beyond.
    committed: Seq,
    pub(super) hands: Hands,
    /// Attempts of records that were leased when the process ended (work queues).
    pub(super) crashed: BTreeMap<Seq, u32>,
    /// Records before `read_to` that were not handed out yet.
    ahead: VecDeque<Fresh>,
    read_to: Seq,
    reading: bool,
    /// Records of `handoff_range`, as they were committed.
    handoff: Vec<Fresh>,
    handoff_range: Range<Seq>,
    handoff_bytes: usize,
    handoff_limit: usize,
}

impl State {
    pub(super) fn new(
        kind: Kind,
        handoff_limit: usize,
        generations: BTreeMap<Seq, Counts>,
        next: Seq,
        mark: &Mark,
    ) -> Self {
        let mut depth = Depth::default();
        generations.values().for_each(|counts| depth.plus(counts.waits));
        let oldest = generations.keys().next().copied().unwrap_or(next);
        let mut state = Self {
            kind,
            closed: false,
            depth,
            generations,
            committed: next,
            hands: Hands::default(),
            crashed: BTreeMap::new(),
            ahead: VecDeque::new(),
            read_to: oldest,
            reading: false,
            handoff: Vec::new(),
            handoff_range: next..next,
            handoff_bytes: 0,
            handoff_limit,
        };
        match kind {
            Kind::Log => {
                state.read_to = mark.position.clamp(oldest, next);
                for &(seq, attempt) in mark.hands.iter().filter(|(seq, _)| (oldest..next).contains(seq)) {
                    state.hands.restore_ready(seq, attempt);
                }
            }
            Kind::Work => state.crashed = mark.hands.iter().copied().collect(),
        }
        state
    }

    /// Takes up to `max` due records, oldest first.
    pub(super) fn claim(&mut self, max: usize, now: Instant) -> Claim {
        self.hands.wake(now);
        let mut claim = Claim::default();
        let mut room = MOST_BYTES_AGAIN;
        while claim.again.len() < max && self.hands.leased() < MOST_LEASED && room > 0 {
            let Some((seq, hand)) = self.hands.first_ready() else { break };
            let attempt = self.attempts_before(seq, hand.attempt).saturating_add(1);
            self.hands.lease_again(seq, attempt);
            claim.again.push((seq, attempt));
            // The size is unknown (0) after a restart; then a sixteenth of the room is assumed.
            let bytes = if hand.bytes == 0 { MOST_BYTES_AGAIN / 16 } else { hand.bytes as usize };
            room = room.saturating_sub(bytes);
        }
        // Never a fresh one while an older one is due.
        while self.hands.first_ready().is_none()
            && claim.again.len() + claim.fresh.len() < max
            && self.may_hand_out_fresh()
        {
            let Some(fresh) = self.next_fresh() else { break };
            let attempt = self.attempts_before(fresh.seq, fresh.attempt).saturating_add(1);
            let Record { items, payload } = fresh.record;
            self.hands.lease_fresh(fresh.seq, attempt, items, payload.len());
            claim.fresh.push(Lease { seq: fresh.seq, attempt, items, payload });
        }
        claim
    }

    /// Takes these records out of their order, as many as may be leased at once. `None` while a read from the disk is
    /// under way: it may bring some of them, and must end first. What is not on the disk any more must be let go by
    /// [`State::let_go`].
    pub(super) fn claim_these(&mut self, seqs: &[Seq]) -> Option<Vec<(Seq, u32)>> {
        if self.reading {
            return None;
        }
        let mut claimed = BTreeMap::new();
        for &seq in seqs {
            let known = self.hands.get(seq).map(|hand| hand.attempt);
            // A log remembers what is acked by its position, so what is beyond that cannot be acked out of order.
            let may_be_there = known.is_some() || self.kind == Kind::Work;
            let is_there = (1..self.committed).contains(&seq) && may_be_there && !self.hands.is_leased(seq);
            if !is_there || self.hands.leased() >= MOST_LEASED {
                continue;
            }
            let attempt = self.attempts_before(seq, known.unwrap_or(0)).saturating_add(1);
            match known {
                Some(_) => self.hands.lease_again(seq, attempt),
                None => self.hands.lease_fresh(seq, attempt, 0, 0),
            }
            claimed.insert(seq, attempt);
        }
        self.ahead.retain(|fresh| !claimed.contains_key(&fresh.seq));
        self.handoff.retain(|fresh| !claimed.contains_key(&fresh.seq));
        Some(claimed.into_iter().collect())
    }

    /// Forgets a claimed record that turned out to be gone already; nothing is counted down.
    pub(super) fn let_go(&mut self, seq: Seq) {
        self.hands.remove(seq);
    }

    fn attempts_before(&mut self, seq: Seq, known: u32) -> u32 {
        self.crashed.remove(&seq).map_or(known, |attempt| attempt.max(known))
    }

    fn may_hand_out_fresh(&self) -> bool {
        self.hands.leased() < MOST_LEASED && self.hands.len() < self.kind.most_out()
    }

    fn next_fresh(&mut self) -> Option<Fresh> {
        if self.ahead.is_empty() {
            self.take_handoff();
        }
        self.ahead.pop_front()
    }

    /// Moves the hand-off to the consumer's side if it continues what was read.
    fn take_handoff(&mut self) {
        if !self.reading && !self.handoff_range.is_empty() && self.read_to == self.handoff_range.start {
            self.ahead = std::mem::take(&mut self.handoff).into();
            self.read_to = self.handoff_range.end;
            self.handoff_range = self.read_to..self.read_to;
            self.handoff_bytes = 0;
        }
    }

    /// What to read from the disk, if the consumer is waiting for that; [`State::finish_read`] must follow.
    pub(super) fn start_read(&mut self) -> Option<Range<Seq>> {
        let end = if self.handoff_range.is_empty() { self.committed } else { self.handoff_range.start };
        if self.reading || !self.ahead.is_empty() || self.read_to >= end || !self.may_hand_out_fresh() {
            return None;
        }
        self.reading = true;
        Some(self.read_to..end)
    }

    /// Takes in what was read: all that is there up to `read_to`.
    pub(super) fn finish_read(&mut self, fresh: Vec<Fresh>, read_to: Seq) {
        self.reading = false;
        self.read_to = self.read_to.max(read_to);
        // A claimed record may still lie on the disk; it is out already.
        self.ahead.extend(fresh.into_iter().filter(|fresh| self.hands.get(fresh.seq).is_none()));
    }

    /// Everything before this was handed out, or is gone.
    fn position(&self) -> Seq {
        self.ahead.front().map_or(self.read_to, |fresh| fresh.seq)
    }

    /// Counts records that became durable, and hands them to the consumer if there is room.
    pub(super) fn committed(&mut self, records: Vec<(Seq, Record)>, totals: &Totals) {
        let mut more = Depth::default();
        records.iter().for_each(|(_, record)| more.add(record));
        let from = self.committed;
        self.depth.plus(more);
        if let Some(counts) = self.generations.values_mut().next_back() {
            counts.holds = totals.holds;
            counts.waits.plus(more);
        }
        self.committed = totals.next;
        if self.handoff_range.is_empty() {
            self.handoff_range = from..from;
        }
        let bytes = usize::try_from(more.bytes).unwrap_or(usize::MAX);
        if self.handoff_range.end == from && self.handoff_bytes.saturating_add(bytes) <= self.handoff_limit {
            self.handoff_range.end = self.committed;
            self.handoff_bytes += bytes;
            self.handoff.extend(records.into_iter().map(|(seq, record)| Fresh { seq, attempt: 0, record }));
        }
    }

    /// Sequences up to `next` were used by records whose append failed: what of them is on the disk may be read.
    pub(super) fn skip_to(&mut self, next: Seq) {
        self.committed = self.committed.max(next);
    }

    /// Forgets a record that was acked.
    pub(super) fn forget(&mut self, seq: Seq) -> Option<Hand> {
        let hand = self.hands.remove(seq)?;
        if let Some((_, counts)) = self.generations.range_mut(..=seq).next_back() {
            counts.waits.subtract(hand.items, hand.bytes as usize);
        }
        self.depth.subtract(hand.items, hand.bytes as usize);
        Some(hand)
    }

    /// The generation of a sequence.
    pub(super) fn generation_of(&self, seq: Seq) -> Option<Seq> {
        self.generations.range(..=seq).next_back().map(|(first, _)| *first)
    }

    /// The sequences of the generation that begins at `first`.
    pub(super) fn range_of(&self, first: Seq) -> Range<Seq> {
        let end = self.generations.range(first + 1..).next().map_or(self.committed, |(next, _)| *next);
        first..end
    }

    /// The sequence after the last one that is durable.
    pub(super) fn end(&self) -> Seq {
        self.committed
    }

    /// Where the first generation after `from` begins.
    pub(super) fn first_from(&self, from: Seq) -> Seq {
        self.generations.range(from..).next().map_or(self.committed, |(first, _)| *first)
    }

    /// How often a record was handed out; `None` if it is acked.
    pub(super) fn attempts_of_waiting(&self, seq: Seq) -> Option<u32> {
        match self.hands.get(seq) {
            Some(hand) => Some(hand.attempt),
            None if self.kind == Kind::Log && seq < self.position() => None,
            None => Some(self.crashed.get(&seq).copied().unwrap_or(0)),
        }
    }

    /// Begins a new generation.
    pub(super) fn add_generation(&mut self, first: Seq) {
        self.committed = self.committed.max(first);
        self.generations.insert(first, Counts::default());
    }

    /// Forgets a generation that is gone; what it still counted no longer waits.
    pub(super) fn remove_generation(&mut self, first: Seq) {
        let range = self.range_of(first);
        self.hands.remove_range(range.clone());
        self.ahead.retain(|fresh| !range.contains(&fresh.seq));
        if let Some(counts) = self.generations.remove(&first) {
            self.depth.less(counts.waits);
        }
    }

    /// Takes over what a generation turned out to hold: more after a failed write, less after damage.
    pub(super) fn recount(&mut self, first: Seq, holds: Depth) {
        let Some(counts) = self.generations.get_mut(&first) else { return };
        let (mut more, mut fewer) = (holds, counts.holds);
        more.less(counts.holds);
        fewer.less(holds);
        counts.holds = holds;
        for waits in [&mut counts.waits, &mut self.depth] {
            waits.plus(more);
            waits.less(fewer);
        }
    }

    /// Generations that nobody needs: everything in them was handed out and acked. In a work queue records may be
    /// claimed before their turn, so there it is enough that nothing of a generation waits.
    pub(super) fn drained(&self) -> Vec<Seq> {
        let position = self.position();
        let is_empty = |first: &Seq| {
            let waits = self.generations.get(first).map_or(0, |counts| counts.waits.records);
            self.kind == Kind::Work && waits == 0
        };
        let drained = |first: &Seq| {
            let range = self.range_of(*first);
            !self.reading && (position >= range.end || is_empty(first)) && !self.hands.any_in(range)
        };
        self.generations.keys().copied().filter(drained).collect()
    }

    /// Whether deleting drained generations is worth the writer's time: all but the newest always are, that one from
    /// `heavy` bytes on.
    pub(super) fn wants_sweep(&self, heavy: u64) -> bool {
        let last = self.last_generation();
        let is_heavy = |first: &Seq| self.generations.get(first).is_some_and(|counts| counts.holds.bytes >= heavy);
        self.drained().iter().any(|first| Some(*first) != last || is_heavy(first))
    }

    /// The generation that is appended to.
    pub(super) fn last_generation(&self) -> Option<Seq> {
        self.generations.keys().next_back().copied()
    }

    /// Puts right the count of the last generation once it is drained: records that were set aside as damaged were
    /// never acked.
    pub(super) fn settle_last(&mut self) {
        let Some(first) = self.last_generation() else { return };
        if self.drained().last() == Some(&first)
            && let Some(counts) = self.generations.get_mut(&first)
        {
            self.depth.less(counts.waits);
            counts.waits = Depth::default();
        }
    }

    /// What the cursor file should say now.
    pub(super) fn mark(&self) -> Mark {
        let mut mark = Mark::default();
        match self.kind {
            Kind::Log => {
                mark.position = self.position();
                mark.hands = self.hands.attempts().collect();
                let begun = self.generations.range(..mark.position);
                mark.acked = begun.map(|(first, counts)| (*first, acked(counts))).take(MOST_LEASED).collect();
            }
            Kind::Work => {
                let before = self.crashed.iter().map(|(seq, attempt)| (*seq, *attempt));
                mark.hands = self.hands.leased_attempts().chain(before).take(2 * MOST_LEASED).collect();
            }
        }
        mark
    }
}

fn acked(counts: &Counts) -> Depth {
    let mut acked = counts.holds;
    acked.less(counts.waits);
    acked
}
