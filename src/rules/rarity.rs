//! How often a piece of text is to be expected in messages: as counted in a sample of the site's traffic, and where
//! that says nothing (no sample, or it does not occur there), by what messages of devices are full of.
//!
//! It only decides where to look for a rule, never whether the rule matches. It lives as long as rules are compiled.

use super::window::{self, WIDTHS};

/// Words that messages of network devices are full of (own list): literals that are part of one of them say little.
const COMMON_WORDS: &str = " interface changed state to down up link error failed failure warning critical connection from to for on \
 user login session port authentication accepted closed received packet neighbor process system line protocol \
 configured by console service started stopped timeout address invalid denied permit tcp udp src dst inside outside \
 ethernet gigabitethernet fastethernet tengigabitethernet vlan kernel daemon message server client request status \
 info notice debug the and has been with not is at in of root sshd session opened ";

/// Windows sharing their place with as many others cost twice as much as one of its own: the rules behind it are all
/// compared whenever it occurs, which may be in a storm that the sample has not seen.
const SHARED: f64 = 8.0;

/// Shorter literals are worth looking for only if their bytes are rare, which counting does not change.
const NARROWEST_COUNTED: usize = 4;

/// How telling a literal is: about 4 for a rare byte, 1 for a common one, half if it is part of a common word.
pub(super) fn score(literal: &[u8]) -> u32 {
    let bytes: u32 = literal.iter().map(|byte| byte_score(*byte)).sum();
    let common = memchr::memmem::find(COMMON_WORDS.as_bytes(), literal).is_some();
    if common { bytes / 2 } else { bytes }
}

/// Rarity of a byte in syslog text, coarsely.
const fn byte_score(byte: u8) -> u32 {
    match byte {
        b' ' => 1,
        b'e' | b't' | b'a' | b'i' | b'n' | b'o' | b's' | b'r' | b'0' | b'1' | b'2' | b'.' | b':' => 2,
        b'd' | b'c' | b'l' | b'p' | b'u' | b'f' | b'm' | b'g' | b'h' | b'3'..=b'9' | b'-' | b'/' | b',' => 3,
        _ => 4,
    }
}

/// A score as a share of messages: two points halve it.
fn expected(score: u32) -> f64 {
    (-f64::from(score) / 2.0).exp2()
}

/// Real messages, folded, to choose by.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// One after the other, each ended by a byte that no text has.
    text: Vec<u8>,
    messages: u32,
}

impl Sample {
    /// Adds a message. Who adds them bounds their number and length.
    pub fn add(&mut self, message: &str) {
        super::fold::fold_into(message, &mut self.text);
        self.text.push(window::NO_TEXT);
        self.messages += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }
}

/// How often each window of one width occurs.
#[derive(Debug, Default)]
struct Counts {
    /// A hash of each window, as often as it occurs, sorted.
    hashes: Vec<u32>,
    /// Where the hashes with each value of their upper bits begin.
    starts: Vec<u32>,
}

/// Upper bits of the hashes by which [`Counts`] finds its way: half a million windows leave some hundred to search.
const START_BITS: u32 = 12;

impl Counts {
    fn of(windows: impl Iterator<Item = u64>) -> Self {
        let mut hashes: Vec<u32> = windows.map(short_hash).collect();
        hashes.sort_unstable();
        let start = |upper: u32| hashes.partition_point(|hash| hash >> (u32::BITS - START_BITS) < upper);
        let starts = (0..=1 << START_BITS).map(|upper| u32::try_from(start(upper)).unwrap_or(u32::MAX)).collect();
        Self { hashes, starts }
    }

    fn get(&self, window: u64) -> usize {
        let hash = short_hash(window);
        let upper = (hash >> (u32::BITS - START_BITS)) as usize;
        let near = &self.hashes[self.starts[upper] as usize..self.starts[upper + 1] as usize];
        near.partition_point(|other| *other <= hash) - near.partition_point(|other| *other < hash)
    }
}

fn short_hash(window: u64) -> u32 {
    (window::hash(window) >> 32) as u32
}

/// What is known about the traffic.
#[derive(Debug)]
pub(super) struct Rarity {
    /// By place in [`WIDTHS`]; nothing without a sample, and for widths too narrow for counting to tell anything.
    seen: [Option<Counts>; WIDTHS.len()],
    common: [Counts; WIDTHS.len()],
    messages: f64,
}

impl Rarity {
    pub(super) fn new(sample: &Sample) -> Self {
        let windows = |width: usize| Counts::of(window::of(&sample.text, width));
        Self {
            seen: WIDTHS.map(|width| (!sample.is_empty() && width >= NARROWEST_COUNTED).then(|| windows(width))),
            common: WIDTHS.map(|width| Counts::of(window::of(COMMON_WORDS.as_bytes(), width))),
            messages: f64::from(sample.messages.max(1)),
        }
    }

