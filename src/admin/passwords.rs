//! Passwords and random tokens: made, hashed and compared. Clear text is never stored or logged.
//!
//! argon2id runs on blocking threads, at most [`CONCURRENT_HASHES`] at once: each takes 19 MiB and some 20 ms.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::AdminError;

/// Hashes computed at once; more logins wait.
pub(super) const CONCURRENT_HASHES: usize = 2;

/// Fewest characters of a password that a person chose (OWASP ASVS 5.0, 6.2.1 asks for 8 and recommends 15).
pub(super) const MIN_PASSWORD: usize = 12;

/// Most bytes of a password: argon2 takes any length, a request's body should not.
const MAX_PASSWORD: usize = 1_024;

/// A hash that no password has, with the parameters of real ones: compared against when the user does not exist, so
/// that the answer takes as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LWhhcy1pdC4uLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Letters and digits that are not mistaken for one another when read from a screen: 32 of them, 5 bits each.
const READABLE: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Random bytes from the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], AdminError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| AdminError::Unavailable(format!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}

/// A password of 24 random letters and digits in groups of six: 120 bits.
pub(super) fn random_password() -> Result<String, AdminError> {
    let letters: Vec<char> = random::<24>()?.iter().map(|byte| char::from(READABLE[usize::from(byte % 32)])).collect();
    let groups: Vec<String> = letters.chunks(6).map(|group| group.iter().collect()).collect();
    Ok(groups.join("-"))
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a token: what is stored and compared in its place.
pub(super) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether two texts are the same, in a time that does not depend on where they differ.
pub(super) fn same(left: &str, right: &str) -> bool {
    digest(left).ct_eq(&digest(right)).into()
}

/// Refuses passwords that people should not choose.
pub(super) fn check_new(field: &'static str, password: &str) -> Result<(), AdminError> {
    if password.chars().count() < MIN_PASSWORD {
        return Err(AdminError::invalid(field, format!("use at least {MIN_PASSWORD} characters")));
    }
    if password.len() > MAX_PASSWORD {
        return Err(AdminError::invalid(field, format!("use at most {MAX_PASSWORD} bytes")));
    }
    Ok(())
}

/// The argon2id hash in PHC form. Blocks.
pub(super) fn hash(password: &str) -> Result<String, AdminError> {
    let hashed: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
    let hashed = hashed.map_err(|error| AdminError::Unavailable(format!("the password cannot be hashed: {error}")))?;
    Ok(hashed.to_string())
}

/// Whether `password` has the hash `stored`; as much work when there is none. Blocks.
pub(super) fn verify(password: &str, stored: Option<&str>) -> bool {
    if password.len() > MAX_PASSWORD {
        return false;
    }
    let matches = Argon2::default().verify_password(password.as_bytes(), stored.unwrap_or(NOBODY)).is_ok();
    matches && stored.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let stored = hash("correct horse battery").expect("hashes");
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify("correct horse battery", Some(&stored)));
        assert!(!verify("correct horse batterz", Some(&stored)));
        assert!(!verify("", Some(&stored)));
        assert!(!verify("anything", Some("not a hash")));
    }

    #[test]
    fn an_unknown_user_costs_the_same_work_and_never_matches() {
        let nobody = PasswordHash::new(NOBODY).expect("a well-formed hash");
        let somebody = hash("some password").expect("hashes");
        let somebody = PasswordHash::new(&somebody).expect("a well-formed hash");
        assert_eq!((nobody.algorithm, nobody.params.clone()), (somebody.algorithm, somebody.params.clone()));
        assert!(!verify("anything", None));
    }

    #[test]
    fn made_passwords_are_long_and_differ() {
        let (first, second) = (random_password().expect("random"), random_password().expect("random"));
        assert!(first.len() >= 20 && first != second);
        assert!(check_new("password", &first).is_ok());
        assert!(check_new("password", "short").is_err());
    }
}
