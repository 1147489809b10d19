//! API keys as admins see them: make, list, exchange, revoke; and whose key a request carries.
//!
//! A key is shown once, when it is made; only its hash is kept. Every change fills the ring anew before it is answered,
//! so a revoked key opens nothing from then on. When keys were used is written once a minute.

use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Actor, Admin, AdminError};
use crate::access::{KeyRing, Network, Right, RingKey, Scopes, Verdict, hash_of};
use crate::model::Timestamp;
use crate::secret::{Secret, Slot};
use crate::store::{ApiKey, KeyChange};

/// What every key begins with, so that people and tools that look for leaked secrets know one when they see it.
const PREFIX: &str = "mutt_";
/// Longest name of a key, in characters.
const MAX_NAME: usize = 64;
/// Networks of one key, at most.
const MAX_NETWORKS: usize = 32;
/// How often uses are written.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// The owner that the configured key's values are in the change log.
const CONFIGURED: &str = "api-key";
const CONFIGURED_NEXT: &str = "api-key-next";

/// The key that an owner is a value of: CURRENT and NEXT are one, whichever a program sends while they are exchanged.
pub fn key_itself(owner: &str) -> &str {
    if owner == CONFIGURED_NEXT { CONFIGURED } else { owner }
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInput {
    /// Its name, in the change log too.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Where it may be used from; empty for everywhere.
    pub networks: Vec<Network>,
    /// When it ends; `None` for never.
    pub expires_at: Option<Timestamp>,
}

/// A key without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Where it may be used from; empty for everywhere.
    pub networks: Vec<Network>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether a NEXT is accepted beside CURRENT.
    pub has_next: bool,
    /// When it was made, and by whom.
    pub created: (Timestamp, String),
    /// When a NEXT was made last.
    pub rotated_at: Option<Timestamp>,
    /// When it was used last, and from where.
    pub last_used: Option<(Timestamp, IpAddr)>,
}

/// A key whose value is shown once.
#[derive(Debug, Clone)]
pub struct ShownKey {
    /// The key.
    pub info: KeyInfo,
    /// Its value; it is stored nowhere.
    pub value: Secret,
}

impl Admin {
    /// Every key, by name.
    pub async fn api_keys(&self) -> Result<Vec<KeyInfo>, AdminError> {
        let keys = self.parts.stores.api_keys.api_keys().await?;
        Ok(keys.into_iter().map(|key| self.key_info(key)).collect())
    }

    /// One key.
    pub async fn api_key(&self, name: &str) -> Result<KeyInfo, AdminError> {
        let found = self.api_keys().await?.into_iter().find(|key| key.name == name);
        found.ok_or_else(|| AdminError::NotFound { what: "API key", key: name.to_owned() })
    }

