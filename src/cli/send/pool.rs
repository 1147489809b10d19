//! Messages laid out in one buffer, framed and ready to be written, of which only the running number changes.
//!
//! A load generator shares the machine with what it measures. Copying each line into a buffer and dividing its number
//! into digits cost 70 ns a line over TCP, besides the kernel's 35 ns; overwriting ten bytes where they lie costs half of
//! that, and one write takes as many messages as lie side by side. It does no I/O and knows no protocol.

use std::ops::Range;

/// Bytes that all connections of a run may lay out together; a run that needs more makes its messages one by one.
const MOST_BYTES: usize = 64 << 20;
/// Digits of the largest number there is.
const DIGITS: usize = 20;

/// A message to lay out.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Where the digits of its running number start in it, and how many there are.
    pub number: Option<(usize, usize)>,
}

/// The messages of one connection, sent in turn again and again.
#[derive(Debug)]
pub struct Pool {
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// The next message.
    next: usize,
    /// Its running number.
    number: Decimal,
    step: u64,
}

/// Where one message lies.
#[derive(Debug)]
struct Place {
    /// Framing included.
    whole: Range<usize>,
    digits: Range<usize>,
}

/// Some messages that lie side by side.
#[derive(Debug)]
pub struct Slice<'a> {
    /// All of them.
    pub bytes: &'a [u8],
    places: &'a [Place],
}

impl<'a> Slice<'a> {
    /// How many messages there are.
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Each on its own.
    pub fn messages(&self) -> impl Iterator<Item = &'a [u8]> {
        let start = self.places.first().map_or(0, |place| place.whole.start);
        let bytes = self.bytes;
        self.places.iter().map(move |place| &bytes[place.whole.start - start..place.whole.end - start])
    }
}

impl Pool {
    /// Lays out `messages`; the first carries the number `first`, each following one `step` more. `frame` appends a
    /// message with its framing and answers where in what it appended the message begins. `None` if they are too large.
    pub fn new<'a>(
        messages: impl Iterator<Item = Message<'a>>,
        first: u64,
        step: u64,
        frame: impl Fn(&[u8], &mut Vec<u8>) -> usize,
    ) -> Option<Self> {
        let most = MOST_BYTES / usize::try_from(step).unwrap_or(usize::MAX).max(1);
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for message in messages {
            let start = bytes.len();
            let inside = start + frame(message.bytes, &mut bytes);
            let (at, length) = message.number.unwrap_or((0, 0));
            places.push(Place { whole: start..bytes.len(), digits: inside + at..inside + at + length.min(DIGITS) });
            if bytes.len() > most {
                return None;
            }
        }
        (!places.is_empty()).then(|| Self { bytes, places, next: 0, number: Decimal::new(first), step })
    }

    /// Numbers the next messages, at most `most` and about `most_bytes` in all (one at least), and gives them. The end
    /// of the buffer ends them too, so there may be fewer.
    pub fn take(&mut self, most: u64, most_bytes: usize) -> Slice<'_> {
        let first = self.next;
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        let start = self.places[first].whole.start;
        let mut end = first;
        while end < self.places.len() && end - first < most {
            let place = &self.places[end];
            let digits = place.digits.clone();
            let length = digits.len();
            self.bytes[digits].copy_from_slice(&self.number.digits[DIGITS - length..]);
            self.number.add(self.step);
            end += 1;
            if place.whole.end - start >= most_bytes {
                break;
            }
        }
        self.next = if end == self.places.len() { 0 } else { end };
        let places = &self.places[first..end];
        let stop = places.last().map_or(start, |place| place.whole.end);
        Slice { bytes: &self.bytes[start..stop], places }
    }
}

/// A number kept as its digits, because counting up is cheaper than dividing anew for each message.
#[derive(Debug, Clone)]
struct Decimal {
    digits: [u8; DIGITS],
}

impl Decimal {
    fn new(number: u64) -> Self {
        let mut decimal = Self { digits: [b'0'; DIGITS] };
        decimal.add(number);
        decimal
    }

    /// Of a sum too long for its place the last digits stay.
    fn add(&mut self, mut carry: u64) {
        for digit in self.digits.iter_mut().rev() {
            if carry == 0 {
                return;
            }
            carry += u64::from(*digit - b'0');
            *digit = b'0' + (carry % 10) as u8;
            carry /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(texts: &[&str], first: u64, step: u64) -> Pool {
        let messages: Vec<Message<'_>> = texts
            .iter()
            .map(|text| Message { bytes: text.as_bytes(), number: text.find('0').map(|at| (at, 2)) })
            .collect();
        let frame = |message: &[u8], out: &mut Vec<u8>| {
            out.push(b'[');
            out.extend_from_slice(message);
            out.push(b']');
            1
        };
        Pool::new(messages.into_iter(), first, step, frame).expect("small")
    }

    #[test]
    fn messages_come_in_turn_with_their_numbers() {
        let mut pool = pool(&["a00", "b00x", "none"], 9, 2);
        let mut seen = Vec::new();
        for most in [2, 5, 1, 9] {
            let slice = pool.take(most, usize::MAX);
            seen.push((slice.len(), String::from_utf8(slice.bytes.to_vec()).expect("text")));
        }
        let expected = [(2, "[a09][b11x]"), (1, "[none]"), (1, "[a15]"), (2, "[b17x][none]")];
        assert_eq!(seen, expected.map(|(count, text)| (count, text.to_owned())));
    }

    #[test]
    fn a_slice_ends_with_the_message_that_fills_it() {
        let mut pool = pool(&["a00", "b00", "c00"], 98, 1);
        let slice = pool.take(9, 6);
        let messages: Vec<&[u8]> = slice.messages().collect();
        assert_eq!(messages, [&b"[a98]"[..], b"[b99]"]);
        assert_eq!(pool.take(9, 1).bytes, b"[c00]", "of a number too long for its place the last digits stay");
    }

    #[test]
    fn counting_carries_over_every_digit() {
        let mut decimal = Decimal::new(999_999);
        decimal.add(1);
        assert_eq!(&decimal.digits, b"00000000000001000000");
        decimal.add(255);
        assert_eq!(&decimal.digits, b"00000000000001000255");
        assert_eq!(Decimal::new(u64::MAX).digits, u64::MAX.to_string().as_bytes());
    }

    #[test]
    fn what_takes_too_much_memory_is_not_laid_out() {
        let large = vec![b'x'; 1 << 20];
        let messages = vec![Message { bytes: &large, number: None }; 40];
        let frame = |message: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(message);
            0
        };
        assert!(Pool::new(messages.clone().into_iter(), 1, 1, frame).is_some());
        assert!(Pool::new(messages.into_iter(), 1, 2, frame).is_none());
    }
}
