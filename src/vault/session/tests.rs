//! The client against a server that speaks Vault's HTTP API, and every way in which it may not.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::pause;
use crate::clock::Clock;
use crate::secret::Secret;
use crate::vault::*;

const ROLE: &str = "the-role";
const SECRET_ID: &str = "the-secret-id-0123456789";

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Sealed,
    Busy,
    Silent,
    NoJson,
    Endless,
    /// Gives tokens that may read nothing.
    NoPolicy,
    /// Does not renew.
    NoRenewal,
}

struct Told {
    mood: Mood,
    lease: u64,
    data: Value,
    version: u64,
    /// Tokens that are good.
    tokens: Vec<String>,
    logins: u32,
    renewals: u32,
    reads: u32,
    namespace: Option<String>,
}

#[derive(Clone)]
struct Server {
    told: Arc<Mutex<Told>>,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        let told = Told {
            mood: Mood::Well,
            lease: 3_600,
            data: json!({"chat": "first-value", "chat_next": "next-value"}),
            version: 1,
            tokens: Vec::new(),
            logins: 0,
            renewals: 0,
            reads: 0,
            namespace: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Self { told: Arc::new(Mutex::new(told)), address: listener.local_addr().expect("an address") };
        let router = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    fn set(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock());
    }

    fn put(&self, data: Value) {
        self.set(|told| {
            told.data = data;
            told.version += 1;
        });
    }

    fn settings(&self) -> Settings {
        Settings {
            address: format!("http://{}", self.address),
            approle_mount: "approle".into(),
            role_id: ROLE.into(),
            secret_id: SecretId::Value(Secret::new(SECRET_ID)),
            mount: "secret".into(),
            path: "noc/muttd".into(),
            namespace: "team".into(),
            ca_file: None,
            poll: Duration::from_millis(20),
            timeout: Duration::from_millis(300),
            start_wait: Duration::from_secs(10),
            required: true,
        }
    }

    async fn vault(&self) -> Vault {
        start(self.settings(), Clock::system(), CancellationToken::new()).await.expect("it answers")
    }
}

fn errors(status: u16, why: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("retry-after", "0")], axum::Json(json!({"errors": [why]}))).into_response()
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (method, path, headers) =
        (request.method().to_string(), request.uri().path().to_owned(), request.headers().clone());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("a body");
    let mood = server.told.lock().mood;
    match mood {
        Mood::Sealed => return errors(503, "Vault is sealed"),
        Mood::Busy => return errors(429, "request path is rate limited"),
        Mood::Silent => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            return errors(500, "too late");
        }
        Mood::NoJson => return "<html>log in: first-value</html>".into_response(),
        Mood::Endless => return "[1],".repeat(1 << 20).into_response(),
        Mood::Well | Mood::NoPolicy | Mood::NoRenewal => {}
    }
    let told = &mut *server.told.lock();
    told.namespace = headers.get("x-vault-namespace").and_then(|name| name.to_str().ok()).map(str::to_owned);
    match (method.as_str(), path.as_str()) {
        ("POST", "/v1/auth/approle/login") => log_in(told, &body),
        ("POST", "/v1/auth/token/renew-self") if mood != Mood::NoRenewal && is_known(told, &headers) => {
            told.renewals += 1;
            axum::Json(
                json!({"auth": {"client_token": told.tokens.last(), "lease_duration": told.lease, "renewable": true}}),
            )
            .into_response()
        }
        ("GET", "/v1/secret/data/noc/muttd") if mood != Mood::NoPolicy && is_known(told, &headers) => {
            told.reads += 1;
            axum::Json(json!({"data": {"data": told.data, "metadata": {"version": told.version}}})).into_response()
        }
        ("GET", "/v1/secret/data/noc/muttd") | ("POST", "/v1/auth/token/renew-self") => {
            errors(403, "permission denied")
        }
        _ => errors(404, "no handler for route"),
    }
}

