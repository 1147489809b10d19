//! Finds all literals that occur in a message, whatever their number, in one pass for each width of window.
//!
//! Each literal waits at one of its windows ([`super::window`]). At every place of the message the window there is
//! looked up in a bit map that is small enough for the processor's caches; the few that pass are looked up in a hash
//! table, and the literals found there are compared with the message where they would have to stand. So the pass costs
//! about the same for ten rules and for ten thousand, takes no memory worth mentioning, and building it is a matter of
//! choosing the windows well ([`super::rarity`]). The worst message costs one comparison for each literal that shares
//! a window, at each place.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rarity::{Choice, Rarity};
use super::window::{self, NO_TEXT, WIDEST, WIDTHS};
use crate::model::Severity;

/// Bits of the map for each window: one place in 64 passes by chance.
const BITS_PER_WINDOW: usize = 64;
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
pub(super) struct Literal {
    /// The best rank among them.
    pub(super) best: u32,
    /// Where the window stands in it.
    place: u32,
    text: Range<u32>,
    postings: Range<u32>,
}

/// Literals by number; see [`Index::literal`].
pub(super) type LiteralId = u32;

/// All literals, ready to be looked for.
#[derive(Debug, Default)]
pub(super) struct Index {
    tables: Vec<Table>,
    /// Those of one window stand together, best rank first.
    literals: Box<[Literal]>,
    texts: Box<[u8]>,
    postings: Box<[Posting]>,
}

/// The windows of one width.
#[derive(Debug)]
struct Table {
    mask: u64,
    /// Which hashes occur.
    map: Box<[u64]>,
    map_shift: u32,
    /// Open addressing; at most half of them are taken.
    slots: Box<[Slot]>,
    slot_shift: u32,
}

/// A window and its literals.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    window: u64,
    first: u32,
    /// 0 in a slot that is free.
    count: u32,
}

impl Index {
    /// Builds it from folded literals, none of them empty, and the rules that wait for each, best first.
    pub(super) fn new(waiting: BTreeMap<Box<[u8]>, Vec<Posting>>, rarity: &Rarity) -> Self {
        let mut classes: [Vec<Waiting>; WIDTHS.len()] = Default::default();
        for (text, postings) in waiting {
            if let Some(class) = window::class(text.len()) {
                classes[class].push(Waiting { window: 0, place: 0, text, postings });
            }
        }
        let mut builder = Builder::default();
        for (class, literals) in classes.into_iter().enumerate().filter(|(_, literals)| !literals.is_empty()) {
            builder.add_class(class, literals, rarity);
        }
        Self {
            tables: builder.tables,
            literals: builder.literals.into_boxed_slice(),
            texts: builder.texts.into_boxed_slice(),
            postings: builder.postings.into_boxed_slice(),
        }
    }

    /// How many literals there are.
    pub(super) fn len(&self) -> usize {
        self.literals.len()
    }

    /// The rules that wait for a literal, best first.
    pub(super) fn postings(&self, literal: &Literal) -> &[Posting] {
        &self.postings[literal.postings.start as usize..literal.postings.end as usize]
    }

    /// Calls `found` with each literal that may occur in the text, its number and the place of its window. `padded` is
    /// the text and [`pad`] behind it. It ends early when `found` says that no more literals of the window matter.
    pub(super) fn search(&self, padded: &[u8], mut found: impl FnMut(LiteralId, &Literal, usize) -> Go) {
        for table in &self.tables {
            let mut from = 0;
            while let Some((at, window)) = table.next(padded, from) {
                from = at + 1;
                let slot = table.slots[table.slot(window)];
                let literals = &self.literals[slot.first as usize..(slot.first + slot.count) as usize];
                for (id, literal) in (slot.first..).zip(literals) {
                    if found(id, literal, at) == Go::NextPlace {
                        break;
                    }
                }
            }
        }
    }

    /// Whether the literal occurs in the text with its window at that place.
    pub(super) fn stands(&self, literal: &Literal, text: &[u8], at: usize) -> bool {
        let wanted = &self.texts[literal.text.start as usize..literal.text.end as usize];
        let Some(start) = at.checked_sub(literal.place as usize) else { return false };
        text.get(start..start + wanted.len()) == Some(wanted)
    }
}

/// Whether the other literals of a window matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    On,
    NextPlace,
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
    fn new(width: usize, windows: usize) -> Self {
        let bits = (windows * BITS_PER_WINDOW).next_power_of_two().max(MIN_BITS);
        let slots = (windows * 2).next_power_of_two().max(2);
        Self {
            mask: window::mask(width),
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
        let (map, shift, mask) = (&*self.map, self.map_shift, self.mask);
        let mut windows = padded.get(from..)?.windows(WIDEST).map(|bytes| {
            let mut all = [0; WIDEST];
            all.copy_from_slice(bytes);
            u64::from_le_bytes(all) & mask
        });
        let passes = |window: u64| {
            let bit = window::hash(window).wrapping_shr(shift);
            map.get((bit / 64) as usize).is_some_and(|bits| bits.wrapping_shr(bit as u32) & 1 != 0)
        };
        let mut window = 0;
        let place = windows.position(|next| {
            window = next;
            passes(next)
        })?;
        Some((from + place, window))
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

/// A literal before it has its place.
struct Waiting {
    window: u64,
    place: usize,
    text: Box<[u8]>,
    postings: Vec<Posting>,
}

#[derive(Default)]
struct Builder {
    tables: Vec<Table>,
    literals: Vec<Literal>,
    texts: Vec<u8>,
    postings: Vec<Posting>,
}

impl Builder {
    fn add_class(&mut self, class: usize, mut waiting: Vec<Waiting>, rarity: &Rarity) {
        let width = WIDTHS[class];
        let choice = Choice::new(rarity, class, waiting.iter().map(|literal| &*literal.text));
        for literal in &mut waiting {
            literal.place = choice.place(&literal.text);
            literal.window = window::of(&literal.text[literal.place..], width).next().unwrap_or_default();
        }
        waiting.sort_by_key(|literal| (literal.window, literal.postings.first().map(|posting| posting.rank)));
        let groups = || waiting.chunk_by(|a, b| a.window == b.window);
        let mut table = Table::new(width, groups().count());
        for group in groups() {
            table.insert(group[0].window, small(self.literals.len()), small(group.len()));
            group.iter().for_each(|literal| self.add(literal));
        }
        self.tables.push(table);
    }

    fn add(&mut self, waiting: &Waiting) {
        let (text, postings) = (small(self.texts.len()), small(self.postings.len()));
        self.texts.extend_from_slice(&waiting.text);
        self.postings.extend_from_slice(&waiting.postings);
        self.literals.push(Literal {
            best: waiting.postings.first().map_or(u32::MAX, |posting| posting.rank),
            place: small(waiting.place),
            text: text..small(self.texts.len()),
            postings: postings..small(self.postings.len()),
        });
    }
}

/// Rules and their texts are limited to some millions ([`super::compile::Limits`]).
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("the limits on rules keep numbers far below 2^32")
}
