//! Users of the web UI and their sessions at rest. Passwords arrive here hashed, session tokens too.

use async_trait::async_trait;

use super::{Change, StoreResult};
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
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Users and sessions. Changes of users are in the change log (without hashes); sessions are not.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// How many users there are; none means that the first one has yet to be made.
    async fn user_count(&self) -> StoreResult<u64>;

    /// One user, by exact name.
    async fn user(&self, name: &str) -> StoreResult<Option<User>>;

    /// Adds a user or replaces the password hash of an existing one (ending that user's sessions).
    async fn put_user(&self, user: User, change: &Change) -> StoreResult<()>;

    /// Keeps a session; ends those that are past their time.
    async fn put_session(&self, session: Session, now: Timestamp) -> StoreResult<()>;

    /// A session that has not ended, by its token's hash.
    async fn session(&self, token_hash: &[u8; 32], now: Timestamp) -> StoreResult<Option<Session>>;

    /// Ends a session.
    async fn end_session(&self, token_hash: &[u8; 32]) -> StoreResult<()>;
}
