//! Finds all literals that occur in a message, whatever their number, in one pass for each class of windows.
//!
//! Each literal waits at one to four of its windows ([`super::window`]). At every place of the message, or every
//! second or fourth, the window there is looked up in a bit map that is small enough for the processor's caches; the few
//! that pass are looked up in a hash table, and the literals found there are compared with the message where they would
//! have to stand. Those of one length are told apart by a hash of that part of the message, so a thousand texts that
//! differ in a number only are compared as one. So a pass costs about the same for ten rules and for ten thousand, takes
//! no memory worth mentioning, and building it is a matter of choosing the windows well ([`super::rarity`]). The worst
//! message costs one comparison for each length of the literals that share a window, at each place looked at.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rarity::{Choice, Rarity};
use super::window::{self, CLASSES, Class, NO_TEXT, WIDEST};
use crate::model::Severity;

/// Bits of the map for each window, at least: one place in 32 to 64 passes by chance. The windows of 10,000 literals take
/// 256 KiB, those of 1,000 stay in the fastest cache.
const BITS_PER_WINDOW: usize = 32;
/// Bits of the smallest map.
const MIN_BITS: usize = 1 << 12;

/// A rule that waits for a literal or an OID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) rank: u32,
    /// The severity it wants.
    pub(super) severity: Option<Severity>,
    /// Nothing else remains to be compared.
    pub(super) proof: bool,
}

/// A literal and the rules that wait for it.
#[derive(Debug)]
struct Literal {
    /// The best rank among them.
    best: u32,
    text: Range<u32>,
    postings: Range<u32>,
}

/// Literals by number, from 0.
pub(super) type LiteralId = u32;

/// All literals, ready to be looked for.
#[derive(Debug, Default)]
pub(super) struct Index {
    tables: Vec<Table>,
    /// Those of one window stand together.
    groups: Box<[Group]>,
    /// Those of one group stand together, by hash.
    waiting: Box<[Waiting]>,
    literals: Box<[Literal]>,
    texts: Box<[u8]>,
    postings: Box<[Posting]>,
}

/// Literals of one length that have a window at the same place.
#[derive(Debug, Clone)]
struct Group {
    /// The best rank among them.
    best: u32,
    /// Where the window stands in the literal.
    place: u32,
    length: u32,
    waiting: Range<u32>,
}

/// A literal in a group.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Of its text.
    hash: u32,
    literal: LiteralId,
}

/// The windows of one class.
#[derive(Debug)]
struct Table {
    mask: u64,
    stride: usize,
    /// Which hashes occur.
    map: Box<[u64]>,
    map_shift: u32,
    /// Open addressing; at most half of them are taken.
    slots: Box<[Slot]>,
    slot_shift: u32,
}

/// A window and the groups of literals that wait there.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    window: u64,
    first: u32,
    /// 0 in a slot that is free.
    count: u32,
}

impl Index {
    /// Builds it from folded literals, none of them empty, and the rules that wait for each, best first.
    pub(super) fn new(literals: BTreeMap<Box<[u8]>, Vec<Posting>>, rarity: &Rarity) -> Self {
        let mut builder = Builder::default();
        literals.into_iter().for_each(|(text, postings)| builder.add(&text, &postings));
        (0..CLASSES.len()).for_each(|class| builder.add_class(class, rarity));
        Self {
            tables: builder.tables,
            groups: builder.groups.into_boxed_slice(),
            waiting: builder.waiting.into_boxed_slice(),
            literals: builder.literals.into_boxed_slice(),
            texts: builder.texts.into_boxed_slice(),
            postings: builder.postings.into_boxed_slice(),
        }
    }

    /// How many literals there are.
    pub(super) fn len(&self) -> usize {
        self.literals.len()
    }

