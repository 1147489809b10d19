//! One login from its beginning to the person it is. State, nonce and PKCE verifier are random and made for it alone; the
//! entry is taken out when the browser comes back, so nothing can be used twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::encoding::{base64, form};
use super::provider::Provider;
use super::token::{Expected, Fault, verify};
use super::{Begun, Callback, Identity, LoginError, Settings, StartError};
use crate::access::Role;
use crate::clock::Clock;
use crate::model::Timestamp;

/// Time to log in at the provider.
const PATIENCE: Duration = Duration::from_secs(600);
/// Logins under way, at most; some 300 bytes each. Beyond, the oldest are forgotten.
const MOST: usize = 4_096;
/// Longest name shown, in characters.
const MAX_NAME: usize = 64;

/// Logins by the provider; clones share what is under way.
#[derive(Clone)]
pub struct Oidc(Arc<Inner>);

struct Inner {
    settings: Settings,
    provider: Provider,
    under_way: Mutex<HashMap<String, Pending>>,
    clock: Clock,
}

/// A login under way.
struct Pending {
    nonce: String,
    verifier: String,
    next: String,
    begun: Timestamp,
}

impl Oidc {
    /// Checks the settings; asks nobody.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, StartError> {
        let wrong = |why: String| StartError::Settings(why);
        if settings.client_id.is_empty() {
            return Err(wrong("`client_id` is missing".to_owned()));
        }
        if !settings.redirect_url.ends_with("/login/oidc/callback") {
            let why = "`redirect_url` must be the address of this appliance as browsers reach it, and end in /login/oidc/callback";
            return Err(wrong(why.to_owned()));
        }
        crate::net::outbound::check_address(&settings.redirect_url)
            .map_err(|why| wrong(format!("`redirect_url`: {why}")))?;
        let provider = Provider::new(&settings).map_err(wrong)?;
        Ok(Self(Arc::new(Inner { settings, provider, under_way: Mutex::default(), clock })))
    }

    /// Begins a login that leads to `next`, a path of our own.
    pub async fn begin(&self, next: &str) -> Result<Begun, LoginError> {
        let Inner { settings, provider, .. } = &*self.0;
        let metadata = provider.metadata().await?;
        let (state, nonce, verifier) = (random()?, random()?, random()?);
        let challenge = base64(&Sha256::digest(verifier.as_bytes()));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &settings.client_id),
            ("redirect_uri", &settings.redirect_url),
            ("scope", &settings.scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let separator = if metadata.authorization.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}{query}", metadata.authorization);
        let begun = self.0.clock.now();
        self.0.remember(state.clone(), Pending { nonce, verifier, next: next.to_owned(), begun });
        Ok(Begun { url, state })
    }

    /// Ends a login: who it is, and where to go.
    pub async fn finish(&self, callback: Callback) -> Result<(Identity, String), LoginError> {
        let Inner { settings, provider, clock, .. } = &*self.0;
        let stale = |why: &str| LoginError::Stale(why.to_owned());
        let state = callback.state.ok_or_else(|| stale("the answer names no login"))?;
        if callback.kept.as_deref() != Some(state.as_str()) {
            return Err(stale("the login was begun in another browser"));
        }
        let pending = self.0.under_way.lock().remove(&state);
        let pending = pending.filter(|pending| clock.now().since(pending.begun) < PATIENCE);
        let pending = pending.ok_or_else(|| stale("the login is not known, was used already or took too long"))?;
        if let Some(error) = callback.error {
            let code: String = error.chars().take(40).filter(char::is_ascii_graphic).collect();
            return Err(LoginError::Refused(format!("the provider lets nobody in: {code}")));
        }
        let code = callback.code.ok_or_else(|| stale("the answer holds no code"))?;
        let token = provider.exchange(settings, &code, &pending.verifier).await?;
        let claims = self.believed(&token, &pending.nonce).await?;
        Ok((identity(settings, &claims)?, pending.next))
    }

    /// The token's claims; a key that is not known may be a new one.
    async fn believed(&self, token: &str, nonce: &str) -> Result<Map<String, Value>, LoginError> {
        let Inner { settings, provider, clock, .. } = &*self.0;
        let expected =
            Expected { issuer: &settings.issuer, client_id: &settings.client_id, nonce, now: clock.now().as_seconds() };
        let mut checked = verify(token, &*provider.keys().await?, &expected);
        if checked == Err(Fault::UnknownKey) {
            checked = verify(token, &*provider.newer_keys().await?, &expected);
        }
        checked.map_err(|fault| match fault {
            Fault::UnknownKey => LoginError::Refused("the ID token: its key is not one of the provider".to_owned()),
            Fault::Wrong(why) => LoginError::Refused(format!("the ID token: {why}")),
        })
    }
}

