//! Every route of pages and API, found in the sources of their routers and in the API's description, asked by every role, by keys of every scope and
//! by nobody: who may not is told so, who may gets past the guard.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use regex::Regex;
use tokio_util::sync::CancellationToken;

use super::assets::Assets;
use super::openapi::document;
use super::rights::{addresses, declared};
use super::sse::Streams;
use super::tests::{Reply, Site};
use super::{Web, api};
use crate::access::{Right, Role, Scopes};
use crate::admin::{Actor, KeyInput};

/// A route as the source has it.
struct Route {
    path: String,
    method: Method,
}

/// The routes of the API, in every version.
fn api_routes(site: &Site) -> Vec<Route> {
    let mut found = routes("src/web/api", |file| if file == "v1.rs" { "/api/v1" } else { "/api/v2" });
    let web = Web {
        admin: site.test.admin.clone(),
        assets: Arc::new(Assets::new()),
        streams: Streams::new(CancellationToken::new()),
        guards: super::guards::Guards::new(),
    };
    let described = document(&api::router(web).into_openapi());
    let paths = described["paths"].as_object().expect("paths").iter();
    for (path, item) in paths.filter(|(path, _)| path.starts_with("/api/v") && !path.ends_with("/ingest")) {
        for (method, operation) in item.as_object().expect("operations") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let route = Route { path: path.clone(), method };
            assert_eq!(operation["x-muttd-right"], route.right().name(), "{path}");
            found.push(route);
        }
    }
    found
}

/// The routes that the files of `folder` add; `prefix` says what stands before the paths of a file.
fn routes(folder: &str, prefix: fn(&str) -> &'static str) -> Vec<Route> {
    let route = Regex::new(r#"\.route\(\s*"(/[^"]*)",\s*((?:[^()]|\([^()]*\))*)\)"#).expect("a pattern");
    let method = Regex::new(r"\b(get|post|put|patch|delete)\(").expect("a pattern");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let entry = entry.expect("an entry");
        if entry.path().is_dir() {
            continue;
        }
        let prefix = prefix(&entry.file_name().to_string_lossy());
        let text = fs::read_to_string(entry.path()).expect("a source");
        for one in route.captures_iter(&text) {
            for name in method.captures_iter(&one[2]) {
                let method = Method::from_bytes(name[1].to_uppercase().as_bytes()).expect("a method");
                found.push(Route { path: format!("{prefix}{}", &one[1]), method });
            }
        }
    }
    found
}

impl Route {
    /// An address of this route; what it names does not exist.
    fn address(&self) -> String {
        let parameter = Regex::new(r"\{[^}]*\}").expect("a pattern");
        parameter.replace_all(&self.path, "999").into_owned()
    }

    fn right(&self) -> Right {
        let declared = declared(&self.path, &self.method);
        declared.unwrap_or_else(|| panic!("no right is declared for {} {}", self.method, self.path))
    }

    fn request(&self) -> axum::http::request::Builder {
        Request::builder().method(self.method.clone()).uri(self.address())
    }
}

/// A browser of each role.
struct Visitor {
    role: Role,
    cookie: String,
    csrf: String,
}

impl Visitor {
    async fn new(site: &Site, role: Role) -> Self {
        let actor = Actor::new("admin", "c");
        let made = site.test.admin.create_user(role.name(), role, &actor, None).await.expect("made");
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let own = Actor::new(role.name(), "c");
        let password = "a password of my own";
        let changed = site.test.admin.change_password(&own, made.password.reveal(), password.into(), peer).await;
        changed.expect("changed");
        let token = site.test.admin.login(role.name(), password, peer).await.expect("logs in").token;
        let csrf = site.test.admin.session(&token).await.expect("works").expect("in force").csrf_token;
        Self { role, cookie: format!("muttd_session={token}"), csrf }
    }
}

