//! Windows: the few neighbouring bytes of a literal that are looked for, as one number.
//!
//! A literal has windows of the largest width that fits into it. Windows of eight bytes hardly ever occur by chance;
//! the narrower ones are for short literals.

/// Widths of windows in bytes, widest first.
pub(super) const WIDTHS: [usize; 5] = [8, 4, 3, 2, 1];
/// Bytes of the widest.
pub(super) const WIDEST: usize = WIDTHS[0];
/// A byte that no UTF-8 text has: windows that reach beyond a text's end hold it and are never looked for.
pub(super) const NO_TEXT: u8 = 0xff;

/// The place in [`WIDTHS`] of the widest window that fits into `length` bytes; `None` for no bytes.
pub(super) fn class(length: usize) -> Option<usize> {
    WIDTHS.iter().position(|width| *width <= length)
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
