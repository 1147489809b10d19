//! Every operation that the running server describes, asked by nobody, by a user of each role, by keys of each scope and by a
//! session without its token: each is refused or let through as the description says, which is made from the table that
//! the guards go by. And the description holds for what operations say they know: their parameters and members.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Answer, Browser, Form, Receiver, Request, Server};

/// One operation of the description.
struct Operation {
    method: String,
    path: String,
    body: bool,
    streams: bool,
    right: String,
    scope: String,
    parameters: BTreeSet<String>,
}

impl Operation {
    /// A request that changes nothing even where it is let through: what it names is not there, and its body is not JSON.
    fn request(&self, server: &Server) -> Request {
        let path = self.path.split('/').map(|part| if part.starts_with('{') { "999999" } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        let address = server.ports.web;
        let request = match self.method.as_str() {
            "get" => Request::get(address, path),
            "post" => Request::post(address, path),
            "put" => Request::put(address, path),
            "patch" => Request::patch(address, path),
            "delete" => Request::delete(address, path),
            other => panic!("a method that is not known: {other}"),
        };
        if self.body { request.body("application/json", "{") } else { request }
    }

    fn changes(&self) -> bool {
        self.method != "get"
    }

    /// Whether to let it through would do something, or would never end: a stream.
    fn would_act(&self) -> bool {
        self.streams || (self.changes() && !self.body && !self.path.contains('{'))
    }

    fn name(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let Some(right) = operation["x-muttd-right"].as_str() else { continue };
            let query = |parameter: &&Value| parameter["in"] == "query";
            let parameters = operation["parameters"].as_array().into_iter().flatten().filter(query);
            all.push(Operation {
                method: method.clone(),
                path: path.clone(),
                body: operation.get("requestBody").is_some(),
                streams: operation["responses"]["200"]["content"].get("text/event-stream").is_some(),
                right: right.to_owned(),
                scope: operation["x-muttd-scope"].as_str().expect("a scope").to_owned(),
                parameters: parameters.map(|one| one["name"].as_str().expect("a name").to_owned()).collect(),
            });
        }
    }
    assert!(all.len() > 100, "the description has only {} operations", all.len());
    all
}

fn may(role: &str, right: &str) -> bool {
    match role {
        "viewer" => matches!(right, "own" | "read"),
        "operator" => matches!(right, "own" | "read" | "operate"),
        _ => true,
    }
}

/// Whether a key of the scope `has` may do what needs the scope `needed`.
fn opens(has: &str, needed: &str) -> bool {
    match has {
        "ingest" => false,
        "read" => needed == "read",
        "write" => matches!(needed, "read" | "write"),
        _ => true,
    }
}

/// What is refused is a problem document with what older clients read.
fn must_be_problem(answer: &Answer, what: &str) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{what}: {problem}");
    for member in ["type", "title", "detail", "error", "correlation_id"] {
        assert!(problem[member].is_string(), "{what} has no `{member}`: {problem}");
    }
}

#[test]
fn every_operation_is_open_to_those_whom_the_description_names() {
    let server = Server::start(&Receiver::start());
    let document = Request::get(server.ports.web, "/api/openapi.json").expect().must_be(200).json();
    let operations = operations(&document);
    let keys: BTreeMap<&str, String> =
        ["ingest", "read", "write", "admin"].map(|scope| (scope, key(&server, scope))).into();
    let mut sessions: Vec<(&str, Browser, String)> = Vec::new();
    for role in ["viewer", "operator", "admin"] {
        let (browser, token) = session(&server, role);
        sessions.push((role, browser, token));
    }
    for operation in &operations {
        let what = operation.name();
        let nobody = operation.request(&server).expect();
        assert_eq!(nobody.status, 401, "{what} by nobody");
        must_be_problem(&nobody, &what);
        let wrong = operation.request(&server).key("mutt_wrong").expect();
        assert_eq!(wrong.status, 401, "{what} with a wrong key");
        for (scope, key) in &keys {
            let allowed = opens(scope, &operation.scope);
            if allowed && operation.would_act() {
                continue;
            }
            let answer = operation.request(&server).key(key).expect();
            check(&answer, allowed, &format!("{what} with a key of the scope {scope}"));
        }
        for (role, browser, token) in &sessions {
            let allowed = may(role, &operation.right);
            let with_token = || operation.request(&server).header("cookie", browser.cookie());
            if !(allowed && operation.would_act()) {
                let answer = with_token().header("x-csrf-token", token.as_str()).expect();
                check(&answer, allowed, &format!("{what} by a session of the role {role}"));
            }
            if operation.changes() {
                let forged = with_token().header("x-csrf-token", "wrong").expect();
                check(&forged, false, &format!("{what} by a session of the role {role} with a wrong token"));
            }
        }
    }
}

