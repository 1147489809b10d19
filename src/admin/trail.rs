//! Whether the change log is as it was written: verification on request, at the start and once a day, and heads that can
//! be exported, signed and compared later.
//!
//! A log that was tampered with stops nothing: it is told in the log, by a metric, by the API and on every page, until a
//! person accepts the log as it is. What was found is kept in memory only; after a crash the start looks again.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::actor::stated;
use super::{Actor, Admin, AdminError};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::store::sqlite::{head_of_file, verify_file};
use crate::store::{TrailHead, TrailReport};
use crate::telemetry::metrics::AUDIT_CHAIN;

/// How often the whole log is read again: a break that nobody looks for is found within a day.
const EVERY: Duration = Duration::from_hours(24);

/// The signing key, made when a signature is first asked for: PKCS #8, readable for the appliance alone.
const SIGNING_KEY: &str = "signing.key";

impl Admin {
    /// What the last verification found; `None` before the first one has ended.
    pub fn trail_report(&self) -> Option<Arc<TrailReport>> {
        self.trail.lock().clone()
    }

    /// What is wrong with the change log, for people; `None` while nothing is known to be.
    pub fn trail_warning(&self) -> Option<String> {
        let report = self.trail_report()?;
        (!report.is_whole()).then(|| report.summary())
    }

    /// Verifies the change log now.
    pub async fn verify_trail(&self) -> Result<Arc<TrailReport>, AdminError> {
        let report = Arc::new(self.parts.stores.changes.verify_trail(&[]).await?);
        gauge!(AUDIT_CHAIN).set(if report.is_whole() { 1.0 } else { 0.0 });
        let before = self.trail.lock().replace(Arc::clone(&report));
        let was_whole = before.is_none_or(|before| before.is_whole());
        match (was_whole, report.is_whole()) {
            (true, false) => tracing::error!(
                found = report.found,
                "The change log is not as it was written: {}; see RUNBOOK.md, `muttd audit verify` tells everything",
                report.summary()
            ),
            (false, true) => tracing::info!(lines = report.lines, "The change log is whole again"),
            _ => {}
        }
        Ok(report)
    }

    /// Verifies the change log now and then once a day, until `stop`.
    pub async fn watch_trail(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.verify_trail().await {
                tracing::warn!(%error, "The change log could not be verified; it is tried again in a day");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Accepts the change log as it is now, with a line that says what was found. Answers with the name of the copy that
    /// is kept as evidence.
    pub async fn accept_trail(&self, actor: &Actor, reason: Option<&str>) -> Result<String, AdminError> {
        stated(reason, "say why the change log is accepted as it is")?;
        let copy = self.parts.stores.changes.reseal_trail(&actor.change(reason)?).await?;
        tracing::warn!(by = %actor.name, evidence = copy, "The change log was accepted as it is");
        self.verify_trail().await?;
        Ok(copy)
    }

    /// The end of the change log.
    pub async fn trail_head(&self) -> Result<TrailHead, AdminError> {
        Ok(self.parts.stores.changes.trail_head().await?)
    }
}

/// A head as it is exported, with a signature if one was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedHead {
    /// Lines up to here.
    pub lines: u64,
    /// The number of the last one.
    pub last_id: i64,
    /// Its link in the chain.
    pub hash: String,
    /// When it was taken.
    pub taken_at: String,
    /// Ed25519 over the four members above, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Whose signature, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

impl ExportedHead {
    fn of(head: TrailHead, now: Timestamp) -> Self {
        let TrailHead { lines, last_id, hash } = head;
        Self { lines, last_id, hash, taken_at: now.to_string(), signature: None, public_key: None }
    }

    /// The head alone.
    pub fn head(&self) -> TrailHead {
        TrailHead { lines: self.lines, last_id: self.last_id, hash: self.hash.clone() }
    }

    /// What is signed.
    fn message(&self) -> String {
        format!("muttd trail head 1\n{}\n{}\n{}\n{}\n", self.lines, self.last_id, self.hash, self.taken_at)
    }

    /// Checks the signature, against `public_key` if one is given, else against the one that the file itself names:
    /// that tells of a damaged file and not of a forged one. Answers with the key; `None` if it is not signed.
    pub fn check(&self, public_key: Option<&str>) -> Result<Option<String>, AdminError> {
        let wrong = |why: &str| AdminError::Invalid { field: None, why: why.to_owned() };
        let (Some(signature), Some(named)) = (&self.signature, &self.public_key) else {
            return if public_key.is_some() { Err(wrong("the head is not signed")) } else { Ok(None) };
        };
        let key = public_key.unwrap_or(named).trim().to_ascii_lowercase();
        let bytes = unhex(&key).ok_or_else(|| wrong("the public key is no hexadecimal text"))?;
        let signature = unhex(signature).ok_or_else(|| wrong("the signature is no hexadecimal text"))?;
        let checked = UnparsedPublicKey::new(&ED25519, bytes).verify(self.message().as_bytes(), &signature);
        checked.map_err(|_| wrong("the signature does not fit: the head was altered, or signed with another key"))?;
        Ok(Some(key))
    }
}

/// The end of the change log in a data directory, whether the appliance runs or not. Blocks.
pub fn head_in(data: &Path, clock: &Clock) -> Result<ExportedHead, AdminError> {
    Ok(ExportedHead::of(head_of_file(&database(data))?, clock.now()))
}

/// Verifies the change log in a data directory, whether the appliance runs or not. Blocks.
pub fn verify_in(data: &Path, against: &[TrailHead], clock: &Clock) -> Result<TrailReport, AdminError> {
    Ok(verify_file(&database(data), against, clock)?)
}

/// Signs a head with the key of the data directory, which is made if there is none. Blocks.
pub fn sign_head(data: &Path, mut head: ExportedHead) -> Result<ExportedHead, AdminError> {
    let path = database(data).with_file_name("trail").join(SIGNING_KEY);
    let key = signing_key(&path).map_err(|why| {
        AdminError::Unavailable(format!("the signing key `{}` cannot be used: {why}", path.display()))
    })?;
    head.signature = Some(hex(key.sign(head.message().as_bytes()).as_ref()));
    head.public_key = Some(hex(key.public_key().as_ref()));
    Ok(head)
}

fn signing_key(path: &Path) -> Result<Ed25519KeyPair, String> {
    let document = match fs::read(path) {
        Ok(document) => document,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|error| error.to_string())?;
            write_key(path, made.as_ref()).map_err(|error| error.to_string())?;
            made.as_ref().to_vec()
        }
        Err(error) => return Err(error.to_string()),
    };
    Ed25519KeyPair::from_pkcs8(&document).map_err(|error| error.to_string())
}