    /// Calls `found` for each literal that occurs in the text and for which a rule with a rank below `best` waits, with
    /// its number and the rules, best first; more than once if it occurs more than once. `found` may lower `best`.
    /// `padded` is the text and what [`pad`] puts behind it. The answer is the number of groups compared.
    pub(super) fn search(
        &self,
        padded: &[u8],
        best: &mut u32,
        mut found: impl FnMut(LiteralId, &[Posting], &mut u32),
    ) -> u64 {
        let text = unpadded(padded);
        let mut compared = 0;
        for table in &self.tables {
            let mut from = 0;
            while let Some((at, window)) = table.next(padded, from) {
                from = at + table.stride;
                let slot = table.slots[table.slot(window)];
                for group in &self.groups[slot.first as usize..(slot.first + slot.count) as usize] {
                    if group.best >= *best {
                        continue;
                    }
                    compared += 1;
                    if let Some(id) = self.standing(group, text, at) {
                        let literal = &self.literals[id as usize];
                        if literal.best < *best {
                            found(id, range(&self.postings, &literal.postings), best);
                        }
                    }
                }
            }
        }
        compared
    }

    /// The literal of the group that stands in the text with its window at that place; texts differ, so there is one at
    /// most.
    fn standing(&self, group: &Group, text: &[u8], at: usize) -> Option<LiteralId> {
        let start = at.checked_sub(group.place as usize)?;
        let there = text.get(start..start + group.length as usize)?;
        let waiting = range(&self.waiting, &group.waiting);
        let equal = |waiting: &&Waiting| range(&self.texts, &self.literals[waiting.literal as usize].text) == there;
        if let [only] = waiting {
            return equal(&only).then_some(only.literal);
        }
        let hash = text_hash(there);
        let first = waiting.partition_point(|waiting| waiting.hash < hash);
        let same = waiting[first..].iter().take_while(|waiting| waiting.hash == hash);
        same.into_iter().find(equal).map(|waiting| waiting.literal)
    }
}

fn range<'a, T>(all: &'a [T], range: &Range<u32>) -> &'a [T] {
    &all[range.start as usize..range.end as usize]
}

/// A hash of a text, eight bytes at a time.
fn text_hash(text: &[u8]) -> u32 {
    let mut hash = 0_u64;
    let (words, rest) = text.as_chunks::<WIDEST>();
    for word in words {
        hash = window::hash(hash.rotate_left(29) ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; WIDEST];
    last[..rest.len()].copy_from_slice(rest);
    hash = window::hash(hash.rotate_left(29) ^ u64::from_le_bytes(last));
    (hash >> 32) as u32
}

/// Makes a window of the widest kind begin at each byte of a text.
pub(super) fn pad(text: &mut Vec<u8>) {
    text.extend_from_slice(&[NO_TEXT; WIDEST - 1]);
}

/// The text without what [`pad`] added.
pub(super) fn unpadded(padded: &[u8]) -> &[u8] {
    &padded[..padded.len().saturating_sub(WIDEST - 1)]
}

impl Table {
    fn new(class: Class, windows: usize) -> Self {
        let bits = (windows * BITS_PER_WINDOW).next_power_of_two().max(MIN_BITS);
        let slots = (windows * 2).next_power_of_two().max(2);
        Self {
            mask: window::mask(class.width),
            stride: class.stride,
            map: vec![0; bits / 64].into_boxed_slice(),
            map_shift: 64 - bits.ilog2(),
            slots: vec![Slot::default(); slots].into_boxed_slice(),
            slot_shift: 64 - slots.ilog2(),
        }
    }

    /// The next place, from `from` on, whose window passes the map. Kept apart and small, so that all it needs stays in
    /// registers: this is where the time goes.
    #[inline(never)]
    fn next(&self, padded: &[u8], from: usize) -> Option<(usize, u64)> {
        let (map, shift, mask, stride) = (&*self.map, self.map_shift, self.mask, self.stride);
        let mut at = from;
        while let Some(bytes) = padded.get(at..).and_then(<[u8]>::first_chunk::<WIDEST>) {
            let window = u64::from_le_bytes(*bytes) & mask;
            let bit = window::hash(window).wrapping_shr(shift);
            let bits = map.get((bit / 64) as usize)?;
            if bits.wrapping_shr(bit as u32) & 1 != 0 {
                return Some((at, window));
            }
            at = at.wrapping_add(stride);
        }
        None
    }

    /// The slot of the window, or the free one where it would be.
    fn slot(&self, window: u64) -> usize {
        let mut place = window::hash(window).wrapping_shr(self.slot_shift) as usize;
        // Ends, since half of the slots are free.
        while self.slots[place].count > 0 && self.slots[place].window != window {
            place = (place + 1) & (self.slots.len() - 1);
        }
        place
    }

    fn insert(&mut self, window: u64, first: u32, count: u32) {
        let bit = window::hash(window) >> self.map_shift;
        self.map[(bit / 64) as usize] |= 1 << (bit % 64);
        let place = self.slot(window);
        self.slots[place] = Slot { window, first, count };
    }
}

#[derive(Default)]
struct Builder {
    tables: Vec<Table>,
    groups: Vec<Group>,
    waiting: Vec<Waiting>,
    literals: Vec<Literal>,
    texts: Vec<u8>,
    postings: Vec<Posting>,
}

/// A literal at one of its windows; the order is the one in which the index keeps them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    window: u64,
    place: u32,
    length: u32,
    hash: u32,
    literal: LiteralId,
}

