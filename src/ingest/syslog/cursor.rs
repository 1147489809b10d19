//! A position in a line that moves forward over ASCII. It never panics: a position that is no character boundary yields
//! empty text, and positions only move over ASCII bytes or to the end.

/// A place in a line. Copying it is how a reader tries something and goes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `text`.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The index of the next byte.
    pub(super) const fn position(&self) -> usize {
        self.at
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// The next byte.
    pub(super) fn peek(&self) -> Option<u8> {
        self.peek_after(0)
    }

    /// The byte `skip` bytes after the next one.
    pub(super) fn peek_after(&self, skip: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + skip).copied()
    }

    /// Moves over `bytes` bytes.
    pub(super) const fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Moves over `byte` if it is next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Moves over spaces and tabs; whether there were any.
    pub(super) fn skip_blanks(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
        self.at > start
    }

    /// Moves over one to `most` digits and returns their value and count; `None` (and no move) when there are none, or
    /// more digits follow.
    pub(super) fn number(&mut self, most: usize) -> Option<(u32, usize)> {
        let digits = self.text.as_bytes().get(self.at..)?;
        let mut value = 0_u32;
        let mut count = 0;
        for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
            if count == most {
                return None;
            }
            value = value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
            count += 1;
        }
        if count == 0 {
            return None;
        }
        self.at += count;
        Some((value, count))
    }

    /// The text up to the next blank or the end, without moving.
    pub(super) fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = memchr::memchr2(b' ', b'\t', rest.as_bytes()).unwrap_or(rest.len());
        rest.get(..end).unwrap_or("")
    }

    /// Whether a word ends here: a blank or the end of the line comes next, perhaps after a colon. A colon before
    /// anything else but a Cisco mnemonic is part of the word, as in an IPv6 address.
    pub(super) fn at_word_end(&self) -> bool {
        let after = usize::from(self.peek() == Some(b':'));
        self.peek_after(after).is_none_or(|byte| is_blank(byte) || (after == 1 && matches!(byte, b'%' | b'#')))
    }
}

/// Space or tab.
pub(super) const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}