fn check(answer: &Answer, allowed: bool, what: &str) {
    if allowed {
        assert!(
            !matches!(answer.status, 401 | 403) && answer.status < 500,
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        return;
    }
    assert_eq!(answer.status, 403, "{what}: {}", answer.text());
    must_be_problem(answer, what);
}

#[test]
fn operations_know_the_parameters_that_are_described_and_no_others() {
    let server = Server::start(&Receiver::start());
    let document = Request::get(server.ports.web, "/api/openapi.json").expect().must_be(200).json();
    let mut asked = 0;
    for operation in operations(&document).iter().filter(|operation| operation.path.starts_with("/api/v2/")) {
        if operation.method != "get" || operation.parameters.is_empty() {
            continue;
        }
        let path = operation.path.replace(['{', '}'], "");
        let answer = Request::get(server.ports.web, format!("{path}?no_such_thing=1")).key(ADMIN_KEY).expect();
        if answer.status == 404 || answer.json()["field"] != "no_such_thing" {
            continue;
        }
        let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
        let (_, known) = detail.split_once("known are ").expect("the parameters that are known");
        let known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
        assert_eq!(known, operation.parameters, "{}", operation.name());
        asked += 1;
    }
    assert!(asked >= 5, "only {asked} operations told what they know");
}

#[test]
fn the_description_and_its_page_are_open_to_everybody_and_problems_point_into_the_page() {
    let server = Server::start(&Receiver::start());
    let document = Request::get(server.ports.web, "/api/openapi.json").expect().must_be(200);
    assert_eq!(document.header("content-type"), Some("application/json"));
    let tag = document.header("etag").expect("a tag").to_owned();
    let again = Request::get(server.ports.web, "/api/openapi.json").header("if-none-match", tag).expect();
    assert_eq!(again.status, 304);
    assert_eq!(document.json()["openapi"], "3.1.0");
    let page = Request::get(server.ports.web, "/api/docs").expect().must_be(200).text();
    for problem in [Request::get(server.ports.web, "/api/v2/rules"), Request::get(server.ports.web, "/api/nothing")] {
        let kind = problem.expect().json()["type"].as_str().expect("a type").to_owned();
        let anchor = kind.strip_prefix("/api/docs#").expect("a place on the page");
        assert!(page.contains(&format!("id=\"{anchor}\"")), "{anchor} is not on the page");
    }
    let ids: Vec<&str> = page.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let different: BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(ids.len(), different.len(), "an anchor is there twice");
    let wrong = Request::post(server.ports.web, "/api/docs").expect();
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET,HEAD")));
}

/// The value of a key with this scope.
fn key(server: &Server, scope: &str) -> String {
    let made = server.api_post("/api/v2/keys", &json!({"name": scope, "scopes": [scope]})).must_be(201);
    made.json()["value"].as_str().expect("a value").to_owned()
}

/// A browser that is logged in as a user of this role, and its token.
pub fn session(server: &Server, role: &str) -> (Browser, String) {
    let user = format!("{role}-user");
    let made = server.api_post("/api/v2/users", &json!({"name": user, "role": role})).must_be(201).json();
    let mut browser = Browser::new(server.ports.web);
    let (temporary, own) = (made["temporary_password"].as_str().expect("a password"), "a password of my own");
    let page = browser.log_in(&user, temporary).text();
    let change = [("old_password", temporary), ("new_password", own), ("repeated", own)];
    browser.submit(&Form::on(&page, "new_password").filled(&change)).must_be(200);
    browser.log_in(&user, own).must_be(200);
    let page = browser.open("/account").must_be(200).text();
    let token = Form::on(&page, "new_password").fields["csrf"].clone();
    (browser, token)
}
