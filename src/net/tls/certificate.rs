//! What a certificate says about itself, as far as it concerns us: from when to when it is valid, and its fingerprint.
//!
//! Only the way to those fields is read (RFC 5280 section 4.1); whether it is well formed otherwise is rustls' to say.
//! Pure functions.

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use crate::model::Timestamp;

/// Tags of ASN.1 values (X.690 section 8.1.2).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The optional version, `[0] EXPLICIT`.
const VERSION: u8 = 0xa0;

/// From when to when a certificate in DER is valid; `None` if it is no certificate.
pub(super) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (mut to_be_signed, _) = value(certificate, SEQUENCE)?;
    if to_be_signed.first() == Some(&VERSION) {
        to_be_signed = value(to_be_signed, VERSION)?.1;
    }
    // Serial number, algorithm, issuer; then the validity.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        to_be_signed = value(to_be_signed, tag)?.1;
    }
    let (validity, _) = value(to_be_signed, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (to, _) = time(rest)?;
    Some((from, to))
}

/// SHA-256 of the certificate, as browsers and openssl show it.
pub(super) fn fingerprint(der: &[u8]) -> String {
    let pairs: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// The content of the value that `bytes` begin with, and what follows it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Up to three bytes of length: 16 MiB, more than any file that is read.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ` (years 1950 to 2049) or `YYYYMMDDHHMMSSZ`, as RFC 5280 section 4.1.2.5 demands.
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let year_digits = match *bytes.first()? {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    let (text, rest) = value(bytes, bytes[0])?;
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != year_digits + 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, count: usize| -> u32 {
        digits[from..from + count].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    };
    let year = match (year_digits, number(0, year_digits)) {
        (2, year @ 0..=49) => 2_000 + year,
        (2, year) => 1_900 + year,
        (_, year) => year,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(year_digits + at, 2));
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let moment = date.and_hms_opt(hour, minute, second)?.and_utc();
    Some((Timestamp::from_micros(moment.timestamp_micros()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("a time")
    }

    #[test]
    fn the_validity_of_a_certificate_is_read() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).expect("a name");
        for (from, to) in [((2020, 2, 29), (2049, 12, 31)), ((1999, 1, 1), (2051, 1, 2))] {
            params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
            let made = params.self_signed(&key).expect("signed");
            let day = |(year, month, day)| at(&format!("{year:04}-{month:02}-{day:02}T00:00:00Z"));
            assert_eq!(validity(made.der()), Some((day(from), day(to))));
        }
    }

    #[test]
    fn what_is_cut_off_or_no_certificate_has_no_validity() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["a.example".into()]).expect("a name");
        let whole = params.self_signed(&key).expect("signed");
        for length in 0..whole.der().len().min(120) {
            assert_eq!(validity(&whole.der()[..length]), None, "{length}");
        }
        assert_eq!(validity(b"\x30\x84\xff\xff\xff\xff"), None);
        assert_eq!(validity(b"text"), None);
    }

    #[test]
    fn times_that_are_none_are_refused() {
        let check = |text: &str, expected: Option<&str>| {
            let tag = if text.len() > 13 { GENERALIZED_TIME } else { UTC_TIME };
            let mut bytes = vec![tag, u8::try_from(text.len()).expect("short")];
            bytes.extend_from_slice(text.as_bytes());
            assert_eq!(time(&bytes).map(|(time, _)| time), expected.map(at), "{text}");
        };
        check("260301120000Z", Some("2026-03-01T12:00:00Z"));
        check("500101000000Z", Some("1950-01-01T00:00:00Z"));
        check("20500101000000Z", Some("2050-01-01T00:00:00Z"));
        check("261301000000Z", None);
        check("2603011200Z", None);
        check("26030112000xZ", None);
    }
}