    /// How often the literal is to be expected in a message.
    pub(super) fn of(&self, literal: &[u8]) -> f64 {
        let class = window::class(literal.len());
        let Some(seen) = class.and_then(|class| self.seen[class].as_ref()) else { return expected(score(literal)) };
        let width = class.map_or(1, |class| WIDTHS[class]);
        // It does not occur more often than the rarest of its windows does.
        let most = window::of(literal, width).map(|window| seen.get(window)).min().unwrap_or(0);
        (most as f64 + expected(score(literal))) / self.messages
    }

    /// What it costs to look for a window that waits for `shared` other literals, too.
    fn cost(&self, class: usize, window: u64, bytes: &[u8], shared: usize) -> f64 {
        let bytes: u32 = bytes.iter().map(|byte| byte_score(*byte)).sum();
        let score = if self.common[class].get(window) > 0 { bytes / 2 } else { bytes };
        let seen = self.seen[class].as_ref().map_or(0, |seen| seen.get(window));
        (seen as f64 + expected(score)) * (1.0 + shared as f64 / SHARED)
    }
}

/// The windows of all literals of one class, to choose those that few of them share.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    rarity: &'a Rarity,
    class: usize,
    shared: Counts,
}

/// Places of a literal at which its window may be, at most.
const MAX_PLACES: usize = 64;

fn places(literal: &[u8], width: usize) -> &[u8] {
    &literal[..literal.len().min(MAX_PLACES + width - 1)]
}

impl<'a> Choice<'a> {
    pub(super) fn new<'t>(rarity: &'a Rarity, class: usize, literals: impl Iterator<Item = &'t [u8]>) -> Self {
        let width = WIDTHS[class];
        let shared = Counts::of(literals.flat_map(|literal| window::of(places(literal, width), width)));
        Self { rarity, class, shared }
    }

    /// Where in the literal the window begins that is best to be looked for.
    pub(super) fn place(&self, literal: &[u8]) -> usize {
        let width = WIDTHS[self.class];
        let literal = places(literal, width);
        let mut best = (0, f64::INFINITY);
        for (place, window) in window::of(literal, width).enumerate() {
            let shared = self.shared.get(window).saturating_sub(1);
            let cost = self.rarity.cost(self.class, window, &literal[place..place + width], shared);
            if cost < best.1 {
                best = (place, cost);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(messages: &[&str]) -> Sample {
        let mut sample = Sample::default();
        messages.iter().for_each(|message| sample.add(message));
        sample
    }

    fn check(messages: &[&str], literals: &[&str], expected: &[&str]) {
        let rarity = Rarity::new(&sample(messages));
        let literals: Vec<&[u8]> = literals.iter().map(|literal| literal.as_bytes()).collect();
        let choice = Choice::new(&rarity, window::class(8).expect("a class"), literals.iter().copied());
        let chosen: Vec<&str> = literals
            .iter()
            .map(|literal| std::str::from_utf8(&literal[choice.place(literal)..][..8]).expect("text"))
            .collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn the_window_is_where_the_sample_has_least() {
        check(&["QXZW-QXZW REPORT"; 5], &["qxzw-qxzw reported"], &[" reporte"]);
        check(&["reported by x"; 5], &["qxzw-qxzw reported"], &["qxzw-qxz"]);
    }

    #[test]
    fn without_a_sample_it_is_where_bytes_are_rare_and_words_are_not_common() {
        check(&[], &["interface qkxz%jwv"], &["qkxz%jwv"]);
    }

    #[test]
    fn a_window_of_its_own_is_better_than_one_shared_by_many() {
        let codes: Vec<String> = (10..60).map(|code| format!("%qkx-jw {code}")).collect();
        let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
        let rarity = Rarity::new(&Sample::default());
        let choice = Choice::new(&rarity, window::class(8).expect("a class"), codes.iter().map(|code| code.as_bytes()));
        assert!(codes.iter().all(|code| choice.place(code.as_bytes()) == 2));
    }

    #[test]
    fn a_literal_is_as_rare_as_its_rarest_window() {
        let rarity = Rarity::new(&sample(&["link down", "link down", "fan failed", "disk"]));
        assert!((rarity.of(b"link down") - 0.5).abs() < 0.01);
        assert!((rarity.of(b"disk") - 0.25).abs() < 0.01);
        assert!(rarity.of(b"link downtime") < 0.01);
    }
}
