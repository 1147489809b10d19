//! Windows: a few neighbouring bytes of a literal, as one number, by which it is looked for.
//!
//! A literal that is long enough waits at several windows, one for each remainder of their place by two or four, so that
//! only every second or fourth place of a message has to be looked at: one of them lies there. Windows of eight bytes hardly ever occur by chance; the
//! narrower ones are for short literals.

/// How literals of some length are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Class {
    /// Bytes of a window.
    pub(super) width: usize,
    /// Every how many places of a message one is looked at; as many windows of a literal are waited for.
    pub(super) stride: usize,
}

impl Class {
    /// Bytes that a literal needs to have a window for each remainder.
    pub(super) const fn span(self) -> usize {
        self.width + self.stride - 1
    }
}

/// The ways, the quickest first. Each that any literal needs costs a pass over the message.
pub(super) const CLASSES: [Class; 6] = [
    Class { width: 8, stride: 4 },
    Class { width: 4, stride: 2 },
    Class { width: 4, stride: 1 },
    Class { width: 3, stride: 1 },
    Class { width: 2, stride: 1 },
    Class { width: 1, stride: 1 },
];

/// Bytes of the widest window.
pub(super) const WIDEST: usize = 8;
/// A byte that no UTF-8 text has: windows that reach beyond a text's end hold it and are never waited for.
pub(super) const NO_TEXT: u8 = 0xff;

/// The place in [`CLASSES`] of the first class for literals of `length` bytes; `None` for no bytes.
pub(super) fn class(length: usize) -> Option<usize> {
    CLASSES.iter().position(|class| class.span() <= length)
}

/// The part of eight loaded bytes that belongs to a window of that width.
pub(super) const fn mask(width: usize) -> u64 {
    u64::MAX >> (8 * (WIDEST - width))
}

/// Spreads a window over all bits, the upper ones best: the golden ratio in 64 bits (Knuth's multiplicative hashing).
pub(super) const fn hash(window: u64) -> u64 {
    window.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Every window of that width in the bytes, by place.
pub(super) fn of(bytes: &[u8], width: usize) -> impl Iterator<Item = u64> {
    bytes.windows(width).map(|bytes| {
        let mut all = [0; WIDEST];
        all[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(all)
    })
}