fn is_refusal(reply: &Reply) -> bool {
    reply.status == StatusCode::FORBIDDEN && reply.text.contains("your role does not allow this")
}

#[tokio::test]
async fn every_route_asks_for_the_right_that_is_declared_for_it() {
    let site = Site::new().await;
    let mut visitors = Vec::new();
    for role in Role::ALL {
        if role != Role::Admin {
            visitors.push(Visitor::new(&site, role).await);
        }
    }
    let open = ["/login", "/login/oidc", "/login/oidc/callback", "/setup"];
    let mut all = routes("src/web/pages", |_| "");
    all.retain(|route| !open.contains(&route.path.as_str()));
    all.extend(api_routes(&site));
    assert!(all.len() > 70, "the routes were not found: {}", all.len());
    let gone: Vec<&str> = addresses().filter(|path| all.iter().all(|route| route.path != *path)).collect();
    assert!(gone.is_empty(), "rights are declared for addresses that nothing serves: {gone:?}");
    for route in &all {
        let what = format!("{} {}", route.method, route.path);
        let nobody = site.send(route.request().body(Body::empty()).expect("a request")).await;
        let to_login = nobody.header("location").starts_with("/login");
        assert!(nobody.status == StatusCode::UNAUTHORIZED || to_login, "{what} by nobody: {}", nobody.status);
        for visitor in &visitors {
            let allowed = visitor.role.has(route.right());
            if allowed && (route.right() == Right::Own || route.method == Method::POST) {
                // What is allowed is tested elsewhere; here it would log the visitor out or change things.
                continue;
            }
            let request = route
                .request()
                .header(header::COOKIE, &visitor.cookie)
                .header("x-csrf-token", &visitor.csrf)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            let body = Body::from(format!("csrf={}", visitor.csrf));
            let reply = site.send(request.body(body).expect("a request")).await;
            assert_eq!(is_refusal(&reply), !allowed, "{what} by {}: {} {}", visitor.role, reply.status, reply.text);
        }
    }
}

#[tokio::test]
async fn every_route_of_the_api_asks_keys_for_their_scope() {
    let site = Site::new().await;
    let actor = Actor::new("admin", "c");
    let mut keys = Vec::new();
    for name in ["ingest", "read", "write", "admin"] {
        let scopes = Scopes::parse(name).expect("a scope");
        let input = KeyInput { name: name.into(), scopes: scopes.clone(), networks: Vec::new(), expires_at: None };
        let made = site.test.admin.create_api_key(input, &actor, None).await.expect("made");
        keys.push((scopes, made.value.reveal().to_owned()));
    }
    for route in api_routes(&site) {
        for (scopes, value) in &keys {
            let needed = route.right().scope();
            let request = route.request().header("x-api-key", value).body(Body::empty());
            let reply = site.send(request.expect("a request")).await;
            let refused = reply.status == StatusCode::FORBIDDEN
                && reply.text.contains(&format!("lacks the scope `{}`", needed.name()));
            assert_eq!(refused, !scopes.allow(needed), "{} {} by {scopes}: {}", route.method, route.path, reply.text);
        }
    }
}

#[tokio::test]
async fn who_has_a_temporary_password_changes_it_first() {
    let site = Site::new().await;
    let actor = Actor::new("admin", "c");
    let made = site.test.admin.create_user("anna", Role::Admin, &actor, None).await.expect("made");
    let peer = std::net::Ipv4Addr::LOCALHOST.into();
    let token = site.test.admin.login("anna", made.password.reveal(), peer).await.expect("logs in").token;
    let cookie = format!("muttd_session={token}");
    assert_eq!(site.get("/users", &cookie).await.header("location"), "/account");
    assert_eq!(site.get("/api/v2/users", &cookie).await.status, StatusCode::FORBIDDEN);
    let page = site.get("/account", &cookie).await;
    assert!(page.status == StatusCode::OK && page.text.contains("temporary"), "{}", page.text);
}
