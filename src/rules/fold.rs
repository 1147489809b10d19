//! What "ignoring case" means: two characters are the same if Unicode's simple case folding makes them the same.
//!
//! This is what the `regex` crate means by it too, so `contains` and `regex` rules agree, and the literals taken from a
//! regular expression can be searched in the folded message. Text is compared folded, never in its first form.
//! Folding is one character to one character: `ß` is not `ss`. Normal forms are left alone: `é` as one character
//! and as `e` with an accent differ, as they do to upstream.

/// The folded form of a text.
pub(super) fn fold_text(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().map(fold_char).collect()
}

/// The one character that stands for all characters equal to `c` apart from case.
pub(super) fn fold_char(c: char) -> char {
    match c {
        _ if c.is_ascii() => c.to_ascii_lowercase(),
        // No letters with case between the CJK radicals and the Yi syllables: the bulk of Asian text is done here.
        '\u{2e80}'..='\u{a4cf}' => c,
        // Full case mapping takes these two apart or together where simple folding (CaseFolding.txt, C and S) does not.
        'ı' | 'İ' => c,
        '\u{1fd3}' => '\u{390}',
        '\u{1fe3}' => '\u{3b0}',
        '\u{fb05}' => '\u{fb06}',
        _ => single(single(c, c.to_uppercase()), single(c, c.to_uppercase()).to_lowercase()),
    }
}

/// The mapped character if it is one, else the character itself.
fn single(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

    /// Every character of the first planes that hold letters with case, with the characters the regex crate takes as
    /// its equals.
    fn regex_equals(c: char) -> Vec<char> {
        let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
        class.case_fold_simple();
        class.ranges().iter().flat_map(|range| range.start()..=range.end()).collect()
    }

    #[test]
    fn what_the_regex_crate_takes_as_equal_folds_to_one_character() {
        for c in '\0'..='\u{1ffff}' {
            for other in regex_equals(c) {
                assert_eq!(fold_char(c), fold_char(other), "{c:?} and {other:?}");
            }
        }
    }

    #[test]
    fn what_folds_to_one_character_is_equal_for_the_regex_crate() {
        for c in '\0'..='\u{1ffff}' {
            let folded = fold_char(c);
            assert!(regex_equals(c).contains(&folded), "{c:?} became {folded:?}");
        }
    }

    #[test]
    fn folding_twice_changes_nothing_more() {
        for c in '\0'..='\u{1ffff}' {
            assert_eq!(fold_char(fold_char(c)), fold_char(c), "{c:?}");
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(fold_text(text), expected);
    }

    #[test]
    fn texts_are_folded_character_by_character() {
        check("LINK Down", "link down");
        check("ÄÖÜ ẞ ß", "äöü ß ß");
        check("ΣΊΣΥΦΟΣ ς", "σίσυφοσ σ");
        check("Ошибка 接口 DOWN", "ошибка 接口 down");
        check("\u{212a}elvin", "kelvin");
    }
}