    /// Makes a key.
    pub async fn create_api_key(
        &self,
        input: KeyInput,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<ShownKey, AdminError> {
        let now = self.parts.clock.now();
        input.check(now)?;
        let change = actor.change(reason)?;
        let (value, hash) = new_key()?;
        let name = input.name.clone();
        let ring = RingKey {
            name: input.name,
            scopes: input.scopes,
            networks: input.networks,
            expires_at: input.expires_at,
            current: hash,
            next: None,
        };
        let key =
            ApiKey { key: ring, created_at: now, created_by: actor.name.clone(), rotated_at: None, last_used: None };
        self.parts.stores.api_keys.create_api_key(key, &change).await?;
        self.refresh_keys().await?;
        Ok(ShownKey { info: self.api_key(&name).await?, value })
    }

    /// Makes a NEXT that is accepted beside CURRENT.
    pub async fn rotate_api_key(
        &self,
        name: &str,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<ShownKey, AdminError> {
        let (value, hash) = new_key()?;
        let info = self.change_api_key(name, KeyChange::Rotate(hash), actor, reason).await?;
        Ok(ShownKey { info, value })
    }

    /// Makes NEXT CURRENT; the old value opens nothing any more.
    pub async fn promote_api_key(
        &self,
        name: &str,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<KeyInfo, AdminError> {
        self.change_api_key(name, KeyChange::Promote, actor, reason).await
    }

    /// Removes a key.
    pub async fn revoke_api_key(&self, name: &str, actor: &Actor, reason: Option<&str>) -> Result<(), AdminError> {
        self.parts.stores.api_keys.revoke_api_key(name, &actor.change(reason)?).await?;
        self.refresh_keys().await
    }

    async fn change_api_key(
        &self,
        name: &str,
        what: KeyChange,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<KeyInfo, AdminError> {
        let key = self.parts.stores.api_keys.change_api_key(name, what, &actor.change(reason)?).await?;
        self.refresh_keys().await?;
        Ok(self.key_info(key))
    }

    /// Whose key `offered` is and whether it may do what needs `right`. The configured admin key may do everything.
    pub fn check_key(&self, offered: &str, right: Right, peer: IpAddr) -> Verdict {
        let (secrets, now) = (self.parts.secrets.get(), self.parts.clock.now());
        if let Some(slot) = secrets.admin_api_key.find(offered.as_bytes()) {
            secrets.admin_api_key.used(slot, now);
            let owner = match slot {
                Slot::Current => CONFIGURED,
                Slot::Next => CONFIGURED_NEXT,
            };
            return Verdict::Granted(owner.to_owned());
        }
        match self.parts.key_ring.get().check(offered.as_bytes(), right.scope(), peer, now) {
            Verdict::Granted(name) => Verdict::Granted(format!("key:{name}")),
            other => other,
        }
    }

    /// Fills the ring from the store.
    pub async fn refresh_keys(&self) -> Result<(), AdminError> {
        // One after the other: an older list must not overwrite a newer one.
        let _turn = self.key_refresh.lock().await;
        let keys = self.parts.stores.api_keys.api_keys().await?;
        let earlier = self.parts.key_ring.get();
        self.parts.key_ring.set(KeyRing::new(keys.into_iter().map(|key| key.key).collect(), &earlier));
        Ok(())
    }

    /// Writes once a minute when keys were used, until `stop` is cancelled, and then once more. Must be called within a
    /// tokio runtime.
    pub fn keep_key_uses(&self, stop: CancellationToken) -> JoinHandle<()> {
        let admin = self.clone();
        tokio::spawn(async move {
            let mut failing = false;
            loop {
                let stopping = tokio::select! {
                    () = stop.cancelled() => true,
                    () = tokio::time::sleep(WRITE_EVERY) => false,
                };
                let uses = admin.parts.key_ring.get().take_uses();
                if !uses.is_empty() {
                    let written = admin.parts.stores.api_keys.note_key_uses(uses).await;
                    if let Err(error) = &written
                        && !failing
                    {
                        tracing::warn!("When API keys were used is not written: {error}");
                    }
                    failing = written.is_err();
                }
                if stopping {
                    return;
                }
            }
        })
    }

    fn key_info(&self, key: ApiKey) -> KeyInfo {
        let used = self.parts.key_ring.get().used(&key.key.name);
        KeyInfo {
            name: key.key.name,
            scopes: key.key.scopes,
            networks: key.key.networks,
            expires_at: key.key.expires_at,
            has_next: key.key.next.is_some(),
            created: (key.created_at, key.created_by),
            rotated_at: key.rotated_at,
            last_used: used.or(key.last_used),
        }
    }
}

impl KeyInput {
    fn check(&self, now: Timestamp) -> Result<(), AdminError> {
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(fit) {
            let why = format!("use 1 to {MAX_NAME} lower-case letters, digits, `.`, `_` or `-`");
            return Err(AdminError::invalid("name", why));
        }
        if self.scopes.is_empty() {
            return Err(AdminError::invalid("scopes", "give at least one of ingest, read, write, admin"));
        }
        if self.networks.len() > MAX_NETWORKS {
            return Err(AdminError::invalid("networks", format!("give at most {MAX_NETWORKS}")));
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(AdminError::invalid("expires_at", "it is in the past"));
        }
        Ok(())
    }
}

/// A new value and its hash.
fn new_key() -> Result<(Secret, [u8; 32]), AdminError> {
    let digits = Secret::random()
        .map_err(|error| AdminError::Unavailable(format!("the system gives no random numbers: {error}")))?;
    let value = Secret::new(format!("{PREFIX}{}", digits.reveal()));
    let hash = hash_of(value.reveal().as_bytes());
    Ok((value, hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Refusal, Scope};
    use crate::admin::testing::TestAdmin;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn input(name: &str, scopes: &str) -> KeyInput {
        let scopes = Scopes::parse(scopes).expect("scopes");
        KeyInput { name: name.to_owned(), scopes, networks: Vec::new(), expires_at: None }
    }

    #[tokio::test]
    async fn a_key_is_exchanged_without_a_gap_and_revoked_at_once() {
        let (test, actor) = (TestAdmin::new().await, Actor::new("admin", "c"));
        let admin = &test.admin;
        let opens =
            |value: &Secret| matches!(admin.check_key(value.reveal(), Right::Operate, PEER), Verdict::Granted(_));
        let first = admin.create_api_key(input("ci", "write"), &actor, None).await.expect("made");
        assert!(first.value.reveal().starts_with("mutt_") && first.value.reveal().len() == 69);
        assert!(opens(&first.value));
        let next = admin.rotate_api_key("ci", &actor, None).await.expect("rotated");
        assert!(next.info.has_next && opens(&first.value) && opens(&next.value));
        admin.promote_api_key("ci", &actor, None).await.expect("promoted");
        assert!(!opens(&first.value) && opens(&next.value));
        assert!(admin.promote_api_key("ci", &actor, None).await.is_err(), "there is no NEXT any more");
        let refused = admin.check_key(next.value.reveal(), Right::Administer, PEER);
        assert_eq!(refused, Verdict::Refused(Refusal::Scope(Scope::Admin)));
        admin.revoke_api_key("ci", &actor, Some("left")).await.expect("revoked");
        assert!(!opens(&next.value));
    }

    #[tokio::test]
    async fn uses_reach_the_store() {
        let (test, actor) = (TestAdmin::new().await, Actor::new("admin", "c"));
        let made = test.admin.create_api_key(input("ci", "read"), &actor, None).await.expect("made");
        assert_eq!(made.info.last_used, None);
        let owner = test.admin.check_key(made.value.reveal(), Right::Read, PEER);
        assert_eq!(owner, Verdict::Granted("key:ci".to_owned()));
        let stop = CancellationToken::new();
        let writing = test.admin.keep_key_uses(stop.clone());
        stop.cancel();
        writing.await.expect("it ends");
        let kept = test.stores.api_keys.api_keys().await.expect("read");
        assert_eq!(kept[0].last_used, Some((test.clock.now(), PEER)));
    }

    #[tokio::test]
    async fn keys_that_make_no_sense_are_refused() {
        let (test, actor) = (TestAdmin::new().await, Actor::new("admin", "c"));
        let past = KeyInput { expires_at: Some(test.clock.now()), ..input("a", "read") };
        let everywhere = KeyInput { networks: vec!["::/0".parse().expect("a network"); 33], ..input("a", "read") };
        for (bad, field) in [
            (input("", "read"), "name"),
            (input("A", "read"), "name"),
            (input("a b", "read"), "name"),
            (input("a", ""), "scopes"),
            (past, "expires_at"),
            (everywhere, "networks"),
        ] {
            let refused = test.admin.create_api_key(bad, &actor, None).await;
            assert!(matches!(&refused, Err(AdminError::Invalid { field: Some(at), .. }) if at == field), "{field}");
        }
    }

    #[tokio::test]
    async fn both_configured_keys_open_and_an_empty_one_does_not() {
        let test = TestAdmin::new().await;
        let owner = |key: &str| test.admin.check_key(key, Right::Administer, PEER);
        assert_eq!(owner("current-key"), Verdict::Granted("api-key".into()));
        assert_eq!(owner("next-key"), Verdict::Granted("api-key-next".into()));
        let keys = ["api-key", "api-key-next", "key:api-key-next"].map(key_itself);
        assert_eq!(keys, ["api-key", "api-key", "key:api-key-next"], "the values of the configured key are one key");
        assert_eq!(owner(""), Verdict::Unknown);
        assert_eq!(owner("current-ke"), Verdict::Unknown);
    }
}
