//! Text that is cheap to copy and to cut: many pieces share one allocation.
//!
//! What arrives is copied once; host, program and message are parts of that copy. Text never changes; a piece keeps the
//! whole of it in memory as long as the piece lives.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An immutable string or a part of one; cloning counts a reference and copies nothing.
#[derive(Clone, Default)]
pub struct Text {
    whole: Arc<str>,
    start: u32,
    end: u32,
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        // The bounds were checked when the piece was cut; `get` costs the same as indexing and cannot panic.
        self.whole.get(self.range()).unwrap_or_default()
    }

    /// A piece of this text, shared. `part` should be borrowed from it; anything else is copied.
    pub fn part(&self, part: &str) -> Self {
        // At the same address there is the same text.
        self.counterpart(self, part).unwrap_or_else(|| Self::from(part))
    }

    /// The piece of this text that `part` is of `original`, of which this text is a copy; anything else is copied.
    pub fn part_of_copy(&self, original: &str, part: &str) -> Self {
        // Nothing but the content proves that it is a copy.
        self.counterpart(original, part).filter(|own| **own == *part).unwrap_or_else(|| Self::from(part))
    }

    /// The piece of this text at the place that `part` has in `original`; positions that lie outside are a stranger's.
    fn counterpart(&self, original: &str, part: &str) -> Option<Self> {
        if part.is_empty() {
            return Some(Self::default());
        }
        let start = u32::try_from(part.as_ptr().addr().wrapping_sub(original.as_ptr().addr())).ok()?;
        self.at(start..start.checked_add(u32::try_from(part.len()).ok()?)?)
    }

    /// The piece at these byte positions of this text; `None` where they are none.
    pub(super) fn at(&self, range: Range<u32>) -> Option<Self> {
        let start = self.start.checked_add(range.start)?;
        let end = self.start.checked_add(range.end)?;
        let valid = end <= self.end && self.whole.get(start as usize..end as usize).is_some();
        valid.then(|| Self { whole: Arc::clone(&self.whole), start, end })
    }

    /// Where this text lies in `other`, if it is a piece of it.
    pub(super) fn place_in(&self, other: &Self) -> Option<Range<u32>> {
        let within = other.start <= self.start && self.end <= other.end;
        (within && Arc::ptr_eq(&self.whole, &other.whole)).then(|| self.start - other.start..self.end - other.start)
    }

    /// The same text without the rest of what it was cut from, for what is kept for long.
    pub fn compact(&self) -> Self {
        if self.len() == self.whole.len() { self.clone() } else { Self::from(self.as_str()) }
    }

    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        // No input comes near 4 GiB (bodies and messages are bounded); positions of half the size keep events small.
        let end = u32::try_from(text.len())
            .unwrap_or_else(|_| u32::try_from(text.floor_char_boundary(u32::MAX as usize)).unwrap_or(0));
        if end == 0 { Self::default() } else { Self { whole: Arc::from(text), start: 0, end } }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Self {
        Self::from(&*text)
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        **self == **other
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_shares_the_whole_and_knows_where_it_lies() {
        let whole = Text::from("<13>host: über text");
        let message = whole.part(whole.split_once(": ").expect("there").1);
        assert_eq!(message, "über text");
        assert_eq!(message.place_in(&whole), Some(10..20));
        assert_eq!(whole.at(10..20).as_ref(), Some(&message));
        let word = message.part(&message[..5]);
        assert_eq!((&*word, word.place_in(&whole), word.place_in(&message)), ("über", Some(10..15), Some(0..5)));
        assert_eq!(whole.place_in(&message), None);
    }

    #[test]
    fn what_is_no_part_is_copied() {
        let whole = Text::from("one two");
        for stranger in [String::from("two"), "x".repeat(100)] {
            let copy = whole.part(&stranger);
            assert_eq!((&*copy, copy.place_in(&whole)), (stranger.as_str(), None));
        }
        assert_eq!(whole.part(""), Text::default());
    }

    #[test]
    fn positions_outside_or_within_a_character_are_refused() {
        let whole = Text::from("aüb");
        let part = whole.part(&whole[..3]);
        assert_eq!(part, "aü");
        for range in [0..4, 2..3, Range { start: 3, end: 1 }, 1..2, 0..u32::MAX, u32::MAX..u32::MAX] {
            assert_eq!(part.at(range.clone()), None, "{range:?}");
        }
        assert_eq!(part.at(1..3).as_deref(), Some("ü"));
    }
}
