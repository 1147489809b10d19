//! Login by an OpenID Connect provider that signs with real keys, behaves, and misbehaves in the ways that providers and
//! attackers do.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use muttd::clock::Clock;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Answer, Receiver, Request, Server, encode};

const SECRET: &str = "client-secret-0123456789";
const PASSWORD: &str = "a long enough password 44";

/// What the provider does.
struct Provider {
    address: SocketAddr,
    key: EcdsaKeyPair,
    key_id: String,
    rsa: Option<RsaKeyPair>,
    /// Changes the header and the claims of the next tokens.
    forge: fn(&mut Value, &mut Value),
    /// What codes were given out: their nonce and challenge.
    codes: HashMap<String, (String, String)>,
    roles: Vec<&'static str>,
    subject: &'static str,
    down: bool,
    /// Requests by path.
    asked: HashMap<String, u32>,
}

type Shared = Arc<Mutex<Provider>>;

fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key")
}

fn lock(provider: &Shared) -> MutexGuard<'_, Provider> {
    provider.lock().expect("no thread of the provider panicked")
}

fn start() -> Shared {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let provider = Provider {
        address: listener.local_addr().expect("an address"),
        key: new_key(),
        key_id: "first".to_owned(),
        rsa: None,
        forge: |_, _| {},
        codes: HashMap::new(),
        roles: vec!["mutt-operators"],
        subject: "subject-1",
        down: false,
        asked: HashMap::new(),
    };
    let provider = Arc::new(Mutex::new(provider));
    let shared = Arc::clone(&provider);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || while answer(&stream, &shared).is_some() {});
        }
    });
    provider
}

/// Answers one request.
fn answer(stream: &TcpStream, provider: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, body) = lock(provider).reply(&path, &authorization, &String::from_utf8_lossy(&body));
    let body = body.to_string();
    let mut writer = stream;
    write!(
        writer,
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()
}

impl Provider {
    fn issuer(&self) -> String {
        format!("http://{}/realm", self.address)
    }

    fn reply(&mut self, path: &str, authorization: &str, body: &str) -> (u16, Value) {
        *self.asked.entry(path.to_owned()).or_default() += 1;
        let issuer = self.issuer();
        match path {
            _ if self.down => (503, json!({"error": "temporarily_unavailable"})),
            "/realm/.well-known/openid-configuration" => (
                200,
                json!({
                    "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
                }),
            ),
            "/realm/keys" => (200, self.keys()),
            "/realm/token" => self.token(authorization, &form(body)),
            _ => (404, json!({})),
        }
    }

    fn keys(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let mut keys = vec![json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.key_id,
            "x": base64(&point[1..33]), "y": base64(&point[33..]),
        })];
        keys.extend(self.rsa.as_ref().map(|rsa| {
            let public = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public());
            json!({"kty": "RSA", "kid": "rsa", "n": base64(&public.n),
                   "e": base64(&public.e)})
        }));
        json!({"keys": keys})
    }

    /// Exchanges a code, once, for whoever has the verifier and the client's secret.
    fn token(&mut self, authorization: &str, form: &HashMap<String, String>) -> (u16, Value) {
        let expected = format!("Basic {}", standard_base64(format!("muttd:{SECRET}").as_bytes()));
        if authorization != expected {
            return (401, json!({"error": "invalid_client"}));
        }
        let Some((nonce, challenge)) = self.codes.remove(&form["code"]) else {
            return (400, json!({"error": "invalid_grant"}));
        };
        if base64(&Sha256::digest(form["code_verifier"].as_bytes())) != challenge {
            return (400, json!({"error": "invalid_grant"}));
        }
        let now = Clock::system().now().as_seconds();
        let mut header = match self.rsa {
            Some(_) => json!({"alg": "RS256", "kid": "rsa"}),
            None => json!({"alg": "ES256", "kid": self.key_id}),
        };
        let mut claims = json!({
            "iss": self.issuer(), "aud": "muttd", "sub": self.subject, "nonce": nonce, "iat": now, "exp": now + 300,
            "preferred_username": "Anna", "groups": self.roles,
        });
        (self.forge)(&mut header, &mut claims);
        let signed = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        let random = SystemRandom::new();
        let signature = match &self.rsa {
            Some(rsa) => {
                let mut signature = vec![0; rsa.public().modulus_len()];
                rsa.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("signs");
                signature
            }
            None => self.key.sign(&random, signed.as_bytes()).expect("signs").as_ref().to_vec(),
        };
        let token = match header["alg"].as_str() {
            Some("none") => format!("{signed}."),
            _ => format!("{signed}.{}", base64(&signature)),
        };
        (200, json!({"access_token": "x", "token_type": "Bearer", "id_token": token}))
    }
}

