//! The seal: how many lines there are and how the chain ends, in the same transaction as the last line, with a keyed
//! checksum (HMAC-SHA-256); and the anchor, the same in a file beside the database.
//!
//! Who can write the database and not the key cannot make a seal that fits a shortened or rewritten log. Who puts an
//! older database back, seal and all, is told by the anchor. Once one of them does not fit, the seal carries a `doubt`
//! that stays, whatever is written later, until a person accepts the log as it is. Nothing here stops a change: a log
//! in doubt goes on.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::hmac;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::super::connect::{Fault, name_of};
use super::line::{HASH_BYTES, Hash, hex, unhex};
use super::{folder_of, reseal::chain_all};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::store::{StoreError, TrailHead};

/// The key of seal and anchor: 32 random bytes in hexadecimal, readable for the appliance alone.
const KEY_FILE: &str = "chain.key";
/// The anchor.
const ANCHOR_FILE: &str = "anchor.json";

/// The end of the chain as sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) lines: i64,
    pub(super) last_id: i64,
    pub(super) head: Hash,
    /// What once did not fit; empty if everything always did.
    pub(super) doubt: String,
}

impl Seal {
    pub(super) const EMPTY: Self = Self { lines: 0, last_id: 0, head: [0; HASH_BYTES], doubt: String::new() };

    pub(super) fn head(&self) -> TrailHead {
        TrailHead { lines: self.lines.try_into().unwrap_or(0), last_id: self.last_id, hash: hex(&self.head) }
    }

    pub(super) fn bytes(&self, purpose: &str) -> Vec<u8> {
        let mut bytes = format!("muttd trail {purpose} 1\n{}\n{}\n", self.lines, self.last_id).into_bytes();
        bytes.extend_from_slice(&self.head);
        bytes.extend_from_slice(self.doubt.as_bytes());
        bytes
    }

    /// The keyed checksum of the seal.
    fn mac(&self, key: &hmac::Key) -> Vec<u8> {
        hmac::sign(key, &self.bytes("seal")).as_ref().to_vec()
    }
}

/// The anchor file.
#[derive(Serialize, Deserialize)]
struct Anchor {
    #[serde(flatten)]
    head: TrailHead,
    mac: String,
}

/// What is known about an anchor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Anchored {
    /// There is none.
    Missing,
    /// It cannot be read, or was not written with this key.
    Wrong,
    /// It says this.
    At(Seal),
}

/// Whatever seal the database holds, and whether its checksum fits.
pub(super) enum Found {
    Missing,
    Wrong(Seal),
    Good(Seal),
}

/// Keeps the seal of one database; used by its writer thread alone.
pub(in super::super) struct Keeper {
    folder: PathBuf,
    key: hmac::Key,
    sealed: Seal,
    anchoring_failed: bool,
}

