//! Nobody is shown what they may not use: every link, form and button of every page leads a role somewhere it may go, and
//! what a role may do is still there. And what was looked at before it is removed must still be so.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::json;

use crate::api_roles::session;
use crate::support::{ADMIN_KEY, Browser, Form, Receiver, Reply, Request, Server, eventually};

/// Pages, what stands on them, and the least role it stands there for.
const SHOWN: &[(&str, &str, &str)] = &[
    ("/", "href=\"/rules/new?event=", "operator"),
    ("/rules", "href=\"/rules/new\"", "operator"),
    ("/rules", "action=\"/rules/bulk\"", "operator"),
    ("/rules", "href=\"/rules/1/delete\"", "operator"),
    ("/rules", "href=\"/rules/1/history\"", "viewer"),
    ("/rules/1", "action=\"/rules/1\"", "operator"),
    ("/rules/1", "formaction=\"/rules/try\"", "operator"),
    ("/rules/1", "value=\"fan failed\"", "viewer"),
    ("/rules/test", "action=\"/rules/test\"", "viewer"),
    ("/dev-hosts", "method=\"post\" action=\"/dev-hosts\"", "operator"),
    ("/dev-hosts", "href=\"/dev-hosts/remove?hostname=lab1\"", "operator"),
    ("/dev-hosts", "lab1", "viewer"),
    ("/teams", "method=\"post\" action=\"/teams\"", "operator"),
    ("/teams", "href=\"/teams/edit?hostname=sw1\"", "operator"),
    ("/teams", "href=\"/teams/remove?hostname=sw1\"", "operator"),
    ("/targets", "action=\"/targets/test\"", "operator"),
    ("/targets", "href=\"/targets/edit\"", "admin"),
    ("/targets", "href=\"/targets/edit?name=chat\"", "admin"),
    ("/targets", "href=\"/targets/remove?name=chat\"", "admin"),
    ("/dead-letters?queue=dlq.forwarder", "value=\"remediate\"", "operator"),
    ("/dead-letters?queue=dlq.forwarder", "value=\"discard\"", "operator"),
    ("/dead-letters?queue=dlq.forwarder", "fan failed", "viewer"),
    ("/admin/config", "action=\"/admin/config\"", "admin"),
    ("/admin/config", "formaction=\"/admin/config/reset\"", "admin"),
    ("/admin/config", "unhandled_threshold", "viewer"),
    ("/admin/config/history", "action=\"/admin/config/revert\"", "admin"),
    ("/admin/config/history", "unhandled_threshold", "viewer"),
    ("/admin/retention", "action=\"/admin/retention/run\"", "admin"),
    ("/admin/retention/holds", "href=\"/admin/retention/holds/lift?id=1\"", "admin"),
    ("/changes", "action=\"/changes/verify\"", "viewer"),
];

/// Further pages that are looked through.
const OTHERS: &[&str] =
    &["/events", "/slo", "/status", "/account", "/admin/retention/archives", "/admin/retention/search"];

const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

/// A server with one of everything that pages have buttons for.
fn furnished(receiver: &Receiver) -> Server {
    let server = Server::builder()
        .delivering_to(receiver)
        .env("MUTTD_DYNAMIC_REMEDIATION_ENABLED", "false")
        .env("MUTTD_SECRET_CHAT_HOOK", "xoxb-0123456789")
        .start();
    server.forward_rule("fan failed");
    server.api_post("/api/v2/dev-hosts", &json!({"hostname": "lab1"})).must_be(201);
    server.api_post("/api/v2/teams", &json!({"hostname": "sw1", "team_assignment": "CORE"})).must_be(201);
    let definition =
        "name = \"chat\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/x\"\n\n[route]\nteams = [\"X\"]\n";
    server.api_post("/api/v2/targets", &json!({"definition": definition})).must_be(201);
    server.api_post("/api/v2/holds", &json!({"name": "case", "reason": "INC-1"})).must_be(201);
    let setting = Request::put(server.ports.web, "/api/v2/config/unhandled_threshold").key(ADMIN_KEY);
    setting.json(&json!({"value": 7})).expect().must_be(200);
    receiver.answer_next([Reply::status(422)]);
    for message in ["fan failed", "nobody cares"] {
        let event = json!({"hostname": "sw1", "message": message, "timestamp": "2026-03-01T12:00:00Z"});
        server.ingest(&event).must_be(200);
    }
    eventually("one is a dead letter", || (server.metrics().depth("dlq.forwarder") == 1).then_some(()));
    server.event("nobody cares");
    server
}

/// The values of an attribute.
fn values<'a>(page: &'a str, attribute: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let pattern = Regex::new(&format!(" {attribute}=\"(/[^\"]*)\"")).expect("a pattern");
    let found: Vec<&str> =
        pattern.captures_iter(page).filter_map(|one| one.get(1)).map(|value| value.as_str()).collect();
    found.into_iter()
}

