//! Who may log in, and who is logged in.
//!
//! Only hashes are kept: argon2id of passwords, SHA-256 of session tokens. Sessions are in the store, so a restart logs
//! nobody out. Names of users that do not exist cost as much time as wrong passwords.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::passwords::{self, check_new, digest, hex, random, random_password, same};
use super::provider::is_provided;
use super::{Actor, Admin, AdminError};
use crate::access::Role;
use crate::secret::Secret;
use crate::store::{Session, SessionClock, User, UserUpdate};
use crate::telemetry::metrics::LOGINS;

/// A session's last use is written when it is so much later than the one written before.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// The user made at the first start.
pub(super) const FIRST_USER: &str = "admin";

/// A user and password to be shown once, on the terminal.
#[derive(Clone, PartialEq, Eq)]
pub struct FirstLogin {
    /// The login name.
    pub user: String,
    /// The password; it is stored nowhere.
    pub password: String,
}

/// A new session.
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// What the browser keeps in its cookie; it is stored nowhere here.
    pub token: String,
    /// How long the cookie lasts.
    pub life: Duration,
}

/// A session that is in force.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Who it is.
    pub user: String,
    /// What the user may do.
    pub role: Role,
    /// Whether the user must change the password before anything else.
    pub must_change_password: bool,
    /// What each form must send along.
    pub csrf_token: String,
}

impl SessionInfo {
    /// Whether a form came from one of our own pages.
    pub fn csrf_matches(&self, sent: &str) -> bool {
        same(&self.csrf_token, sent)
    }
}

impl Admin {
    /// Makes the user `admin` if there is no user yet, with `given_password` or a random one. Answers with the random
    /// one, to be shown once.
    pub async fn ensure_admin(&self, given_password: Option<Secret>) -> anyhow::Result<Option<FirstLogin>> {
        if self.parts.stores.accounts.user_count().await? > 0 {
            return Ok(None);
        }
        let (password, shown) = match given_password {
            Some(password) => {
                check_new("password", password.reveal())?;
                (password.reveal().to_owned(), false)
            }
            None => (random_password()?, true),
        };
        let actor = Actor::new("setup", "first-start");
        self.make_first_user(password.clone(), &actor, "first start").await?;
        Ok(shown.then(|| FirstLogin { user: FIRST_USER.to_owned(), password }))
    }

    /// Checks name and password and opens a session.
    pub async fn login(&self, user: &str, password: &str, peer: IpAddr) -> Result<LoggedIn, AdminError> {
        // Names are kept in lower case; people type them as they like.
        let user = &user.trim().to_lowercase();
        let begun = self.logins.lock().begin(user, peer, Instant::now());
        if let Err(after) = begun {
            metrics::counter!(LOGINS, "result" => "throttled").increment(1);
            return Err(AdminError::TooManyTries { after });
        }
        if !self.password_is_right(user, password).await? {
            metrics::counter!(LOGINS, "result" => "failed").increment(1);
            tracing::info!(%peer, "a login to the web UI failed");
            return Err(AdminError::BadLogin);
        }
        self.logins.lock().succeeded(user, peer);
        metrics::counter!(LOGINS, "result" => "ok").increment(1);
        self.open_session(user, peer).await
    }

    pub(super) async fn open_session(&self, user: &str, peer: IpAddr) -> Result<LoggedIn, AdminError> {
        let token = hex(&random::<32>()?);
        let (now, life) = (self.parts.clock.now(), self.parts.keeper.current().sessions.longest);
        let session = Session {
            token_hash: digest(&token),
            user: user.to_owned(),
            csrf_token: hex(&random::<32>()?),
            created_at: now,
            last_seen: now,
            expires_at: now.plus(life),
            peer: peer.to_string(),
        };
        self.parts.stores.accounts.put_session(session, self.session_clock()).await?;
        Ok(LoggedIn { token, life })
    }

    /// The session a cookie belongs to, if it is in force. This is a use of it.
    pub async fn session(&self, token: &str) -> Result<Option<SessionInfo>, AdminError> {
        let (hash, clock) = (digest(token), self.session_clock());
        let Some(live) = self.parts.stores.accounts.session(&hash, clock).await? else { return Ok(None) };
        if clock.now.since(live.session.last_seen) >= TOUCH_EVERY {
            self.parts.stores.accounts.touch_session(&hash, clock.now).await?;
        }
        Ok(Some(SessionInfo {
            user: live.session.user,
            role: live.role,
            must_change_password: live.must_change_password,
            csrf_token: live.session.csrf_token,
        }))
    }

    pub(super) fn session_clock(&self) -> SessionClock {
        let now = self.parts.clock.now();
        SessionClock { now, unused_since: now.minus(self.parts.keeper.current().sessions.idle) }
    }

    /// Ends a session.
    pub async fn logout(&self, token: &str) -> Result<(), AdminError> {
        Ok(self.parts.stores.accounts.end_session(&digest(token)).await?)
    }

