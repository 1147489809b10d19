//! API keys: list, make, exchange, revoke. A value is shown on the page that answers the form, and nowhere again.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::Web;
use super::super::auth::SignedIn;
use super::super::fault::{Answer, Fault};
use super::super::input::{Fields, Posted};
use super::super::text::{ago, moment, url_encode, visible};
use super::{ConfirmPage, Frame, Trouble, done, shown, shown_again};
use crate::access::{Network, Scope, Scopes};
use crate::admin::{AdminError, KeyInfo, KeyInput, ShownKey};
use crate::model::Timestamp;

struct KeyView {
    name: String,
    query: String,
    scopes: String,
    networks: String,
    expires: Option<String>,
    expired: bool,
    has_next: bool,
    created: String,
    last_used: String,
}

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    frame: Frame,
    keys: Vec<KeyView>,
    scopes: [&'static str; 4],
    /// A key's name and a value to be shown once.
    value: Option<(String, String)>,
    name: String,
    networks: String,
    expires_at: String,
    reason: String,
    trouble: Trouble,
}

/// `GET /keys`.
pub(super) async fn list(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    shown(&page(&web, Frame::new(&web, &by, "keys").after(&fields)).await?)
}

async fn page(web: &Web, frame: Frame) -> Answer<KeysPage> {
    let now = web.admin.clock().now();
    Ok(KeysPage {
        frame,
        keys: web.admin.api_keys().await?.iter().map(|key| key_view(key, now)).collect(),
        scopes: Scope::ALL.map(Scope::name),
        value: None,
        name: String::new(),
        networks: String::new(),
        expires_at: String::new(),
        reason: String::new(),
        trouble: Trouble::default(),
    })
}

fn key_view(key: &KeyInfo, now: Timestamp) -> KeyView {
    let networks: Vec<String> = key.networks.iter().map(ToString::to_string).collect();
    KeyView {
        name: visible(&key.name),
        query: url_encode(&key.name),
        scopes: key.scopes.to_string().replace(',', ", "),
        networks: if networks.is_empty() { "everywhere".to_owned() } else { networks.join(", ") },
        expires: key.expires_at.map(moment),
        expired: key.expires_at.is_some_and(|end| end <= now),
        has_next: key.has_next,
        created: format!("{} by {}", moment(key.created.0), visible(&key.created.1)),
        last_used: key.last_used.map_or_else(|| "never".to_owned(), |(at, peer)| format!("{}, {peer}", ago(at, now))),
    }
}

/// `POST /keys`.
pub(super) async fn create(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let made = match input(&posted.fields) {
        Ok(input) => web.admin.create_api_key(input, &posted.by.actor, posted.fields.get("reason")).await,
        Err(error) => Err(error),
    };
    let mut page = page(&web, Frame::new(&web, &posted.by, "keys")).await?;
    match made {
        Ok(made) => {
            page.value = Some(shown_once(&made));
            shown(&page)
        }
        Err(error) => {
            let text = |name| posted.fields.text(name);
            (page.name, page.networks) = (text("name"), text("networks"));
            (page.expires_at, page.reason) = (text("expires_at"), text("reason"));
            again(page, error)
        }
    }
}

fn input(fields: &Fields) -> Result<KeyInput, AdminError> {
    let chosen = Scope::ALL.into_iter().filter(|scope| fields.get(&format!("scope-{}", scope.name())).is_some());
    let networks = Network::parse_list(&fields.text("networks"));
    let expires_at = fields.time("expires_at").map_err(|fault| {
        AdminError::invalid("expires_at", fault.detail.unwrap_or_else(|| "it is not a time".to_owned()))
    })?;
    Ok(KeyInput {
        name: fields.text("name"),
        scopes: Scopes::new(chosen),
        networks: networks.map_err(|error| AdminError::invalid("networks", error.to_string()))?,
        expires_at,
    })
}

/// `POST /keys/act`: a NEXT value, or NEXT becomes CURRENT.
pub(super) async fn act(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let (name, reason, actor) = (posted.fields.text("name"), posted.fields.get("reason"), &posted.by.actor);
    let outcome = match posted.fields.text("act").as_str() {
        "rotate" => web.admin.rotate_api_key(&name, actor, reason).await.map(Some),
        "promote" => web.admin.promote_api_key(&name, actor, reason).await.map(|_| None),
        _ => return Err(Fault::field("act", "it is not rotate or promote")),
    };
    match outcome {
        Ok(None) => Ok(done("/keys", "key-promoted")),
        Ok(Some(made)) => {
            let mut page = page(&web, Frame::new(&web, &posted.by, "keys")).await?;
            page.value = Some(shown_once(&made));
            shown(&page)
        }
        Err(error) => again(page(&web, Frame::new(&web, &posted.by, "keys")).await?, error),
    }
}

fn again(mut page: KeysPage, error: AdminError) -> Answer<Response> {
    page.trouble = error.into();
    let status = page.trouble.status;
    shown_again(&page, status)
}

fn shown_once(made: &ShownKey) -> (String, String) {
    (made.info.name.clone(), made.value.reveal().to_owned())
}

/// `GET /keys/revoke?name=`.
pub(super) async fn confirm(State(web): State<Web>, by: SignedIn, fields: Fields) -> Answer<Response> {
    let key = web.admin.api_key(&fields.text("name")).await?;
    shown(&confirm_page(Frame::new(&web, &by, "keys"), key.name))
}

/// `POST /keys/revoke`.
pub(super) async fn revoke(State(web): State<Web>, posted: Posted) -> Answer<Response> {
    let name = posted.fields.text("name");
    let Err(error) = web.admin.revoke_api_key(&name, &posted.by.actor, posted.fields.get("reason")).await else {
        return Ok(done("/keys", "key-revoked"));
    };
    confirm_page(Frame::new(&web, &posted.by, "keys"), name).again(error, &posted.fields)
}

fn confirm_page(frame: Frame, name: String) -> ConfirmPage {
    ConfirmPage {
        frame,
        title: "Revoke an API key".into(),
        consequence: "Both of its values stop working at once. Senders that still use it are refused.",
        facts: vec![("Key", visible(&name))],
        action: "/keys/revoke".into(),
        hidden: vec![("name", name)],
        button: "Revoke key",
        back: "/keys".into(),
        trouble: Trouble::default(),
        reason: String::new(),
    }
}
