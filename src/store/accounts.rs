//! Users of the web UI, their sessions, and API keys at rest. Passwords arrive here hashed, session tokens and keys too.

use std::net::IpAddr;

use async_trait::async_trait;

use super::{Change, StoreResult};
use crate::access::{RingKey, Role};
use crate::model::Timestamp;

/// Someone who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The password's argon2id hash in PHC form.
    pub password_hash: String,
    /// When the user was made.
    pub created_at: Timestamp,
    /// What the user may do.
    pub role: Role,
    /// Whether the user may log in.
    pub enabled: bool,
    /// Whether the password was given by someone else and must be changed before anything else.
    pub must_change_password: bool,
    /// When the user logged in last.
    pub last_login: Option<Timestamp>,
}

/// What is to be changed of a user; `None` stays as it is. Every session of the user ends with it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserUpdate {
    /// The new role.
    pub role: Option<Role>,
    /// Whether the user may log in from now on.
    pub enabled: Option<bool>,
    /// The new password's hash, and whether it must be changed at the next login.
    pub password: Option<(String, bool)>,
}

/// A logged-in browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the token in the cookie; the token itself is kept nowhere.
    pub token_hash: [u8; 32],
    /// Whose session it is.
    pub user: String,
    /// The token every form of this session must send along.
    pub csrf_token: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was used last, to the minute.
    pub last_seen: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// Where it was begun.
    pub peer: String,
}

/// A session in force, with what its user may do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// The session.
    pub session: Session,
    /// The user's role.
    pub role: Role,
    /// Whether the user must change the password first.
    pub must_change_password: bool,
}

/// When a session counts as ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionClock {
    /// The time.
    pub now: Timestamp,
    /// Sessions that were not used since have ended.
    pub unused_since: Timestamp,
}

/// Users and sessions. Changes of users are in the change log (without hashes); sessions are not.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// How many users there are; none means that the first one has yet to be made.
    async fn user_count(&self) -> StoreResult<u64>;

    /// Every user, by name.
    async fn users(&self) -> StoreResult<Vec<User>>;

    /// One user, by exact name.
    async fn user(&self, name: &str) -> StoreResult<Option<User>>;

    /// Adds a user.
    async fn create_user(&self, user: User, change: &Change) -> StoreResult<()>;

    /// Changes a user and ends the user's sessions. Refuses what would leave no admin who may log in.
    async fn update_user(&self, name: &str, update: UserUpdate, change: &Change) -> StoreResult<User>;

    /// Removes a user with all sessions. Refuses what would leave no admin who may log in.
    async fn delete_user(&self, name: &str, change: &Change) -> StoreResult<()>;

    /// Keeps a session, which is a login of its user; ends those that are past their time.
    async fn put_session(&self, session: Session, clock: SessionClock) -> StoreResult<()>;

    /// A session that has not ended, by its token's hash.
    async fn session(&self, token_hash: &[u8; 32], clock: SessionClock) -> StoreResult<Option<LiveSession>>;

    /// Notes that a session was used.
    async fn touch_session(&self, token_hash: &[u8; 32], now: Timestamp) -> StoreResult<()>;

    /// Sessions that have not ended, newest first; at most 1,000.
    async fn sessions(&self, clock: SessionClock) -> StoreResult<Vec<Session>>;

    /// Ends a session.
    async fn end_session(&self, token_hash: &[u8; 32]) -> StoreResult<()>;
}

/// An API key, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Name, scopes, networks, end and hashes.
    pub key: RingKey,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When a NEXT was made last.
    pub rotated_at: Option<Timestamp>,
    /// When it was used last, to the minute, and from where.
    pub last_used: Option<(Timestamp, IpAddr)>,
}

/// What is done to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// A NEXT with this hash is accepted beside CURRENT.
    Rotate([u8; 32]),
    /// NEXT becomes CURRENT.
    Promote,
}

/// API keys. Changes are in the change log, without hashes.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Every key, by name.
    async fn api_keys(&self) -> StoreResult<Vec<ApiKey>>;

    /// Adds a key; refuses a name that exists, and more than 1,000 keys.
    async fn create_api_key(&self, key: ApiKey, change: &Change) -> StoreResult<()>;

    /// Changes a key's values.
    async fn change_api_key(&self, name: &str, what: KeyChange, change: &Change) -> StoreResult<ApiKey>;

    /// Removes a key; it opens nothing any more.
    async fn revoke_api_key(&self, name: &str, change: &Change) -> StoreResult<()>;

    /// Notes when keys were used and from where; not in the change log.
    async fn note_key_uses(&self, uses: Vec<(String, Timestamp, IpAddr)>) -> StoreResult<()>;
}
