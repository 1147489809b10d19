//! What "ignoring case" means: two characters are the same if Unicode's simple case folding makes them the same.
//!
//! This is what the `regex` crate means by it too, so `contains` and `regex` rules agree, and the literals taken from a
//! regular expression can be searched in the folded message. Text is compared folded, never in its first form.
//! Folding is one character to one character: `ß` is not `ss`. Normal forms are left alone: `é` as one character
//! and as `e` with an accent differ, as they do to upstream.

/// The folded form of a text.
pub(super) fn fold_text(text: &str) -> Vec<u8> {
    let mut folded = Vec::with_capacity(text.len());
    fold_into(text, &mut folded);
    folded
}

/// Appends the folded form of a text, which is text, too.
pub(super) fn fold_into(text: &str, folded: &mut Vec<u8>) {
    let start = folded.len();
    if text.is_ascii() {
        folded.extend_from_slice(text.as_bytes());
        folded[start..].make_ascii_lowercase();
        return;
    }
    let mut bytes = [0; char::MAX.len_utf8()];
    for character in text.chars() {
        folded.extend_from_slice(fold_char(character).encode_utf8(&mut bytes).as_bytes());
    }
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

    /// The characters that the regex crate takes as equal to `c`.
    fn regex_equals(c: char) -> Vec<char> {
        let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
        class.case_fold_simple();
        class.ranges().iter().flat_map(|range| range.start()..=range.end()).collect()
    }

    #[test]
    fn folding_agrees_with_the_regex_crate() {
        // Letters that the standard library's Unicode version has and the regex crate's has not yet.
        let unknown = regex::Regex::new(r"^\p{Cn}$").expect("a valid expression");
        // Every letter with case lies in these planes; CJK, Hangul and private use have none.
        for c in ('\0'..='\u{2e7f}').chain('\u{a4d0}'..='\u{abff}').chain('\u{f900}'..='\u{1efff}') {
            let (equals, folded) = (regex_equals(c), fold_char(c));
            for other in &equals {
                assert_eq!(folded, fold_char(*other), "{c:?} and {other:?}");
            }
            assert!(equals.contains(&folded) || unknown.is_match(&c.to_string()), "{c:?} became {folded:?}");
            assert_eq!(fold_char(folded), folded, "{c:?}");
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(String::from_utf8(fold_text(text)).as_deref(), Ok(expected));
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