impl Inner {
    fn remember(&self, state: String, pending: Pending) {
        let mut under_way = self.under_way.lock();
        if under_way.len() >= MOST {
            under_way.retain(|_, other| pending.begun.since(other.begun) < PATIENCE);
        }
        if under_way.len() >= MOST
            && let Some(oldest) = under_way.iter().min_by_key(|(_, other)| other.begun).map(|(state, _)| state.clone())
        {
            under_way.remove(&oldest);
        }
        under_way.insert(state, pending);
    }
}

/// 256 random bits.
fn random() -> Result<String, LoginError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| LoginError::Provider(format!("the system gives no random numbers: {error}")))?;
    Ok(base64(&bytes))
}

/// Who the claims say it is, and what that person may do.
fn identity(settings: &Settings, claims: &Map<String, Value>) -> Result<Identity, LoginError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let refused = |why: &str| LoginError::Refused(why.to_owned());
    if !settings.domains.is_empty() {
        let verified = claims.get("email_verified").is_some_and(|verified| *verified == Value::Bool(true));
        let domain = text("email").and_then(|mail| mail.rsplit_once('@')).map(|(_, domain)| domain.to_lowercase());
        let allowed = domain.is_some_and(|domain| settings.domains.iter().any(|known| known.to_lowercase() == domain));
        if !verified || !allowed {
            return Err(refused("the mail address is not verified or of no domain that may log in"));
        }
    }
    let name: String = text(&settings.name_claim).or_else(|| text("sub")).unwrap_or_default().to_lowercase();
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fit) {
        return Err(refused("the name is empty, too long, or holds more than letters, digits, `.`, `_`, `-` and `@`"));
    }
    let role =
        role(settings, claims).ok_or_else(|| refused("no role follows from what the provider says of the person"))?;
    let subject = text("sub").unwrap_or_default().to_owned();
    Ok(Identity { issuer: settings.issuer.clone(), subject, name, role })
}