impl Keeper {
    /// Looks at seal, key and anchor, chains lines from before there was a chain, and remembers where the chain ends.
    pub(in super::super) fn open(connection: &mut Connection, database: &Path, clock: &Clock) -> Result<Self, Fault> {
        let folder = folder_of(database);
        let told = |error: std::io::Error| -> Fault {
            let why = format!("`{}` cannot be used: {error}", folder.display());
            StoreError::Unavailable { store: name_of(database), why }.into()
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(told)?;
        let kept = read_key(&folder);
        let key = match &kept {
            Some(key) => key.clone(),
            None => make_key(&folder).map_err(told)?,
        };
        let anchored = read_anchor(&folder, &key);
        let mut keeper = Self { folder, key, sealed: Seal::EMPTY, anchoring_failed: false };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        keeper.sealed = keeper.settle(&transaction, kept.is_some(), anchored, clock.now())?;
        // The anchor first: without the commit the chain is made again, to the same end.
        keeper.anchor();
        transaction.commit()?;
        Ok(keeper)
    }

    /// The key of seals.
    pub(super) fn key(&self) -> &hmac::Key {
        &self.key
    }

    /// Where key, anchor and evidence lie.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Finds the end of the chain, whatever state it was left in.
    fn settle(
        &self,
        transaction: &Transaction<'_>,
        had_key: bool,
        anchored: Anchored,
        now: Timestamp,
    ) -> Result<Seal, Fault> {
        let chained: bool = transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM config_audit_log WHERE row_hash IS NOT NULL)",
            [],
            |row| row.get(0),
        )?;
        let found = read_seal(transaction, &self.key)?;
        if let (Found::Missing, false) = (&found, chained) {
            let seal = chain_all(transaction)?;
            if matches!(&anchored, Anchored::Missing) || anchored == Anchored::At(seal.clone()) {
                self.put(transaction, &seal)?;
                return Ok(seal);
            }
        }
        let anchor = match &anchored {
            Anchored::At(anchor) => Some(anchor.clone()),
            Anchored::Missing | Anchored::Wrong => None,
        };
        let (mut seal, doubt) = match found {
            Found::Good(seal) => {
                let doubt = match &anchored {
                    Anchored::Missing => "the anchor was missing",
                    Anchored::Wrong => "the anchor was not written by this appliance",
                    Anchored::At(anchor) if is_ahead(anchor, &seal) => "the database is older than its anchor",
                    Anchored::At(_) => "",
                };
                (seal, doubt)
            }
            Found::Wrong(seal) if !had_key => (seal, "the key of the seal was missing"),
            Found::Wrong(seal) => (anchor.unwrap_or(seal), "the seal was altered"),
            Found::Missing => (anchor.map_or_else(|| last_line(transaction), Ok)?, "the seal was missing"),
        };
        if seal.doubt.is_empty() && !doubt.is_empty() {
            seal.doubt = format!("{doubt} at the start of {now}");
            tracing::error!("The seal of the change log does not fit: {doubt}; see `muttd audit verify`");
        }
        self.put(transaction, &seal)?;
        Ok(seal)
    }

    /// To be called before a transaction writes: puts a seal right that somebody changed behind our back, and says so in
    /// it.
    pub(in super::super) fn begin(&self, transaction: &Transaction<'_>, now: Timestamp) -> Result<(), Fault> {
        let found = read_seal(transaction, &self.key)?;
        if matches!(&found, Found::Good(seal) if *seal == self.sealed) {
            return Ok(());
        }
        let mut seal = self.sealed.clone();
        if seal.doubt.is_empty() {
            seal.doubt = format!("the seal was altered from outside, found {now}");
            tracing::error!("The seal of the change log was altered from outside; see `muttd audit verify`");
        }
        self.put(transaction, &seal)
    }

    /// To be called when a transaction has written: seals what it appended. Give the answer to [`Keeper::committed`].
    pub(in super::super) fn end(&self, transaction: &Transaction<'_>) -> Result<Sealed, Fault> {
        let seal = match read_seal(transaction, &self.key)? {
            Found::Good(seal) | Found::Wrong(seal) => seal,
            Found::Missing => self.sealed.clone(),
        };
        if seal != self.sealed {
            self.put(transaction, &seal)?;
        }
        Ok(Sealed(seal))
    }

    /// Remembers and anchors what was committed.
    pub(in super::super) fn committed(&mut self, sealed: Sealed) {
        if sealed.0 != self.sealed {
            self.sealed = sealed.0;
            self.anchor();
        }
    }

    fn put(&self, transaction: &Transaction<'_>, seal: &Seal) -> Result<(), Fault> {
        transaction.execute(
            "INSERT OR REPLACE INTO config_audit_seal (one, lines, last_id, head, doubt, mac) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            params![seal.lines, seal.last_id, seal.head, seal.doubt, seal.mac(&self.key)],
        )?;
        Ok(())
    }

    /// Writes the anchor. A failure is told once; the seal in the database holds nevertheless.
    fn anchor(&mut self) {
        let head = self.sealed.head();
        let mac = hex(hmac::sign(&self.key, &anchor_bytes(&head)).as_ref());
        let text = serde_json::json!({
            "lines": head.lines, "last_id": head.last_id, "hash": head.hash, "mac": mac,
        });
        let written = write_private(&self.folder, ANCHOR_FILE, &text.to_string());
        match written {
            Ok(()) => self.anchoring_failed = false,
            Err(error) if !self.anchoring_failed => {
                self.anchoring_failed = true;
                tracing::warn!(%error, "The anchor of the change log cannot be written in {}", self.folder.display());
            }
            Err(_) => {}
        }
    }
}

/// What a transaction sealed.
pub(in super::super) struct Sealed(Seal);

/// Whether an anchor knows more than a seal: then the database is older than what was anchored.
fn is_ahead(anchor: &Seal, seal: &Seal) -> bool {
    anchor.lines > seal.lines || (anchor.lines == seal.lines && anchor.head != seal.head)
}

/// Where the chain ends by its lines alone.
fn last_line(transaction: &Transaction<'_>) -> Result<Seal, Fault> {
    let last = transaction
        .query_row("SELECT id, row_hash FROM config_audit_log ORDER BY id DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1).ok().flatten().unwrap_or_default()))
        })
        .optional()?;
    let lines = transaction.query_row("SELECT count(*) FROM config_audit_log", [], |row| row.get(0))?;
    let (last_id, hash) = last.unwrap_or_default();
    Ok(Seal { lines, last_id, head: hash.try_into().unwrap_or([0; HASH_BYTES]), doubt: String::new() })
}