fn base64(bytes: &[u8]) -> String {
    standard_base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn standard_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = char::from(ALPHABET[(number >> (18 - 6 * place) & 63) as usize]);
            text.push(if place <= group.len() { letter } else { '=' });
        }
    }
    text
}

fn form(text: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, more)) = rest.split_first() {
            rest = more;
            if *first == b'%' {
                let digits = std::str::from_utf8(&rest[..2]).expect("digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
                rest = &rest[2..];
            } else {
                bytes.push(*first);
            }
        }
        String::from_utf8(bytes).expect("text")
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect()
}

fn appliance(provider: &Shared) -> (Receiver, Server) {
    let receiver = Receiver::start();
    let issuer = lock(provider).issuer();
    let server = Server::builder()
        .delivering_to(&receiver)
        .env("MUTTD_ADMIN_PASSWORD", PASSWORD)
        .env("MUTTD_OIDC_ISSUER", issuer)
        .env("MUTTD_OIDC_CLIENT_SECRET", SECRET)
        .env("MUTTD_OIDC_REDIRECT_URL", "http://127.0.0.1/login/oidc/callback")
        .env("MUTTD_OIDC_ADMIN_VALUES", "mutt-admins")
        .env("MUTTD_OIDC_OPERATOR_VALUES", "mutt-operators,noc")
        .start();
    (receiver, server)
}

/// A browser between the appliance and the provider.
struct Visit {
    state: String,
    code: String,
    cookie: String,
}

/// Goes away to the provider, which gives a code.
fn begin(server: &Server, provider: &Shared, next: &str) -> Visit {
    let away = Request::get(server.ports.web, format!("/login/oidc?next={}", encode(next))).expect().must_be(303);
    let place = away.header("location").expect("a place").to_owned();
    let (page, query) = place.split_once('?').expect("a query");
    assert_eq!(page, format!("{}/authorize", lock(provider).issuer()));
    let asked = form(query);
    assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
    assert_eq!((asked["client_id"].as_str(), asked["scope"].as_str()), ("muttd", "openid profile email"));
    let code = format!("code-{}", asked["state"]);
    lock(provider).codes.insert(code.clone(), (asked["nonce"].clone(), asked["code_challenge"].clone()));
    let cookie = away.header("set-cookie").expect("a cookie").to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/login"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    Visit { state: asked["state"].clone(), code, cookie }
}

fn back(server: &Server, visit: &Visit) -> Answer {
    let path = format!("/login/oidc/callback?code={}&state={}", encode(&visit.code), encode(&visit.state));
    Request::get(server.ports.web, path).header("Cookie", visit.cookie.as_str()).expect()
}

fn session(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").expect("a session").split(';').next().unwrap_or_default().to_owned();
    assert!(cookie.starts_with("muttd_session="), "{cookie}");
    cookie
}

#[test]
fn a_person_of_the_provider_logs_in_with_the_role_that_the_claims_make() {
    let provider = start();
    let (_receiver, server) = appliance(&provider);
    let page = Request::get(server.ports.web, "/login?next=/rules").expect().must_be(200).text();
    assert!(page.contains("href=\"/login/oidc?next=%2Frules\""), "{page}");
    let visit = begin(&server, &provider, "/rules");
    let answer = back(&server, &visit).must_be(303);
    assert_eq!(answer.header("location"), Some("/rules"));
    let cookie = session(&answer);
    let get = |path: &str| Request::get(server.ports.web, path).header("Cookie", cookie.as_str()).expect();
    let page = get("/rules/new").must_be(200).text();
    assert!(page.contains("oidc:anna"), "the name is shown: {page}");
    get("/users").must_be(403);
    let user = server.api_get("/api/v2/users/oidc%3Aanna");
    assert_eq!((&user["role"], &user["must_change_password"]), (&json!("operator"), &json!(false)));
    let trail = server.api_get("/api/v2/config-audit?table_name=users&record_id=oidc%3Aanna");
    assert_eq!(trail["changes"][0]["changed_by"], "oidc:anna");
    back(&server, &visit).must_be(400);

    // The provider decides anew each time; RS256 is as good.
    let rsa = RsaKeyPair::from_pkcs8(include_bytes!("../data/oidc/rsa.pk8")).expect("a key");
    lock(&provider).rsa = Some(rsa);
    lock(&provider).roles = vec!["mutt-operators", "mutt-admins"];
    lock(&provider).key_id = "second".to_owned();
    let asked = lock(&provider).asked["/realm/keys"];
    assert_eq!(asked, 1, "keys are kept");
    // Its key is not known yet, and the keys were read a moment ago: half a minute must pass before they are read again.
    back(&server, &begin(&server, &provider, "/")).must_be(403);
    // Local users are as they were.
    let mut browser = crate::support::Browser::new(server.ports.web);
    assert!(browser.log_in("admin", PASSWORD).must_be(200).text().contains("Overview"));
    assert!(!server.log().contains(SECRET), "the secret was logged");
}