/// The greatest role that a value of the claim makes. The claim may be a path (`realm_access.roles`), a text or a list.
fn role(settings: &Settings, claims: &Map<String, Value>) -> Option<Role> {
    let direct = claims.get(&settings.role_claim);
    let found = direct.or_else(|| {
        let mut parts = settings.role_claim.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    })?;
    let values: Vec<&str> = match found {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let of = |known: &[String]| known.iter().any(|known| values.contains(&known.as_str()));
    settings.roles.iter().find(|(_, known)| of(known)).map(|(role, _)| *role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> Settings {
        let values = |text: &str| vec![text.to_owned()];
        Settings {
            issuer: "https://p".into(),
            client_id: "muttd".into(),
            client_secret: "s".into(),
            redirect_url: "https://mutt/login/oidc/callback".into(),
            scopes: "openid".into(),
            name_claim: "preferred_username".into(),
            role_claim: "realm_access.roles".into(),
            roles: [(Role::Admin, values("adm")), (Role::Operator, values("op")), (Role::Viewer, values("all"))],
            domains: Vec::new(),
            ca_file: None,
        }
    }

    fn of(settings: &Settings, claims: &Value) -> Result<(String, Role), LoginError> {
        identity(settings, claims.as_object().expect("an object")).map(|found| (found.name, found.role))
    }

    #[test]
    fn claims_become_a_name_and_the_greatest_role() {
        let check = |roles: Value, expected: Option<Role>| {
            let claims = json!({"sub": "1", "preferred_username": "Anna", "realm_access": {"roles": roles}});
            assert_eq!(of(&settings(), &claims).ok(), expected.map(|role| ("anna".to_owned(), role)), "{claims}");
        };
        check(json!(["all", "adm"]), Some(Role::Admin));
        check(json!(["all", "op"]), Some(Role::Operator));
        check(json!("all"), Some(Role::Viewer));
        check(json!([]), None);
        check(json!(["Adm", 7]), None);
        let flat = Settings { role_claim: "groups".into(), ..settings() };
        assert_eq!(of(&flat, &json!({"sub": "u-1", "groups": ["op"]})), Ok(("u-1".to_owned(), Role::Operator)));
        assert!(of(&flat, &json!({"sub": "u 1", "groups": ["op"]})).is_err());
    }

    #[test]
    fn a_mail_address_counts_only_if_it_is_verified_and_of_a_domain_that_may_log_in() {
        let only = Settings { domains: vec!["Example.org".into()], role_claim: "groups".into(), ..settings() };
        let check = |mail: &str, verified: Value, ok: bool| {
            let claims = json!({"sub": "u", "groups": ["op"], "email": mail, "email_verified": verified});
            assert_eq!(of(&only, &claims).is_ok(), ok, "{claims}");
        };
        check("anna@example.org", json!(true), true);
        check("anna@EXAMPLE.ORG", json!(true), true);
        check("anna@example.org", json!(false), false);
        check("anna@example.org", json!("true"), false);
        check("anna@sub.example.org", json!(true), false);
        check("example.org", json!(true), false);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let check = |settings: Settings, why: &str| {
            let error = Oidc::new(settings, Clock::system()).err().expect("refused").to_string();
            assert!(error.contains(why), "{error}");
        };
        check(Settings { issuer: "http://p".into(), ..settings() }, "issuer");
        check(Settings { client_id: String::new(), ..settings() }, "client_id");
        check(Settings { redirect_url: "https://mutt/".into(), ..settings() }, "redirect_url");
    }

    #[test]
    fn logins_under_way_are_bounded_and_the_oldest_go_first() {
        let oidc = Oidc::new(settings(), Clock::system()).expect("valid");
        let pending = |at: i64| Pending {
            nonce: String::new(),
            verifier: String::new(),
            next: "/".into(),
            begun: Timestamp::from_millis(at),
        };
        for number in 0..MOST + 2 {
            oidc.0.remember(number.to_string(), pending(i64::try_from(number).expect("small")));
        }
        let under_way = oidc.0.under_way.lock();
        assert!(under_way.len() == MOST && !under_way.contains_key("1") && under_way.contains_key("2"));
    }

    #[tokio::test]
    async fn what_comes_back_must_belong_to_this_browser_and_works_once() {
        let oidc = Oidc::new(settings(), Clock::fixed(Timestamp::from_millis(1_000))).expect("valid");
        let begun = Timestamp::from_millis(1_000);
        let remember = || {
            let pending = Pending { nonce: "n".into(), verifier: "v".into(), next: "/".into(), begun };
            oidc.0.remember("s".into(), pending);
        };
        let back = |kept: Option<&str>| Callback {
            state: Some("s".into()),
            kept: kept.map(str::to_owned),
            error: Some("access_denied".into()),
            code: None,
        };
        remember();
        assert!(matches!(oidc.finish(back(None)).await, Err(LoginError::Stale(_))));
        assert!(matches!(oidc.finish(back(Some("other"))).await, Err(LoginError::Stale(_))));
        assert!(matches!(oidc.finish(back(Some("s"))).await, Err(LoginError::Refused(_))));
        assert!(matches!(oidc.finish(back(Some("s"))).await, Err(LoginError::Stale(_))), "a second time");
        remember();
        oidc.0.clock.advance(PATIENCE);
        assert!(matches!(oidc.finish(back(Some("s"))).await, Err(LoginError::Stale(_))), "too late");
    }
}
