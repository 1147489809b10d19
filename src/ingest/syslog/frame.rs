//! Messages in a stream of bytes (RFC 6587, RFC 5425): octet counting and line framing, told apart for each frame.
//!
//! A frame that starts with a digit from 1 to 9, further digits and a blank is counted; any other ends at LF or NUL. LF,
//! CR and NUL between frames are passed over. Of a frame longer than the limit the beginning is given out, marked as
//! cut, and the rest is passed over as it arrives, so that memory is bounded by the limit and one read. The framer does
//! no I/O; what it holds is lost in a crash.

use bytes::{Buf, BytesMut};

/// Largest count that is believed. Genuine messages are far shorter; a larger number is the start of a line of text.
const LARGEST_COUNT: usize = 16 << 20;

/// Digits of [`LARGEST_COUNT`].
const COUNT_DIGITS: usize = 8;

/// Room made for one read, at least and at most, in bytes: idle connections stay small, busy ones read much at once.
const SMALLEST_READ: usize = 4 << 10;
const LARGEST_READ: usize = 64 << 10;

/// One message as it stands in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its bytes, without count and delimiter.
    pub bytes: &'a [u8],
    /// Whether its end is missing.
    pub cut: bool,
}

/// Where in a frame the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Counted { left: usize },
    Line,
    PassingCounted { left: usize },
    PassingLine,
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    /// Bytes of the buffer that were given out already.
    used: usize,
    /// Bytes behind `used` that hold no end of the line.
    searched: usize,
    state: State,
    longest: usize,
    next_read: usize,
}

impl Framer {
    /// For messages of up to `longest` bytes.
    pub fn new(longest: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            used: 0,
            searched: 0,
            state: State::Between,
            longest: longest.max(1),
            next_read: SMALLEST_READ,
        }
    }

    /// The buffer with room for the next read behind what it holds.
    pub fn room(&mut self) -> &mut BytesMut {
        self.buffer.advance(self.used);
        self.used = 0;
        if self.buffer.is_empty() && self.next_read == SMALLEST_READ && self.buffer.capacity() > LARGEST_READ {
            // A burst is over; an idle connection keeps no large buffer.
            self.buffer = BytesMut::new();
        }
        self.buffer.reserve(self.next_read);
        &mut self.buffer
    }

    /// Bytes that were read and not given out.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.used
    }

    /// Tells how much the last read brought, which decides how much the next one asks for.
    pub fn note_read(&mut self, bytes: usize) {
        self.next_read = match bytes {
            _ if bytes >= self.next_read => (self.next_read * 2).min(LARGEST_READ),
            _ if bytes < self.next_read / 4 => (self.next_read / 2).max(SMALLEST_READ),
            _ => self.next_read,
        };
    }

    /// The next complete frame in the buffer; `None` when more must be read first.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        loop {
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            match self.state {
                State::Between => {
                    let gap = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | 0)).count();
                    self.used += gap;
                    self.state = start_of(rest.get(gap..)?)?.entered(&mut self.used);
                    self.searched = 0;
                }
                State::Counted { left } => {
                    let kept = left.min(self.longest);
                    if rest.len() < kept {
                        return None;
                    }
                    let cut = left > kept;
                    self.state = if cut { State::PassingCounted { left: left - kept } } else { State::Between };
                    return self.give(kept, 0, cut);
                }
                State::Line => {
                    let end = memchr::memchr2(b'\n', 0, rest.get(self.searched..).unwrap_or_default());
                    let length = end.map(|end| self.searched + end);
                    if length.unwrap_or(rest.len()) > self.longest {
                        self.state = State::PassingLine;
                        return self.give(self.longest, 0, true);
                    }
                    let Some(length) = length else {
                        self.searched = rest.len();
                        return None;
                    };
                    self.state = State::Between;
                    return self.give(length, 1, false);
                }
                State::PassingCounted { left } => {
                    let passed = left.min(rest.len());
                    self.used += passed;
                    if passed < left {
                        self.state = State::PassingCounted { left: left - passed };
                        return None;
                    }
                    self.state = State::Between;
                }
                State::PassingLine => {
                    let Some(end) = memchr::memchr2(b'\n', 0, rest) else {
                        self.used = self.buffer.len();
                        return None;
                    };
                    self.used += end + 1;
                    self.state = State::Between;
                }
            }
        }
    }

    /// What is left when the stream has ended: the last line without its end, or a counted frame that broke off. To be
    /// called when [`Framer::next_frame`] has nothing more.
    pub fn last_frame(&mut self) -> Option<Frame<'_>> {
        let left = self.buffer.len() - self.used;
        let cut = matches!(self.state, State::Counted { .. });
        let unfinished = cut || matches!(self.state, State::Line | State::Between);
        self.state = State::Between;
        if left == 0 || !unfinished {
            return None;
        }
        self.give(left, 0, cut)
    }

    /// Gives out the next `length` bytes and passes over `delimiter` more.
    fn give(&mut self, length: usize, delimiter: usize, cut: bool) -> Option<Frame<'_>> {
        let start = self.used;
        self.used += length + delimiter;
        self.searched = 0;
        let bytes = self.buffer.get(start..start + length)?;
        Some(Frame { bytes, cut })
    }
}

/// What kind of frame begins.
enum Start {
    Counted { header: usize, count: usize },
    Line,
}

