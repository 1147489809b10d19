//! How often a piece of text is to be expected in messages: as counted in a sample of the site's traffic, and where
//! that says nothing (no sample, or it does not occur there), by what messages of devices are full of.
//!
//! It only decides where to look for a rule, never whether the rule matches. It lives as long as rules are compiled.

use super::window::{self, CLASSES, Class};

/// Words that messages of network devices are full of (own list): literals that are part of one of them say little.
const COMMON_WORDS: &str = " interface changed state to down up link error failed failure warning critical connection from to for on \
 user login session port authentication accepted closed received packet neighbor process system line protocol \
 configured by console service started stopped timeout address invalid denied permit tcp udp src dst inside outside \
 ethernet gigabitethernet fastethernet tengigabitethernet vlan kernel daemon message server client request status \
 info notice debug the and has been with not is at in of root sshd session opened ";

/// A window that so many other literals have, too, costs twice as much as one of its own: more than one of them may have
/// to be compared whenever it occurs, which may be in a storm that the sample has not seen.
const SHARED: f64 = 32.0;

/// Widths whose windows are counted in the sample. Shorter literals are worth looking for only if their bytes are rare,
/// which counting does not change.
const COUNTED: [usize; 2] = [8, 4];

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
    /// For each of the [`COUNTED`] widths; nothing without a sample.
    seen: Option<[Counts; COUNTED.len()]>,
    messages: f64,
}

impl Rarity {
    pub(super) fn new(sample: &Sample) -> Self {
        let counts = || COUNTED.map(|width| Counts::of(window::of(&sample.text, width)));
        Self { seen: (!sample.is_empty()).then(counts), messages: f64::from(sample.messages.max(1)) }
    }

    /// How often the literal is to be expected in a message.
    pub(super) fn of(&self, literal: &[u8]) -> f64 {
        let expected = expected(score(literal));
        let width = COUNTED.into_iter().find(|width| *width <= literal.len());
        let Some((width, seen)) = width.and_then(|width| Some((width, self.seen(width)?))) else { return expected };
        // It does not occur more often than the rarest of its windows does.
        let most = window::of(literal, width).map(|window| seen.get(window)).min().unwrap_or(0);
        (most as f64 + expected) / self.messages
    }

    fn seen(&self, width: usize) -> Option<&Counts> {
        let place = COUNTED.iter().position(|counted| *counted == width)?;
        self.seen.as_ref().map(|seen| &seen[place])
    }
}

/// Chooses the windows of all literals of one class, so that those few are taken that occur and are shared least.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    rarity: &'a Rarity,
    class: Class,
    common: Counts,
    shared: Counts,
}

/// Places of a literal at which its windows may begin, at most.
const MAX_PLACES: usize = 64;

impl<'a> Choice<'a> {
    pub(super) fn new<'t>(rarity: &'a Rarity, class: usize, literals: impl Iterator<Item = &'t [u8]>) -> Self {
        let class = CLASSES[class];
        let windows = literals.flat_map(|literal| window::of(considered(literal, class), class.width));
        let common = Counts::of(window::of(COMMON_WORDS.as_bytes(), class.width));
        Self { rarity, class, common, shared: Counts::of(windows) }
    }

    /// Where in the literal the windows begin that are best to be waited for: one for each remainder of the place by the
    /// stride.
    pub(super) fn places(&self, literal: &[u8]) -> impl Iterator<Item = usize> {
        let literal = considered(literal, self.class);
        let windows = window::of(literal, self.class.width).zip(literal.windows(self.class.width));
        let costs: Vec<f64> = windows.map(|(window, bytes)| self.cost(window, bytes)).collect();
        let stride = self.class.stride;
        (0..stride).filter_map(move |first| {
            let places = (first..costs.len()).step_by(stride);
            places.min_by(|a, b| costs[*a].total_cmp(&costs[*b]))
        })
    }

    /// What it costs to wait for a window.
    fn cost(&self, window: u64, bytes: &[u8]) -> f64 {
        let bytes: u32 = bytes.iter().map(|byte| byte_score(*byte)).sum();
        let score = if self.common.get(window) > 0 { bytes / 2 } else { bytes };
        let seen = self.rarity.seen(self.class.width).map_or(0, |seen| seen.get(window));
        let others = self.shared.get(window).saturating_sub(1);
        (seen as f64 + expected(score)) * (1.0 + others as f64 / SHARED)
    }
}

/// The part of a literal in which its windows may be.
fn considered(literal: &[u8], class: Class) -> &[u8] {
    &literal[..literal.len().min(MAX_PLACES + class.span() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(messages: &[&str]) -> Sample {
        let mut sample = Sample::default();
        messages.iter().for_each(|message| sample.add(message));
        sample
    }

    /// The windows chosen for the first of several literals, in order of their places.
    fn check(messages: &[&str], literals: &[&str], expected: [&str; 4]) {
        let rarity = Rarity::new(&sample(messages));
        let class = window::class(11).expect("a class");
        let choice = Choice::new(&rarity, class, literals.iter().map(|literal| literal.as_bytes()));
        let mut places: Vec<usize> = choice.places(literals[0].as_bytes()).collect();
        places.sort_unstable();
        let chosen: Vec<&str> = places.into_iter().map(|place| &literals[0][place..place + 8]).collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn the_windows_are_where_the_sample_has_least() {
        let literal = ["qxzw-qxzwj reported"];
        check(&["QXZW-QXZWJ REPO"; 5], &literal, ["wj repor", "j report", " reporte", "reported"]);
        check(&["WJ REPORTED"; 5], &literal, ["qxzw-qxz", "xzw-qxzw", "zw-qxzwj", "w-qxzwj "]);
    }

    #[test]
    fn without_a_sample_they_are_where_bytes_are_rare_and_words_are_not_common() {
        check(&[], &["interface qkxz%jwv-zk"], ["qkxz%jwv", "kxz%jwv-", "xz%jwv-z", "z%jwv-zk"]);
    }

    #[test]
    fn windows_of_its_own_are_better_than_those_shared_by_many() {
        let mut literals = vec!["%qkx-jw%qkx-jw 10 down"];
        literals.extend(["%qkx-jw%qkx-jw 20"; 5_000]);
        check(&[], &literals, ["qkx-jw 1", "kx-jw 10", "x-jw 10 ", "-jw 10 d"]);
    }

    #[test]
    fn a_literal_is_as_rare_as_its_rarest_window() {
        let rarity = Rarity::new(&sample(&["link down", "link down", "fan failed", "disk"]));
        assert!((rarity.of(b"link down") - 0.5).abs() < 0.01);
        assert!((rarity.of(b"disk") - 0.25).abs() < 0.01);
        assert!(rarity.of(b"link downtime") < 0.01);
    }
}