/// As a whole or not at all; a key that is there is never replaced.
fn write_key(path: &Path, document: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    // Made by root for an appliance that runs as a user of its own: the owner of the folder must be able to read it.
    if let Some(folder) = path.parent() {
        use std::os::unix::fs::MetadataExt as _;
        let owner = fs::metadata(folder)?;
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(document)?;
    file.sync_all()?;
    fs::hard_link(&fresh, path)?;
    fs::remove_file(&fresh)
}

fn database(data: &Path) -> PathBuf {
    data.join("store").join("config.db")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let even = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    even.then(|| (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;

    fn head() -> ExportedHead {
        let head = TrailHead { lines: 3, last_id: 4, hash: "ab".repeat(32) };
        ExportedHead::of(head, Timestamp::from_millis(1_790_000_000_000))
    }

    #[test]
    fn a_signed_head_is_checked_and_an_altered_one_refused() {
        let data = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(data.path().join("store/trail")).expect("a folder");
        let signed = sign_head(data.path(), head()).expect("signed");
        let key = signed.check(None).expect("it fits").expect("it is signed");
        let again = sign_head(data.path(), head()).expect("signed");
        assert_eq!(again, signed, "the key is kept, and Ed25519 has one signature for one text");
        assert!(signed.check(Some(&key.to_uppercase())).is_ok());
        assert!(signed.check(Some(&"00".repeat(32))).is_err(), "of another key");
        for altered in [
            ExportedHead { lines: 2, ..signed.clone() },
            ExportedHead { last_id: 5, ..signed.clone() },
            ExportedHead { hash: "ac".repeat(32), ..signed.clone() },
            ExportedHead { taken_at: "2020-01-01T00:00:00Z".into(), ..signed.clone() },
            ExportedHead { signature: Some("zz".into()), ..signed.clone() },
        ] {
            assert!(altered.check(None).is_err(), "{altered:?}");
        }
        assert_eq!(head().check(None).expect("nothing to check"), None);
        assert!(head().check(Some(&key)).is_err(), "a signature was expected");
        let text = serde_json::to_string(&signed).expect("JSON");
        assert_eq!(serde_json::from_str::<ExportedHead>(&text).expect("read back"), signed);
        use std::os::unix::fs::PermissionsExt as _;
        let mode = data.path().join("store/trail/signing.key").metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_whole_log_warns_of_nothing_and_is_accepted_only_with_a_reason() {
        let house = TestAdmin::new().await;
        assert_eq!(house.admin.trail_warning(), None);
        assert!(house.admin.verify_trail().await.expect("readable").is_whole());
        assert_eq!(house.admin.trail_warning(), None);
        let actor = Actor::new("alice", "c-1");
        let refused = house.admin.accept_trail(&actor, Some("  ")).await;
        assert!(matches!(refused, Err(AdminError::Invalid { .. })), "{refused:?}");
        house.admin.accept_trail(&actor, Some("a rehearsal")).await.expect("accepted");
        assert_eq!(house.admin.trail_head().await.expect("a head").lines, 1);
    }
}
