//! Users as admins see them: make, change, disable, reset, remove; and the sessions that are open.
//!
//! A password that an admin sees is a temporary one: random, shown once, to be changed at the next login. Whatever is
//! changed of a user ends the user's sessions.

use super::passwords::{hex, random_password};
use super::provider::is_provided;
use super::{Actor, Admin, AdminError};
use crate::access::Role;
use crate::model::Timestamp;
use crate::secret::Secret;
use crate::store::{User, UserUpdate};

/// Longest login name, in characters.
const MAX_NAME: usize = 64;

/// Hexadecimal digits by which a session is told from others: 64 bits of its token's hash open nothing.
const SESSION_ID_DIGITS: usize = 16;

/// A user without the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// The login name.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// Whether the user may log in.
    pub enabled: bool,
    /// Whether the password is a temporary one.
    pub must_change_password: bool,
    /// When the user was made.
    pub created_at: Timestamp,
    /// When the user logged in last.
    pub last_login: Option<Timestamp>,
}

impl From<User> for UserInfo {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            role: user.role,
            enabled: user.enabled,
            must_change_password: user.must_change_password,
            created_at: user.created_at,
            last_login: user.last_login,
        }
    }
}

/// A session that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// What tells it from others; it opens nothing.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was used last, to the minute.
    pub last_seen: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// Where it was begun.
    pub peer: String,
}

/// A user whose password is shown once.
#[derive(Debug, Clone)]
pub struct TemporaryPassword {
    /// The user.
    pub user: UserInfo,
    /// The password; it is stored nowhere.
    pub password: Secret,
}

impl Admin {
    /// Every user, by name.
    pub async fn users(&self) -> Result<Vec<UserInfo>, AdminError> {
        Ok(self.parts.stores.accounts.users().await?.into_iter().map(UserInfo::from).collect())
    }

    /// One user.
    pub async fn user(&self, name: &str) -> Result<UserInfo, AdminError> {
        let user = self.parts.stores.accounts.user(name).await?;
        user.map(UserInfo::from).ok_or_else(|| AdminError::NotFound { what: "user", key: name.to_owned() })
    }