    /// Changes a user's own password; every session of the user ends. `user` is who is logged in.
    pub async fn change_password(&self, actor: &Actor, old: &str, new: String, peer: IpAddr) -> Result<(), AdminError> {
        check_new("new_password", &new)?;
        if same(old, &new) {
            return Err(AdminError::invalid("new_password", "use another one than before"));
        }
        let begun = self.logins.lock().begin(&actor.name, peer, Instant::now());
        begun.map_err(|after| AdminError::TooManyTries { after })?;
        if !self.password_is_right(&actor.name, old).await? {
            return Err(AdminError::invalid("old_password", "this is not your password"));
        }
        self.logins.lock().succeeded(&actor.name, peer);
        let password = Some((self.hashed(new).await?, false));
        let update = UserUpdate { password, ..UserUpdate::default() };
        self.parts.stores.accounts.update_user(&actor.name, update, &actor.change(Some("password changed"))?).await?;
        Ok(())
    }

    async fn password_is_right(&self, user: &str, password: &str) -> Result<bool, AdminError> {
        // A user who may not log in, or has no password here, is compared with nobody's hash: that takes as long and never fits.
        let stored = self.parts.stores.accounts.user(user).await?;
        let stored = stored.filter(|user| user.enabled && !is_provided(&user.name));
        let password = password.to_owned();
        self.hashing(move || passwords::verify(&password, stored.as_ref().map(|user| user.password_hash.as_str())))
            .await
    }

    /// Makes the user `admin`, or gives it this password and every right again.
    pub(super) async fn make_first_user(
        &self,
        password: String,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), AdminError> {
        let (accounts, change) = (&self.parts.stores.accounts, actor.change(Some(reason))?);
        let password_hash = self.hashed(password).await?;
        if accounts.user(FIRST_USER).await?.is_some() {
            let password = Some((password_hash, false));
            let update = UserUpdate { role: Some(Role::Admin), enabled: Some(true), password };
            accounts.update_user(FIRST_USER, update, &change).await?;
            return Ok(());
        }
        let user = User {
            name: FIRST_USER.to_owned(),
            password_hash,
            created_at: self.parts.clock.now(),
            role: Role::Admin,
            enabled: true,
            must_change_password: false,
            last_login: None,
        };
        Ok(accounts.create_user(user, &change).await?)
    }

    pub(super) async fn hashed(&self, password: String) -> Result<String, AdminError> {
        self.hashing(move || passwords::hash(&password)).await?
    }

    /// Runs work that hashes a password on a blocking thread, few at once.
    async fn hashing<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AdminError> {
        let unavailable = || AdminError::Unavailable("passwords cannot be checked now".to_owned());
        let _permit = self.hashing.acquire().await.map_err(|_| unavailable())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| unavailable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::TestAdmin;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn the_first_start_makes_one_user_and_the_second_none() {
        let test = TestAdmin::new().await;
        let first = test.admin.ensure_admin(None).await.expect("works").expect("a first login");
        assert_eq!(first.user, "admin");
        assert!(first.password.len() >= 20);
        assert!(test.admin.ensure_admin(None).await.expect("works").is_none());
        assert!(test.admin.login("admin", &first.password, PEER).await.is_ok());
        assert!(matches!(test.admin.login("admin", "wrong", PEER).await, Err(AdminError::BadLogin)));
        assert!(matches!(test.admin.login("nobody", "wrong", PEER).await, Err(AdminError::BadLogin)));
    }

    #[tokio::test]
    async fn a_session_lives_until_logout_or_its_end() {
        let test = TestAdmin::new().await;
        test.admin.ensure_admin(Some("a long enough password".into())).await.expect("works");
        let login = async || test.admin.login("admin", "a long enough password", PEER).await.expect("logs in");
        let first = login().await;
        assert_eq!(test.admin.session(&first.token).await.expect("works").expect("in force").user, "admin");
        test.admin.logout(&first.token).await.expect("works");
        assert!(test.admin.session(&first.token).await.expect("works").is_none());
        let second = login().await;
        for _ in 0..11 {
            test.clock.advance(Duration::from_secs(3_600));
            assert!(test.admin.session(&second.token).await.expect("works").is_some(), "it is used every hour");
        }
        test.clock.advance(Duration::from_secs(3_600));
        assert!(test.admin.session(&second.token).await.expect("works").is_none());
        assert!(test.admin.session("").await.expect("works").is_none());
        let unused = login().await;
        test.clock.advance(Duration::from_secs(2 * 3_600));
        assert!(test.admin.session(&unused.token).await.expect("works").is_none());
    }

    #[tokio::test]
    async fn changing_the_password_needs_the_old_one_and_ends_every_session() {
        let test = TestAdmin::new().await;
        test.admin.ensure_admin(Some("a long enough password".into())).await.expect("works");
        let session = test.admin.login("admin", "a long enough password", PEER).await.expect("logs in");
        let actor = Actor::new("admin", "c");
        let change = async |old: &str, new: &str| test.admin.change_password(&actor, old, new.into(), PEER).await;
        assert!(matches!(change("wrong", "another long password").await, Err(AdminError::Invalid { .. })));
        assert!(matches!(change("a long enough password", "short").await, Err(AdminError::Invalid { .. })));
        change("a long enough password", "another long password").await.expect("changes");
        assert!(test.admin.session(&session.token).await.expect("works").is_none());
        assert!(test.admin.login("admin", "another long password", PEER).await.is_ok());
    }
}
