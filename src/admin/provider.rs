//! Logins by an OpenID Connect provider, as users of this appliance.
//!
//! Whoever logs in so is the user `oidc:NAME`, which no local user can be called; the user is made at the first login and has
//! the role that the provider's claims make, each time anew. In the place of a password's hash it has a mark of issuer and
//! subject: a name that the provider gives to another person later opens nothing. Local users stay as they are.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::passwords::hex;
use super::{Actor, Admin, AdminError, LoggedIn};
use crate::oidc::{Begun, Callback, Identity, LoginError};
use crate::store::{User, UserUpdate, Via};
use crate::telemetry::metrics::LOGINS;

/// How names of such users begin.
const PREFIX: &str = "oidc:";

/// Whether a user of this name logs in by the provider.
pub(super) fn is_provided(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl Admin {
    /// Whether people can log in by a provider.
    pub fn has_login_provider(&self) -> bool {
        self.parts.oidc.is_some()
    }

    /// Begins a login by the provider that leads to `next`, a path of our own.
    pub async fn begin_provider_login(&self, next: &str) -> Result<Begun, AdminError> {
        let oidc = self.parts.oidc.as_ref().ok_or_else(no_provider)?;
        oidc.begin(next).await.map_err(|error| told(&error))
    }

    /// Ends it: the session, and where to go.
    pub async fn finish_provider_login(
        &self,
        callback: Callback,
        peer: IpAddr,
        correlation: &str,
    ) -> Result<(LoggedIn, String), AdminError> {
        let oidc = self.parts.oidc.as_ref().ok_or_else(no_provider)?;
        let finished = match oidc.finish(callback).await {
            Ok((identity, next)) => self.user_of(identity, peer, correlation).await.map(|user| (user, next)),
            Err(error) => Err(told(&error)),
        };
        let result = if finished.is_ok() { "ok" } else { "failed" };
        metrics::counter!(LOGINS, "result" => result).increment(1);
        let (user, next) = finished.inspect_err(|error| {
            tracing::info!(%peer, why = %error, "A login by the provider failed");
        })?;
        Ok((self.open_session(&user, peer).await?, next))
    }

    /// The user of that person, made or changed as the provider says.
    async fn user_of(&self, identity: Identity, peer: IpAddr, correlation: &str) -> Result<String, AdminError> {
        let accounts = &self.parts.stores.accounts;
        let name = format!("{PREFIX}{}", identity.name);
        let mark = mark(&identity);
        let change =
            Actor::new(name.clone(), correlation).coming(Via::Page, peer).change(Some("login by the provider"))?;
        let Some(user) = accounts.user(&name).await? else {
            let user = User {
                name: name.clone(),
                password_hash: mark,
                created_at: self.parts.clock.now(),
                role: identity.role,
                enabled: true,
                must_change_password: false,
                last_login: None,
            };
            accounts.create_user(user, &change).await?;
            return Ok(name);
        };
        if user.password_hash != mark {
            let why = "this name belongs to another person of the provider; an admin has to remove the user first";
            return Err(AdminError::NotLetIn(why.to_owned()));
        }
        if !user.enabled {
            return Err(AdminError::NotLetIn("this user may not log in".to_owned()));
        }
        if user.role != identity.role {
            let update = UserUpdate { role: Some(identity.role), ..UserUpdate::default() };
            accounts.update_user(&name, update, &change).await?;
        }
        Ok(name)
    }
}

/// What stands in the place of a password's hash; no password has it.
fn mark(identity: &Identity) -> String {
    let mut digest = Sha256::new();
    digest.update(identity.issuer.as_bytes());
    digest.update([0]);
    digest.update(identity.subject.as_bytes());
    format!("{PREFIX}{}", hex(&digest.finalize()))
}

fn no_provider() -> AdminError {
    AdminError::NotFound { what: "login provider", key: "oidc".to_owned() }
}

/// What people at the browser are told.
fn told(error: &LoginError) -> AdminError {
    match error {
        LoginError::Stale(why) => AdminError::Invalid { field: None, why: format!("{why}; begin again") },
        LoginError::Provider(_) => AdminError::Unavailable(error.to_string()),
        LoginError::Refused(why) => AdminError::NotLetIn(why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::admin::testing::TestAdmin;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn anna(subject: &str, role: Role) -> Identity {
        Identity { issuer: "https://p".into(), subject: subject.into(), name: "anna".into(), role }
    }

    #[tokio::test]
    async fn a_person_of_the_provider_is_a_user_of_its_own_whose_role_the_provider_decides() {
        let test = TestAdmin::new().await;
        test.admin.ensure_admin(Some("a long enough password".into())).await.expect("works");
        let log_in = async |subject: &str, role| test.admin.user_of(anna(subject, role), PEER, "c-1").await;
        assert_eq!(log_in("1", Role::Viewer).await.expect("a user"), "oidc:anna");
        assert_eq!(log_in("1", Role::Operator).await.expect("a user"), "oidc:anna");
        assert_eq!(test.admin.user("oidc:anna").await.expect("there").role, Role::Operator);
        assert!(matches!(log_in("2", Role::Admin).await, Err(AdminError::NotLetIn(_))), "another person");
        let actor = Actor::new("admin", "c-2");
        let reset = test.admin.reset_password("oidc:anna", &actor, None).await;
        assert!(reset.is_err(), "it has no password");
        test.admin.change_user("oidc:anna", None, Some(false), &actor, None).await.expect("done");
        assert!(matches!(log_in("1", Role::Operator).await, Err(AdminError::NotLetIn(_))), "it may not log in");
        let query = crate::store::ChangeQuery { limit: 10, ..Default::default() };
        let changes = test.admin.changes(&query).await.expect("read");
        assert_eq!(changes.rows.iter().filter(|row| row.changed_by == "oidc:anna").count(), 2);
    }

    #[tokio::test]
    async fn a_password_opens_no_such_user() {
        let test = TestAdmin::new().await;
        test.admin.user_of(anna("1", Role::Admin), PEER, "c").await.expect("a user");
        let mark = mark(&anna("1", Role::Admin));
        assert!(matches!(test.admin.login("oidc:anna", &mark, PEER).await, Err(AdminError::BadLogin)));
        assert!(!test.admin.has_login_provider());
        assert!(test.admin.begin_provider_login("/").await.is_err());
    }
}