#[test]
fn a_new_key_of_the_provider_is_found_after_half_a_minute() {
    let provider = start();
    let (_receiver, server) = appliance(&provider);
    back(&server, &begin(&server, &provider, "/")).must_be(303);
    {
        let mut provider = lock(&provider);
        provider.rsa = Some(RsaKeyPair::from_pkcs8(include_bytes!("../data/oidc/rsa.pk8")).expect("a key"));
        provider.roles = vec!["mutt-admins"];
    }
    crate::support::eventually_within(std::time::Duration::from_secs(60), "the new key is known", || {
        (back(&server, &begin(&server, &provider, "/")).status == 303).then_some(())
    });
    assert_eq!(server.api_get("/api/v2/users/oidc%3Aanna")["role"], "admin");
    assert_eq!(lock(&provider).asked["/realm/keys"], 2, "a wrong key does not make us ask each time");
}

#[test]
fn whatever_is_wrong_with_a_login_lets_nobody_in() {
    let provider = start();
    let (_receiver, server) = appliance(&provider);
    let check = |forge: fn(&mut Value, &mut Value), status: u16, why: &str| {
        lock(&provider).forge = forge;
        let answer = back(&server, &begin(&server, &provider, "/"));
        assert_eq!(answer.status, status, "{why}");
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
        let cookies = answer.header("set-cookie").unwrap_or_default();
        assert_eq!(cookies.contains("muttd_session"), status == 303, "{why}: {cookies}");
    };
    check(|_, claims| claims["nonce"] = "another".into(), 403, "another login");
    check(|_, claims| claims["exp"] = 1_700_000_000.into(), 403, "time is over");
    check(|_, claims| claims["aud"] = "another".into(), 403, "somebody else");
    check(|_, claims| claims["iss"] = "https://evil.example".into(), 403, "another issuer");
    check(|header, _| header["alg"] = "none".into(), 403, "not signed by RS256 or ES256");
    check(|header, _| header["alg"] = "HS256".into(), 403, "not signed by RS256 or ES256");
    check(|_, claims| claims["groups"] = json!(["others"]), 403, "no role");
    check(|_, claims| claims["preferred_username"] = "x:y".into(), 403, "the name is");
    check(|_, _| {}, 303, "");

    // The same name for another person.
    lock(&provider).subject = "subject-2";
    check(|_, _| {}, 403, "another person");
    lock(&provider).subject = "subject-1";

    // A key that is not the provider's own, under a name that is.
    let own = std::mem::replace(&mut lock(&provider).key, new_key());
    check(|_, _| {}, 403, "its signature is not one of the provider");
    lock(&provider).key = own;

    // States: replayed, of another browser, made up.
    lock(&provider).forge = |_, _| {};
    let visit = begin(&server, &provider, "/");
    back(&server, &visit).must_be(303);
    back(&server, &visit).must_be(400);
    let stolen = Visit { cookie: begin(&server, &provider, "/").cookie, ..begin(&server, &provider, "/") };
    back(&server, &stolen).must_be(400);
    let made_up = Visit { state: "x".into(), code: "y".into(), cookie: "muttd_oidc=x".into() };
    back(&server, &made_up).must_be(400);
    // A code that another browser got for its own login.
    let (mine, theirs) = (begin(&server, &provider, "/"), begin(&server, &provider, "/"));
    back(&server, &Visit { code: theirs.code, ..mine }).must_be(503);
    // The provider says no.
    let visit = begin(&server, &provider, "/");
    let path = format!("/login/oidc/callback?error=access_denied&state={}", encode(&visit.state));
    Request::get(server.ports.web, path).header("Cookie", visit.cookie).expect().must_be(403);
    // Afterwards it leads to a path of our own only.
    let elsewhere = begin(&server, &provider, "//evil.example/");
    assert_eq!(back(&server, &elsewhere).must_be(303).header("location"), Some("/"));
}

#[test]
fn a_provider_that_is_away_keeps_nobody_with_a_password_out() {
    let provider = start();
    lock(&provider).down = true;
    let (_receiver, server) = appliance(&provider);
    let answer = Request::get(server.ports.web, "/login/oidc").expect().must_be(503);
    assert!(answer.text().contains("temporarily_unavailable"), "{}", answer.text());
    let mut browser = crate::support::Browser::new(server.ports.web);
    assert!(browser.log_in("admin", PASSWORD).must_be(200).text().contains("Overview"));
    lock(&provider).down = false;
    back(&server, &begin(&server, &provider, "/")).must_be(303);
}