impl Builder {
    fn add(&mut self, text: &[u8], postings: &[Posting]) {
        let (text_start, postings_start) = (small(self.texts.len()), small(self.postings.len()));
        self.texts.extend_from_slice(text);
        self.postings.extend_from_slice(postings);
        self.literals.push(Literal {
            best: postings.first().map_or(u32::MAX, |posting| posting.rank),
            text: text_start..small(self.texts.len()),
            postings: postings_start..small(self.postings.len()),
        });
    }

    /// Finds the windows of the literals of one class.
    fn add_class(&mut self, class: usize, rarity: &Rarity) {
        let mut places = self.places(class, rarity);
        if places.is_empty() {
            return;
        }
        places.sort_unstable();
        let windows = || places.chunk_by(|a, b| a.window == b.window);
        let mut table = Table::new(CLASSES[class], windows().count());
        for window in windows() {
            let first = self.groups.len();
            for group in window.chunk_by(|a, b| (a.place, a.length) == (b.place, b.length)) {
                self.add_group(group);
            }
            table.insert(window[0].window, small(first), small(self.groups.len() - first));
        }
        self.tables.push(table);
    }

    fn places(&self, class: usize, rarity: &Rarity) -> Vec<Place> {
        let text = |literal: &Literal| range(&self.texts, &literal.text);
        let members = || (0..).zip(&self.literals).filter(|(_, one)| window::class(text(one).len()) == Some(class));
        let choice = Choice::new(rarity, class, members().map(|(_, literal)| text(literal)));
        let width = CLASSES[class].width;
        let mut places = Vec::new();
        for (id, literal) in members() {
            let text = text(literal);
            places.extend(choice.places(text).map(|place| Place {
                window: window::of(&text[place..place + width], width).next().unwrap_or_default(),
                place: small(place),
                length: small(text.len()),
                hash: text_hash(text),
                literal: id,
            }));
        }
        places
    }

    fn add_group(&mut self, places: &[Place]) {
        let first = small(self.waiting.len());
        self.waiting.extend(places.iter().map(|place| Waiting { hash: place.hash, literal: place.literal }));
        let best = places.iter().map(|place| self.literals[place.literal as usize].best).min();
        self.groups.push(Group {
            best: best.unwrap_or(u32::MAX),
            place: places[0].place,
            length: places[0].length,
            waiting: first..small(self.waiting.len()),
        });
    }
}

/// Rules and their texts are limited to some millions ([`super::compile::Limits`]).
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("the limits on rules keep numbers far below 2^32")
}
