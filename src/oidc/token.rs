//! ID tokens: whether one of the provider's keys signed it, and whether it is for us, for this login and in force
//! (OpenID Connect Core 1.0 section 3.1.3.7). RS256 and ES256 only: the first is what every provider must offer, the
//! second what some prefer; `none` and shared secrets are refused whatever a token says. Pure.

use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};

use super::encoding::from_base64;

/// Clocks may differ by so much, in seconds.
const LEEWAY: i64 = 60;
/// Longest token, in bytes: groups of a large organisation fit.
const MAX_TOKEN: usize = 64 << 10;
/// Keys of a provider, at most.
const MAX_KEYS: usize = 64;

/// A key of the provider.
struct Key {
    id: Option<String>,
    value: KeyValue,
}

enum KeyValue {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
}

/// The keys of the provider.
#[derive(Default)]
pub(super) struct Keys(Vec<Key>);

/// What a token must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// Seconds since the epoch.
    pub(super) now: i64,
}

/// Why a token is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The provider may have a new key.
    UnknownKey,
    /// It is wrong.
    Wrong(&'static str),
}

impl Keys {
    /// The signing keys of a JSON Web Key Set (RFC 7517) that can be used here.
    pub(super) fn read(set: &Value) -> Self {
        let keys = set["keys"].as_array().into_iter().flatten();
        Self(keys.filter_map(Key::read).take(MAX_KEYS).collect())
    }

    fn verify(&self, id: Option<&str>, algorithm: &str, signed: &[u8], signature: &[u8]) -> Result<(), Fault> {
        let fits = |key: &&Key| match (&key.value, algorithm) {
            (KeyValue::Rsa { .. }, "RS256") | (KeyValue::P256(_), "ES256") => {
                id.is_none() || key.id.is_none() || key.id.as_deref() == id
            }
            _ => false,
        };
        let mut fitting = self.0.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(Fault::UnknownKey);
        }
        if fitting.any(|key| key.value.has_signed(signed, signature)) {
            return Ok(());
        }
        Err(Fault::Wrong("its signature is not one of the provider"))
    }
}

impl Key {
    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key[name].as_str();
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |name: &str| from_base64(text(name)?);
        let value = match text("kty")? {
            "RSA" => KeyValue::Rsa { n: bytes("n")?, e: bytes("e")? },
            "EC" if text("crv") == Some("P-256") => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                (x.len() == 32 && y.len() == 32).then(|| KeyValue::P256([&[4][..], &x, &y].concat()))?
            }
            _ => return None,
        };
        Some(Self { id: text("kid").map(str::to_owned), value })
    }
}

impl KeyValue {
    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
        }
    }
}