/// What may be sent to: of forms that change something, and of buttons that send their form elsewhere.
fn sent_to(page: &str) -> BTreeSet<String> {
    let forms = Regex::new("<form method=\"post\" action=\"([^\"]*)\"").expect("a pattern");
    let actions = forms.captures_iter(page).map(|form| form[1].to_owned());
    actions.chain(values(page, "formaction").map(str::to_owned)).collect()
}

#[test]
fn a_role_is_shown_what_it_may_use_and_nothing_else() {
    let server = furnished(&Receiver::start());
    let mut asked = BTreeSet::new();
    for (rank, role) in ROLES.into_iter().enumerate() {
        let (mut browser, _) = session(&server, role);
        let mut pages: BTreeSet<String> = SHOWN.iter().map(|(page, ..)| (*page).to_owned()).collect();
        pages.extend(OTHERS.iter().map(|page| (*page).to_owned()));
        for (path, what, least) in SHOWN {
            let page = browser.open(path).must_be(200).text();
            let may = ROLES.iter().position(|one| one == least).is_some_and(|least| rank >= least);
            assert_eq!(page.contains(what), may, "{path} shows {what} to the role {role}");
        }
        // A letter of its own, and an event.
        let letters = browser.open("/dead-letters?queue=dlq.forwarder").text();
        pages.extend(values(&letters, "href").filter(|link| link.starts_with("/dead-letters/")).map(str::to_owned));
        for path in pages {
            let page = browser.open(&path).must_be(200).text();
            for action in sent_to(&page) {
                may_send(&server, &browser, &action, &format!("{path} lets the role {role} send to {action}"));
            }
            for link in values(&page, "href") {
                let place = link.split(['?', '#']).next().unwrap_or_default().replace(char::is_numeric, "");
                if asked.insert((role, place)) && !link.starts_with("/static/") {
                    let link = link.replace("&amp;", "&").replace("&#38;", "&");
                    assert_ne!(browser.open(&link).status, 403, "{path} links the role {role} to {link}");
                }
            }
        }
    }
}

/// Without the form's own token nothing is done, and whoever lacks the right is told that first.
fn may_send(server: &Server, browser: &Browser, action: &str, what: &str) {
    let request = Request::post(server.ports.web, action)
        .header("Cookie", browser.cookie())
        .header("Origin", format!("http://{}", server.ports.web))
        .body("application/x-www-form-urlencoded", "csrf=none");
    let answer = request.expect();
    assert_eq!(answer.status, 403, "{what}: a form without its token was taken");
    assert!(!answer.text().contains("your role does not allow this"), "{what}");
}

#[test]
fn what_is_removed_on_a_page_is_what_was_looked_at() {
    let server = furnished(&Receiver::start());
    let (mut admin, _) = session(&server, "admin");
    let put = |path: &str, body: serde_json::Value| {
        Request::put(server.ports.web, path).key(ADMIN_KEY).json(&body).expect().must_be(200);
    };
    let renamed = "name = \"chat\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/y\"\n\n[route]\nteams = [\"X\"]\n";
    let rule = json!({"match_string": "fan failed", "prod_handling": "Ignore", "team_assignment": "NETO"});
    for (ask, path, change, now) in [
        ("/teams/remove?hostname=sw1", "/api/v2/teams/sw1", json!({"team_assignment": "EDGE"}), "EDGE"),
        ("/targets/remove?name=chat", "/api/v2/targets/chat", json!({"definition": renamed}), "http://127.0.0.1:9/y"),
        ("/rules/1/delete", "/api/v2/rules/1", rule, "Ignore"),
    ] {
        let question = Form::on(&admin.open(ask).must_be(200).text(), "version");
        put(path, change);
        let page = admin.submit(&question).must_be(412).text();
        assert!(page.contains("was changed meanwhile") && page.contains(now), "{ask}: {page}");
        Request::get(server.ports.web, path).key(ADMIN_KEY).expect().must_be(200);
        admin.submit(&Form::on(&page, "version")).must_be(200);
        Request::get(server.ports.web, path).key(ADMIN_KEY).expect().must_be(404);
    }
    let made = server.rule(&json!({"match_string": "several"}));
    let page = admin.open("/rules").must_be(200).text();
    let list = Form::on(&page, "reason").filled(&[("id", &made.to_string()), ("action", "delete")]);
    let question = Form::on(&admin.submit(&list).must_be(200).text(), "version");
    put(
        &format!("/api/v2/rules/{made}"),
        json!({"match_string": "other", "team_assignment": "NETO", "prod_handling": "Ignore"}),
    );
    let page = admin.submit(&question).must_be(400).text();
    assert!(page.contains("was changed meanwhile") && page.contains("other"), "{page}");
    admin.submit(&Form::on(&page, "version")).must_be(200);
    assert_eq!(server.api_get("/api/v2/rules")["total"], 0);
}
