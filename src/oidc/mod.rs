//! Login by an OpenID Connect provider: the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 6749, RFC 7636).
//!
//! A login begins with a redirect to the provider and ends at our callback with a code, which is exchanged for an ID token;
//! that is believed only if one of the provider's keys signed it, for us, for this login, now. What is under way is kept in
//! memory, bounded and for ten minutes; a restart has people begin anew. A provider that is away keeps nobody with a
//! local password out. Without the feature `oidc` only the settings are here, and a start with them is refused.

#[cfg(feature = "oidc")]
mod encoding;
#[cfg(feature = "oidc")]
mod login;
#[cfg(feature = "oidc")]
mod provider;
#[cfg(feature = "oidc")]
mod token;

use std::path::PathBuf;

#[cfg(feature = "oidc")]
pub use login::Oidc;

use crate::access::Role;
use crate::secret::Secret;

/// The provider, and who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The provider's issuer, as `https://login.example/realms/ops`; empty for none.
    pub issuer: String,
    /// As what we are known there.
    pub client_id: String,
    /// What proves it; empty for a public client.
    pub client_secret: Secret,
    /// The address of our callback as browsers reach it.
    pub redirect_url: String,
    /// What is asked for.
    pub scopes: String,
    /// The claim that becomes the user's name.
    pub name_claim: String,
    /// The claim that decides the role.
    pub role_claim: String,
    /// Its values that make an admin, an operator, a viewer.
    pub roles: [(Role, Vec<String>); 3],
    /// Domains of mail addresses whose owners may log in; empty for all.
    pub domains: Vec<String>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why logins by a provider cannot be offered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// The program was built without it.
    #[error(
        "[oidc] is configured, but this build has no login by a provider; use one built with `--features oidc`, or remove [oidc]"
    )]
    NotBuilt,
    /// The settings cannot be used.
    #[error("[oidc]: {0}")]
    Settings(String),
}

/// Why a login did not come about. Texts are for the log; browsers are told no more than the variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Begin anew: it is not known here, was used already, took too long or belongs to another browser.
    #[error("{0}")]
    Stale(String),
    /// Try later: the provider does not answer as it should.
    #[error("the provider: {0}")]
    Provider(String),
    /// Never: what the provider says of the person does not let in.
    #[error("{0}")]
    Refused(String),
}

/// A login that began.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Where the browser is sent.
    pub url: String,
    /// What the browser keeps until it comes back.
    pub state: String,
}

/// What the browser brings back.
#[derive(Debug, Clone, Default)]
pub struct Callback {
    /// The provider's code.
    pub code: Option<String>,
    /// Which login it belongs to.
    pub state: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// What the browser kept.
    pub kept: Option<String>,
}

/// Who logged in, as the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// The person, never given to another one.
    pub subject: String,
    /// The name to show.
    pub name: String,
    /// What the person may do.
    pub role: Role,
}

/// The login; this build has none.
#[cfg(not(feature = "oidc"))]
#[derive(Debug, Clone)]
pub enum Oidc {}

#[cfg(not(feature = "oidc"))]
impl Oidc {
    /// Refuses.
    pub fn new(_settings: Settings, _clock: crate::clock::Clock) -> Result<Self, StartError> {
        Err(StartError::NotBuilt)
    }

    /// Begins a login that leads to `next`.
    pub async fn begin(&self, _next: &str) -> Result<Begun, LoginError> {
        match *self {}
    }

    /// Ends a login: who it is, and where to go.
    pub async fn finish(&self, _callback: Callback) -> Result<(Identity, String), LoginError> {
        match *self {}
    }
}