    /// Makes a user with a temporary password.
    pub async fn create_user(
        &self,
        name: &str,
        role: Role,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<TemporaryPassword, AdminError> {
        let name = checked_name(name)?;
        let change = actor.change(reason)?;
        let password = random_password()?;
        let user = User {
            name: name.clone(),
            password_hash: self.hashed(password.clone()).await?,
            created_at: self.parts.clock.now(),
            role,
            enabled: true,
            must_change_password: true,
            last_login: None,
        };
        self.parts.stores.accounts.create_user(user, &change).await?;
        Ok(TemporaryPassword { user: self.user(&name).await?, password: Secret::new(password) })
    }

    /// Gives a user another role, or lets the user log in or no longer, or both; what is `None` stays.
    pub async fn change_user(
        &self,
        name: &str,
        role: Option<Role>,
        enabled: Option<bool>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<UserInfo, AdminError> {
        self.update_user(name, UserUpdate { role, enabled, password: None }, actor, reason).await
    }

    /// Gives a user a temporary password.
    pub async fn reset_password(
        &self,
        name: &str,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<TemporaryPassword, AdminError> {
        if is_provided(name) {
            return Err(AdminError::invalid("name", "this user logs in by the provider and has no password here"));
        }
        let password = random_password()?;
        let hash = self.hashed(password.clone()).await?;
        let update = UserUpdate { password: Some((hash, true)), ..UserUpdate::default() };
        let user = self.update_user(name, update, actor, reason).await?;
        Ok(TemporaryPassword { user, password: Secret::new(password) })
    }

    /// Removes a user.
    pub async fn delete_user(&self, name: &str, actor: &Actor, reason: Option<&str>) -> Result<(), AdminError> {
        Ok(self.parts.stores.accounts.delete_user(name, &actor.change(reason)?).await?)
    }

    async fn update_user(
        &self,
        name: &str,
        update: UserUpdate,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<UserInfo, AdminError> {
        let change = actor.change(reason)?;
        Ok(self.parts.stores.accounts.update_user(name, update, &change).await?.into())
    }

    /// The sessions that are open, newest first.
    pub async fn open_sessions(&self) -> Result<Vec<OpenSession>, AdminError> {
        let sessions = self.parts.stores.accounts.sessions(self.session_clock()).await?;
        let told = sessions.into_iter().map(|session| OpenSession {
            id: session_id(&session.token_hash),
            user: session.user,
            created_at: session.created_at,
            last_seen: session.last_seen,
            expires_at: session.expires_at,
            peer: session.peer,
        });
        Ok(told.collect())
    }

    /// Ends the session of this id, whose user has to log in again. It is in the change log as an action.
    pub async fn end_open_session(&self, id: &str, actor: &Actor, reason: Option<&str>) -> Result<(), AdminError> {
        let sessions = self.parts.stores.accounts.sessions(self.session_clock()).await?;
        let found = sessions.into_iter().find(|session| session_id(&session.token_hash) == id);
        let shown = || id.chars().take(SESSION_ID_DIGITS).collect();
        let session = found.ok_or_else(|| AdminError::NotFound { what: "session", key: shown() })?;
        let action = crate::store::Action {
            kind: "sessions",
            record_id: id.to_owned(),
            old: Some(serde_json::json!({"user": session.user, "peer": session.peer})),
            new: None,
        };
        self.parts.stores.changes.note_action(action, &actor.change(reason)?).await?;
        Ok(self.parts.stores.accounts.end_session(&session.token_hash).await?)
    }
}

fn session_id(token_hash: &[u8; 32]) -> String {
    let mut digits = hex(token_hash);
    digits.truncate(SESSION_ID_DIGITS);
    digits
}

/// Names are written in one way only, so that nobody passes for another.
fn checked_name(name: &str) -> Result<String, AdminError> {
    let name = name.trim().to_lowercase();
    let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '@');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fit) {
        let why = format!("use 1 to {MAX_NAME} letters, digits, `.`, `_`, `-` or `@`");
        return Err(AdminError::invalid("name", why));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;
    use std::net::{IpAddr, Ipv4Addr};

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn site() -> (TestAdmin, Actor) {
        let test = TestAdmin::new().await;
        test.admin.ensure_admin(Some(Secret::new("a long enough password"))).await.expect("works");
        (test, Actor::new("admin", "c"))
    }

    #[tokio::test]
    async fn a_temporary_password_opens_and_must_be_changed() {
        let (test, actor) = site().await;
        let made = test.admin.create_user(" Anna ", Role::Operator, &actor, None).await.expect("made");
        assert_eq!(
            (made.user.name.as_str(), made.user.role, made.user.must_change_password),
            ("anna", Role::Operator, true)
        );
        let login = test.admin.login("Anna", made.password.reveal(), PEER).await.expect("logs in");
        let session = test.admin.session(&login.token).await.expect("works").expect("in force");
        assert!(session.must_change_password && session.role == Role::Operator);
        let own = Actor::new("anna", "c");
        let same = test.admin.change_password(&own, made.password.reveal(), made.password.reveal().into(), PEER).await;
        assert!(matches!(same, Err(AdminError::Invalid { .. })), "the same again is no change");
        test.admin
            .change_password(&own, made.password.reveal(), "my very own password".into(), PEER)
            .await
            .expect("changed");
        assert!(!test.admin.user("anna").await.expect("there").must_change_password);
    }

    #[tokio::test]
    async fn whatever_changes_of_a_user_ends_the_sessions() {
        let (test, actor) = site().await;
        let made = test.admin.create_user("anna", Role::Viewer, &actor, None).await.expect("made");
        let mut password = made.password.reveal().to_owned();
        for step in 0..4 {
            let token = test.admin.login("anna", &password, PEER).await.expect("logs in").token;
            assert!(test.admin.session(&token).await.expect("works").is_some());
            match step {
                0 => drop(
                    test.admin
                        .change_user("anna", Some(Role::Admin), None, &actor, Some("promoted"))
                        .await
                        .expect("done"),
                ),
                1 => {
                    let reset = test.admin.reset_password("anna", &actor, None).await.expect("done");
                    password = reset.password.reveal().to_owned();
                }
                2 => {
                    test.admin.change_user("anna", None, Some(false), &actor, None).await.expect("done");
                    assert!(matches!(test.admin.login("anna", &password, PEER).await, Err(AdminError::BadLogin)));
                    test.admin.change_user("anna", None, Some(true), &actor, None).await.expect("done");
                }
                _ => test.admin.delete_user("anna", &actor, None).await.expect("done"),
            }
            assert!(test.admin.session(&token).await.expect("works").is_none(), "step {step}");
        }
    }

    #[tokio::test]
    async fn open_sessions_are_listed_and_ended_one_by_one() {
        let (test, actor) = site().await;
        let mut tokens = Vec::new();
        for _ in 0..2 {
            tokens.push(test.admin.login("admin", "a long enough password", PEER).await.expect("logs in").token);
        }
        let open = test.admin.open_sessions().await.expect("listed");
        assert_eq!((open.len(), open[0].user.as_str(), open[0].peer.as_str()), (2, "admin", "127.0.0.1"));
        test.admin.end_open_session(&open[0].id, &actor, None).await.expect("ended");
        assert!(matches!(
            test.admin.end_open_session(&open[0].id, &actor, None).await,
            Err(AdminError::NotFound { .. })
        ));
        let left: usize = test.admin.open_sessions().await.expect("listed").len();
        assert_eq!(left, 1);
    }

    #[tokio::test]
    async fn names_that_could_be_mistaken_are_refused() {
        let (test, actor) = site().await;
        for name in ["", "a b", "an\u{430}", &"x".repeat(65), "a/b", "a\nb"] {
            let made = test.admin.create_user(name, Role::Viewer, &actor, None).await;
            assert!(matches!(made, Err(AdminError::Invalid { .. })), "{name:?}");
        }
        assert!(matches!(
            test.admin.create_user("ADMIN", Role::Viewer, &actor, None).await,
            Err(AdminError::Exists { .. })
        ));
    }
}