/// Takes the next number and the end of the chain; [`Keeper::end`] seals what was put there.
pub(in super::super) fn advance(
    transaction: &Transaction<'_>,
    append: impl FnOnce(i64, &Hash) -> Result<Hash, Fault>,
) -> Result<(), Fault> {
    let (last_id, head): (i64, Vec<u8>) = transaction
        .prepare_cached("SELECT last_id, head FROM config_audit_seal")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let highest: i64 = transaction
        .prepare_cached("SELECT coalesce(max(id), 0) FROM config_audit_log")?
        .query_row([], |row| row.get(0))?;
    // A line that somebody else wrote keeps its number; ours goes behind it.
    let id = last_id.max(highest).saturating_add(1);
    let hash = append(id, &head.try_into().unwrap_or([0; HASH_BYTES]))?;
    let mut update =
        transaction.prepare_cached("UPDATE config_audit_seal SET lines = lines + 1, last_id = ?1, head = ?2")?;
    update.execute(params![id, hash])?;
    Ok(())
}

/// The seal in a database.
pub(super) fn read_seal(connection: &Connection, key: &hmac::Key) -> Result<Found, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT lines, last_id, head, doubt, mac FROM config_audit_seal WHERE one = 1")?;
    let found = statement.query_row([], |row| {
        let head: Vec<u8> = row.get(2)?;
        let seal = Seal {
            lines: row.get(0)?,
            last_id: row.get(1)?,
            head: head.try_into().unwrap_or([0; HASH_BYTES]),
            doubt: row.get(3)?,
        };
        Ok((seal, row.get::<_, Vec<u8>>(4)?))
    });
    match found {
        Ok((seal, mac)) if hmac::verify(key, &seal.bytes("seal"), &mac).is_ok() => Ok(Found::Good(seal)),
        Ok((seal, _)) => Ok(Found::Wrong(seal)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Found::Missing),
        // Columns of other types than we write: altered, whatever they hold.
        Err(rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)) => {
            Ok(Found::Wrong(Seal::EMPTY))
        }
        Err(error) => Err(error.into()),
    }
}

/// The key, if there is one that can be read.
pub(super) fn read_key(folder: &Path) -> Option<hmac::Key> {
    let text = fs::read_to_string(folder.join(KEY_FILE)).ok()?;
    unhex(text.trim()).map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn make_key(folder: &Path) -> std::io::Result<hmac::Key> {
    let mut bytes = [0_u8; HASH_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    write_private(folder, KEY_FILE, &hex(&bytes))?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// The anchor beside a database.
pub(super) fn read_anchor(folder: &Path, key: &hmac::Key) -> Anchored {
    let text = match fs::read_to_string(folder.join(ANCHOR_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Anchored::Missing,
        Err(_) => return Anchored::Wrong,
    };
    let Ok(anchor) = serde_json::from_str::<Anchor>(&text) else { return Anchored::Wrong };
    let (Some(mac), Some(head)) = (unhex(&anchor.mac), unhex(&anchor.head.hash)) else { return Anchored::Wrong };
    if hmac::verify(key, &anchor_bytes(&anchor.head), &mac).is_err() {
        return Anchored::Wrong;
    }
    let lines = i64::try_from(anchor.head.lines).unwrap_or(i64::MAX);
    Anchored::At(Seal { lines, last_id: anchor.head.last_id, head, doubt: String::new() })
}

fn anchor_bytes(head: &TrailHead) -> Vec<u8> {
    format!("muttd trail anchor 1\n{}\n{}\n{}\n", head.lines, head.last_id, head.hash).into_bytes()
}

/// Writes a file that only the appliance reads, as a whole or not at all.
fn write_private(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let (fresh, target) = (folder.join(format!("{name}.new")), folder.join(name));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&fresh, &target)?;
    // Without this a power cut may bring the old file back; the anchor would then be older than it need be.
    File::open(folder)?.sync_all()
}

/// The key that seals the change log, lent to whoever keeps a chain of its own beside it (the manifest of the archive).
#[derive(Debug, Clone)]
pub struct TrailKey {
    folder: std::path::PathBuf,
    key: Option<hmac::Key>,
}

impl TrailKey {
    /// The key in the folder of keys and anchors of the stores in `store`; made by the first start.
    pub fn read(store: &Path) -> Self {
        let folder = store.join("trail");
        Self { key: read_key(&folder), folder }
    }

    /// Where keys and anchors lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checksum of `bytes` under the key, in hexadecimal; none without a key.
    pub fn mac(&self, bytes: &[u8]) -> Option<String> {
        self.key.as_ref().map(|key| hex(hmac::sign(key, bytes).as_ref()))
    }

    /// Whether `mac` is the checksum of `bytes`.
    pub fn verifies(&self, bytes: &[u8], mac: &str) -> bool {
        let (Some(key), Some(mac)) = (&self.key, unhex(mac)) else { return false };
        hmac::verify(key, bytes, &mac).is_ok()
    }
}