/// The claims of a token, if it is to be believed.
pub(super) fn verify(token: &str, keys: &Keys, expected: &Expected<'_>) -> Result<Map<String, Value>, Fault> {
    if token.len() > MAX_TOKEN {
        return Err(Fault::Wrong("it is too long"));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { return Err(Fault::Wrong("it has not three parts")) };
    let signed = &token.as_bytes()[..header.len() + 1 + claims.len()];
    let header = object(header)?;
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    if !["RS256", "ES256"].contains(&algorithm) {
        return Err(Fault::Wrong("it is not signed by RS256 or ES256"));
    }
    if header.contains_key("crit") {
        return Err(Fault::Wrong("its header wants what is not known here"));
    }
    let signature = from_base64(signature).ok_or(Fault::Wrong("its signature cannot be read"))?;
    keys.verify(header.get("kid").and_then(Value::as_str), algorithm, signed, &signature)?;
    let claims = object(claims)?;
    check(&claims, expected).map_err(Fault::Wrong)?;
    Ok(claims)
}

fn object(part: &str) -> Result<Map<String, Value>, Fault> {
    let bytes = from_base64(part).ok_or(Fault::Wrong("it is not base64"))?;
    serde_json::from_slice(&bytes).map_err(|_| Fault::Wrong("it holds no JSON objects"))
}

fn check(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), &'static str> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| claims.get(name).and_then(|value| value.as_i64().or_else(|| Some(value.as_f64()? as i64)));
    if text("iss") != Some(expected.issuer) {
        return Err("it is of another issuer");
    }
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.client_id) {
        return Err("it is for somebody else");
    }
    if (audience.len() > 1 || text("azp").is_some()) && text("azp") != Some(expected.client_id) {
        return Err("it was given to somebody else");
    }
    if time("exp").is_none_or(|end| end <= expected.now.saturating_sub(LEEWAY)) {
        return Err("its time is over");
    }
    if time("iat").is_none_or(|made| made > expected.now.saturating_add(LEEWAY)) {
        return Err("it comes from the future; is one of the clocks wrong?");
    }
    if time("nbf").is_some_and(|from| from > expected.now.saturating_add(LEEWAY)) {
        return Err("its time has not come");
    }
    if text("nonce") != Some(expected.nonce) {
        return Err("it is for another login");
    }
    if text("sub").is_none_or(|subject| subject.is_empty() || subject.len() > 255) {
        return Err("it names nobody");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::encoding::base64;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
    use serde_json::json;

    const NOW: i64 = 1_800_000_000;

    struct Signer {
        ec: EcdsaKeyPair,
        rsa: RsaKeyPair,
    }

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
            let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
            let rsa = RsaKeyPair::from_pkcs8(include_bytes!("../../tests/data/oidc/rsa.pk8"));
            Self { ec: ec.expect("a key"), rsa: rsa.expect("a key") }
        }

        fn keys(&self) -> Keys {
            let point = self.ec.public_key().as_ref();
            let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
            Keys::read(&json!({"keys": [
                {"kty": "EC", "crv": "P-256", "kid": "e", "use": "sig", "x": base64(&point[1..33]), "y": base64(&point[33..])},
                {"kty": "RSA", "kid": "r", "n": base64(&rsa.n),
                 "e": base64(&rsa.e)},
                {"kty": "oct", "k": "c2VjcmV0"},
            ]}))
        }

        fn token(&self, header: &Value, claims: &Value) -> String {
            let text = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
            let random = SystemRandom::new();
            let signature = if header["alg"] == "ES256" {
                self.ec.sign(&random, text.as_bytes()).expect("signs").as_ref().to_vec()
            } else {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).expect("signs");
                signature
            };
            format!("{text}.{}", base64(&signature))
        }
    }

    fn claims() -> Value {
        json!({"iss": "https://p", "aud": "muttd", "exp": NOW + 300, "iat": NOW - 1, "nonce": "n", "sub": "s-1"})
    }

    fn expected() -> Expected<'static> {
        Expected { issuer: "https://p", client_id: "muttd", nonce: "n", now: NOW }
    }

    #[test]
    fn a_token_is_believed_only_if_everything_about_it_is_right() {
        let signer = Signer::new();
        let check = |change: Value, why: Option<&str>| {
            let mut claims = claims();
            for (name, value) in change.as_object().expect("an object") {
                claims[name] = value.clone();
            }
            let token = signer.token(&json!({"alg": "ES256", "kid": "e"}), &claims);
            match (verify(&token, &signer.keys(), &expected()), why) {
                (Ok(found), None) => assert_eq!(found["sub"], "s-1"),
                (Err(Fault::Wrong(found)), Some(why)) => assert!(found.contains(why), "{change}: {found}"),
                (found, _) => panic!("{change}: {found:?}"),
            }
        };
        check(json!({}), None);
        check(json!({"aud": ["other", "muttd"], "azp": "muttd"}), None);
        check(json!({"exp": NOW - 59}), None);
        check(json!({"iss": "https://q"}), Some("another issuer"));
        check(json!({"aud": "other"}), Some("somebody else"));
        check(json!({"aud": ["other", "muttd"]}), Some("given to somebody else"));
        check(json!({"azp": "other"}), Some("given to somebody else"));
        check(json!({"exp": NOW - 60}), Some("time is over"));
        check(json!({"exp": null}), Some("time is over"));
        check(json!({"iat": NOW + 61}), Some("future"));
        check(json!({"nbf": NOW + 61}), Some("not come"));
        check(json!({"nonce": "m"}), Some("another login"));
        check(json!({"nonce": null}), Some("another login"));
        check(json!({"sub": ""}), Some("nobody"));
    }

    #[test]
    fn only_signatures_of_the_providers_keys_by_known_algorithms_count() {
        let (signer, other) = (Signer::new(), Signer::new());
        let check = |token: &str, expected_fault: Option<Fault>| {
            assert_eq!(verify(token, &signer.keys(), &expected()).err(), expected_fault, "{token}");
        };
        let of = |signer: &Signer, header: Value| signer.token(&header, &claims());
        check(&of(&signer, json!({"alg": "RS256", "kid": "r"})), None);
        check(&of(&signer, json!({"alg": "ES256"})), None);
        check(&of(&signer, json!({"alg": "ES256", "kid": "new"})), Some(Fault::UnknownKey));
        check(&of(&signer, json!({"alg": "RS256", "kid": "e"})), Some(Fault::UnknownKey));
        let foreign = Fault::Wrong("its signature is not one of the provider");
        check(&of(&other, json!({"alg": "ES256", "kid": "e"})), Some(foreign));
        for alg in ["none", "HS256", "RS512", ""] {
            let unknown = Fault::Wrong("it is not signed by RS256 or ES256");
            check(&of(&signer, json!({"alg": alg, "kid": "r"})), Some(unknown));
        }
        let good = of(&signer, json!({"alg": "ES256", "kid": "e"}));
        let unsigned = good.rsplit_once('.').expect("three parts").0;
        check(&format!("{unsigned}."), Some(Fault::Wrong("its signature is not one of the provider")));
        check(unsigned, Some(Fault::Wrong("it has not three parts")));
        check(
            &of(&signer, json!({"alg": "ES256", "crit": ["b64"]})),
            Some(Fault::Wrong("its header wants what is not known here")),
        );
        let (header, _) = good.split_once('.').expect("parts");
        let signature = good.rsplit_once('.').expect("parts").1;
        let mut raised = claims();
        raised["sub"] = "root".into();
        let forged = format!("{header}.{}.{signature}", base64(raised.to_string().as_bytes()));
        check(&forged, Some(Fault::Wrong("its signature is not one of the provider")));
    }
}