fn is_known(told: &Told, headers: &HeaderMap) -> bool {
    let token = headers.get("x-vault-token").and_then(|token| token.to_str().ok()).unwrap_or_default();
    told.tokens.iter().any(|known| known == token)
}

fn log_in(told: &mut Told, body: &[u8]) -> Response {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    if sent != json!({"role_id": ROLE, "secret_id": SECRET_ID}) {
        return errors(400, "invalid role or secret ID");
    }
    told.logins += 1;
    let token = format!("hvs.token-{}", told.logins);
    told.tokens.push(token.clone());
    axum::Json(json!({"auth": {"client_token": token, "lease_duration": told.lease, "renewable": true}}))
        .into_response()
}

/// Waits until `look` finds something.
async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn value(vault: &Vault, name: &str) -> Option<String> {
    vault.secrets.get().values.get(name).map(|secret| secret.reveal().to_owned())
}

async fn until_value(vault: &Vault, expected: &str) {
    eventually(expected, || (value(vault, "chat").as_deref() == Some(expected)).then_some(())).await;
}

async fn until_trouble(vault: &Vault, expected: &str) {
    eventually(expected, || vault.status.get().trouble.as_ref().filter(|(_, why)| why.contains(expected)).map(drop))
        .await;
}

#[tokio::test]
async fn members_are_read_and_a_new_version_is_noticed() {
    let server = Server::start().await;
    let vault = server.vault().await;
    assert_eq!(
        (value(&vault, "chat").as_deref(), value(&vault, "chat_next").as_deref()),
        (Some("first-value"), Some("next-value"))
    );
    assert_eq!((vault.status.get().version, server.told.lock().namespace.as_deref()), (Some(1), Some("team")));
    server.put(json!({"chat": "second-value"}));
    until_value(&vault, "second-value").await;
    assert_eq!(value(&vault, "chat_next"), None);
    assert_eq!(server.told.lock().logins, 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_replaced_when_that_is_refused() {
    let server = Server::start().await;
    server.set(|told| told.lease = 1);
    let vault = server.vault().await;
    eventually("two renewals", || (server.told.lock().renewals >= 2).then_some(())).await;
    assert_eq!(server.told.lock().logins, 1, "renewed, not asked for anew");
    server.set(|told| told.mood = Mood::NoRenewal);
    eventually("a further login", || (server.told.lock().logins >= 2).then_some(())).await;
    server.put(json!({"chat": "after"}));
    until_value(&vault, "after").await;
}

#[tokio::test]
async fn near_its_greatest_age_a_token_is_replaced() {
    let server = Server::start().await;
    server.set(|told| told.lease = 2);
    let _vault = server.vault().await;
    // From now on renewals give less than half of what the login gave: the maximum is near.
    server.set(|told| told.lease = 0);
    eventually("a further login", || (server.told.lock().logins >= 2).then_some(())).await;
}

#[tokio::test]
async fn a_revoked_token_is_replaced_at_once() {
    let server = Server::start().await;
    let vault = server.vault().await;
    server.set(|told| told.tokens.clear());
    server.put(json!({"chat": "after"}));
    until_value(&vault, "after").await;
    assert_eq!(server.told.lock().logins, 2);
    assert_eq!(vault.status.get().trouble, None, "nobody had to notice");
}

#[tokio::test]
async fn whatever_goes_wrong_the_values_read_last_stay_and_it_is_told() {
    let server = Server::start().await;
    let vault = server.vault().await;
    for (mood, expected) in [
        (Mood::Sealed, "sealed or in maintenance (503)"),
        (Mood::Busy, "too many requests for it (429)"),
        (Mood::Silent, "does not answer in time"),
        (Mood::NoJson, "not JSON"),
        (Mood::Endless, "longer than"),
        (Mood::NoPolicy, "does the role's policy allow"),
    ] {
        server.set(|told| told.mood = mood);
        until_trouble(&vault, expected).await;
        assert_eq!(value(&vault, "chat").as_deref(), Some("first-value"), "{mood:?}");
        server.set(|told| told.mood = Mood::Well);
        eventually("it is well again", || vault.status.get().trouble.is_none().then_some(())).await;
    }
    for (data, expected) in [
        (json!({"chat": 7}), "the member `chat` is no text"),
        (json!({"Chat!": "x"}), "a member's name"),
        (json!(null), "no version of a secret"),
    ] {
        server.put(data);
        until_trouble(&vault, expected).await;
        assert_eq!(value(&vault, "chat").as_deref(), Some("first-value"));
    }
}

#[tokio::test]
async fn a_policy_that_does_not_fit_is_not_answered_with_login_after_login() {
    let server = Server::start().await;
    server.set(|told| told.mood = Mood::NoPolicy);
    let settings = Settings { required: false, start_wait: Duration::from_millis(200), ..server.settings() };
    let vault = start(settings, Clock::system(), CancellationToken::new()).await.expect("it goes on without");
    until_trouble(&vault, "does the role's policy allow").await;
    assert!(server.told.lock().logins <= 2, "{}", server.told.lock().logins);
    assert!(!vault.secrets.get().answered);
}

#[tokio::test]
async fn a_start_without_vault_waits_and_goes_on_or_is_refused_as_configured() {
    let server = Server::start().await;
    let stop = CancellationToken::new;
    server.set(|told| told.mood = Mood::Sealed);
    let wait = Duration::from_millis(100);
    let refused = start(Settings { start_wait: wait, ..server.settings() }, Clock::system(), stop()).await;
    let refused = refused.expect_err("it is required").to_string();
    assert!(refused.contains("required") && refused.contains("503"), "{refused}");
    let settings = Settings { start_wait: wait, required: false, ..server.settings() };
    let vault = start(settings, Clock::system(), stop()).await.expect("it goes on");
    assert!(!vault.secrets.get().answered);
    server.set(|told| told.mood = Mood::Well);
    until_value(&vault, "first-value").await;
}

#[tokio::test]
async fn what_cannot_be_used_is_told_before_anything_is_sent() {
    let server = Server::start().await;
    let refused = async |settings: Settings| {
        let outcome = start(settings, Clock::system(), CancellationToken::new()).await;
        let why = outcome.expect_err("refused").to_string();
        assert!(!why.contains(SECRET_ID), "{why}");
        why
    };
    let address = |address: &str| Settings { address: address.into(), ..server.settings() };
    assert!(refused(address("http://vault.example:8200")).await.contains("must begin with https://"));
    assert!(refused(address("vault")).await.contains("https://vault.example:8200"));
    let ca = Settings { ca_file: Some("/nowhere.pem".into()), ..address("https://127.0.0.1:1") };
    assert!(refused(ca).await.contains("/nowhere.pem"));
    let wrong = Settings {
        secret_id: SecretId::Value(Secret::new("wrong")),
        start_wait: Duration::from_millis(100),
        ..server.settings()
    };
    assert!(refused(wrong).await.contains("are role_id and secret_id right?"));
    assert_eq!(server.told.lock().logins, 0);
}

#[tokio::test]
async fn a_secret_id_in_a_file_is_read_at_each_login() {
    let server = Server::start().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "wrong\n").expect("written");
    let settings = Settings {
        secret_id: SecretId::File(file.path().to_owned()),
        required: false,
        start_wait: Duration::from_millis(50),
        ..server.settings()
    };
    let vault = start(settings, Clock::system(), CancellationToken::new()).await.expect("it goes on");
    until_trouble(&vault, "secret_id").await;
    std::fs::write(file.path(), format!("{SECRET_ID}\n")).expect("written");
    until_value(&vault, "first-value").await;
}

#[test]
fn pauses_grow_to_a_minute_and_are_spread() {
    let check = |failures: u32, dice: u8, millis: u128| {
        assert_eq!(pause(failures, dice).as_millis(), millis, "{failures} {dice}");
    };
    check(1, 0, 500);
    check(1, 255, 1_000);
    check(3, 255, 4_000);
    check(7, 0, 30_000);
    check(7, 255, 60_000);
    check(u32::MAX, 255, 60_000);
}