impl Start {
    fn entered(self, used: &mut usize) -> State {
        match self {
            Self::Counted { header, count } => {
                *used += header;
                State::Counted { left: count }
            }
            Self::Line => State::Line,
        }
    }
}

/// Decides by the first bytes of a frame; `None` if they do not suffice yet.
fn start_of(bytes: &[u8]) -> Option<Start> {
    if !matches!(bytes.first()?, b'1'..=b'9') {
        return Some(Start::Line);
    }
    let digits = bytes.iter().take(COUNT_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits > COUNT_DIGITS {
        return Some(Start::Line);
    }
    if *bytes.get(digits)? != b' ' {
        return Some(Start::Line);
    }
    let count = bytes.iter().take(digits).fold(0, |count, digit| count * 10 + usize::from(digit - b'0'));
    Some(if count > LARGEST_COUNT { Start::Line } else { Start::Counted { header: digits + 1, count } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 12;

    /// Frames as text; a cut one ends in `…`.
    fn frames(pieces: &[&[u8]]) -> Vec<String> {
        let mut framer = Framer::new(LONGEST);
        let mut found = Vec::new();
        let text =
            |frame: Frame<'_>| format!("{}{}", String::from_utf8_lossy(frame.bytes), if frame.cut { "…" } else { "" });
        for piece in pieces {
            framer.room().extend_from_slice(piece);
            framer.note_read(piece.len());
            while let Some(frame) = framer.next_frame() {
                found.push(text(frame));
            }
        }
        found.extend(framer.last_frame().map(text));
        assert!(framer.last_frame().is_none(), "nothing is left");
        found
    }

    /// Whole, byte by byte, and split at every position, the stream holds the same frames.
    fn check(stream: &[u8], expected: &[&str]) {
        let name = String::from_utf8_lossy(stream);
        assert_eq!(frames(&[stream]), expected, "{name:?} whole");
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frames(&bytes), expected, "{name:?} byte by byte");
        for at in 0..=stream.len() {
            let (left, right) = stream.split_at(at);
            assert_eq!(frames(&[left, right]), expected, "{name:?} split at {at}");
        }
    }

    #[test]
    fn lines_end_at_lf_or_nul() {
        check(b"<1>a\n<2>b\n", &["<1>a", "<2>b"]);
        check(b"<1>a\0<2>b\0\0\n", &["<1>a", "<2>b"]);
        check(b"<1>a\r\n\r\n\n<2>b", &["<1>a\r", "<2>b"]);
        check(b"", &[]);
        check(b"\n\0\r\n", &[]);
    }

    #[test]
    fn counted_frames_hold_anything() {
        check(b"4 <1>a5 <2>bc", &["<1>a", "<2>bc"]);
        check(b"6 a\nb\0c\n", &["a\nb\0c\n"]);
        check(b"4 <1>a\n4 <2>b\n", &["<1>a", "<2>b"]);
        check(b"4 <1>a\r\n\0\n4 <2>b", &["<1>a", "<2>b"]);
        check(b"12 <1>567890123", &["<1>567890123".get(..12).expect("ascii")]);
    }

    #[test]
    fn the_framing_is_decided_for_each_frame() {
        check(b"4 <1>a<2>line\n5 <3>bc<4>d\0", &["<1>a", "<2>line", "<3>bc", "<4>d"]);
        check(b"<1>a\n4 <2>b<3>c", &["<1>a", "<2>b", "<3>c"]);
    }

    #[test]
    fn digits_that_are_no_count_begin_a_line() {
        check(b"10.0.0.1 up\n", &["10.0.0.1 up"]);
        check(b"0 a\n", &["0 a"]);
        check(b"42\n<1>a\n", &["42", "<1>a"]);
        check(b"16777217 a\nb\n", &["16777217 a", "b"]);
        check(b"999999999 a\nb\n", &["999999999 a", "b"]);
        check(b"123", &["123"]);
    }

    #[test]
    fn a_frame_that_is_too_long_is_cut_and_makes_no_further_one() {
        check(b"<1>4567890123456\n<2>b\n", &["<1>456789012…", "<2>b"]);
        check(b"<1>456789012\n<2>b\n", &["<1>456789012", "<2>b"]);
        check(b"<1>4567890123", &["<1>456789012…"]);
        check(b"21 <1>45678901234\n6\n7890<2>b\n", &["<1>456789012…", "<2>b"]);
        check(b"20 <1>45678901234", &["<1>456789012…"]);
        check(b"99999 <1>45678901234\n99\n", &["<1>456789012…"]);
    }

    #[test]
    fn a_counted_frame_that_breaks_off_is_kept_as_cut() {
        check(b"4 <1>a9 <2>b", &["<1>a", "<2>b…"]);
        check(b"9 ", &[]);
    }

    #[test]
    fn the_buffer_does_not_grow_with_a_line_that_never_ends() {
        let mut framer = Framer::new(LONGEST);
        let mut given = 0;
        for _ in 0..1_000 {
            framer.room().extend_from_slice(&[b'x'; 10_000]);
            framer.note_read(10_000);
            while framer.next_frame().is_some() {
                given += 1;
            }
        }
        assert_eq!(given, 1);
        assert!(framer.buffer.capacity() <= 4 * LARGEST_READ, "{}", framer.buffer.capacity());
    }
}
