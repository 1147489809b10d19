//! The whole router over real stores: what a browser and a script see.

mod guards;
mod retention;
mod settings;
mod upstream;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{WebOptions, probes, router};
use crate::admin::testing::{TestAdmin, judged, matched};
use crate::model::{
    Alert, Cause, DeadLetter, DeathClass, DeliveryNote, DeliveryOutcome, Environment, Handling, RuleId, Team,
};
use crate::telemetry::metrics;

const PASSWORD: &str = "a long enough password";

pub(super) struct Site {
    pub(super) test: TestAdmin,
    router: Router,
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Site {
    pub(super) async fn new() -> Self {
        Self::with("").await
    }

    /// With these lines in its configuration file.
    async fn with(file: &str) -> Self {
        let test = TestAdmin::with(file).await;
        test.admin.ensure_admin(Some(PASSWORD.into())).await.expect("a first user");
        let recorder = metrics::install().expect("a recorder");
        let router = router(test.admin.clone(), CancellationToken::new()).merge(probes::router(
            test.admin.clone(),
            recorder,
            WebOptions::default(),
        ));
        Self { test, router }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.expect("the router never fails");
        let (parts, body) = response.into_parts();
        // A stream goes on for as long as somebody reads it.
        let streams = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = if streams { Body::empty() } else { body };
        let bytes = to_bytes(body, 16 << 20).await.expect("a whole body");
        Reply { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    async fn api(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let request = Request::builder().method(method).uri(path).header("x-api-key", "current-key");
        let request = match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.expect("a request")).await
    }

    pub(super) async fn get(&self, path: &str, cookie: &str) -> Reply {
        let request = Request::builder().uri(path).header(header::COOKIE, cookie).body(Body::empty());
        self.send(request.expect("a request")).await
    }

    async fn post(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Reply {
        let encode = |(name, value): &(&str, &str)| format!("{name}={}", super::text::url_encode(value));
        let body = fields.iter().map(encode).collect::<Vec<_>>().join("&");
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(body));
        self.send(request.expect("a request")).await
    }

    /// Logs in; the cookie and the token of its forms.
    async fn login(&self) -> (String, String) {
        let reply = self.post("/login", "", &[("user", "admin"), ("password", PASSWORD)]).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text);
        let cookie = reply.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        let page = self.get("/rules/new", &cookie).await;
        let (_, rest) = page.text.split_once("name=\"csrf\" value=\"").expect("a token");
        (cookie, rest.split('"').next().unwrap_or_default().to_owned())
    }
}

fn rule() -> Value {
    json!({"match_string": "link down", "prod_handling": "Page_only", "team_assignment": "NETO"})
}

#[tokio::test]
async fn a_rule_lives_its_life_over_the_api() {
    let site = Site::new().await;
    let made = site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.header("location"), "/api/v2/rules/1");
    let expected = json!({
        "id": 1, "match_string": "link down", "trap_oid": null, "syslog_severity": null, "match_type": "contains",
        "priority": 100, "prod_handling": "Page_only", "dev_handling": "Ignore", "team_assignment": "NETO",
        "is_active": true,
    });
    assert_eq!(made.json(), expected);
    let mut whole = expected.clone();
    whole["priority"] = 5.into();
    whole["reason"] = "INC-1".into();
    assert_eq!(site.api(Method::PUT, "/api/v2/rules/1", Some(whole)).await.json()["priority"], 5);
    let patched = site.api(Method::PATCH, "/api/v2/rules/1", Some(json!({"is_active": false}))).await.json();
    assert_eq!((&patched["is_active"], &patched["priority"]), (&json!(false), &json!(5)));
    let list = site.api(Method::GET, "/api/v2/rules", None).await.json();
    assert_eq!((list["total"].as_u64(), list["rules"][0]["id"].as_u64()), (Some(1), Some(1)));
    assert_eq!(site.api(Method::DELETE, "/api/v2/rules/1", None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(site.api(Method::GET, "/api/v2/rules/1", None).await.status, StatusCode::NOT_FOUND);
    let log = site.api(Method::GET, "/api/v2/config-audit?table_name=alert_rules&limit=2", None).await.json();
    assert_eq!(log["pagination"], json!({"page": 1, "limit": 2, "total": 4, "pages": 2}));
    assert_eq!(log["changes"][0]["operation"], "DELETE");
    let second = site.api(Method::GET, "/api/v2/config-audit?table_name=alert_rules&limit=2&page=2", None).await.json();
    assert_eq!(
        (&second["changes"][0]["reason"], &second["changes"][0]["changed_by"]),
        (&json!("INC-1"), &json!("api-key"))
    );
}

#[tokio::test]
async fn many_rules_are_made_all_or_none() {
    let site = Site::new().await;
    let mut bad = rule();
    bad["match_type"] = "regex".into();
    bad["match_string"] = "(".into();
    let refused = site.api(Method::POST, "/api/v2/rules", Some(json!([rule(), bad]))).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["field"], "rules[1].match_string");
    assert_eq!(site.api(Method::GET, "/api/v2/rules", None).await.json()["total"], 0);
    let made = site.api(Method::POST, "/api/v2/rules", Some(json!({"rules": [rule(), rule()], "reason": "x"}))).await;
    assert_eq!((made.status, &made.json()["total"]), (StatusCode::CREATED, &json!(2)));
}

#[tokio::test]
async fn bad_input_is_never_a_server_error_and_says_what_is_wrong() {
    let site = Site::new().await;
    let long = format!("/api/v2/events?q={}", "x".repeat(5_000));
    let cases: &[(Method, &str, Option<Value>, u16, &str)] = &[
        (Method::GET, "/api/v2/nothing", None, 404, ""),
        (Method::GET, "/api/v2/rules/abc", None, 404, ""),
        (Method::GET, "/api/v2/rules/%ff", None, 400, ""),
        (Method::GET, "/api/v2/rules/99999999999999999999", None, 404, ""),
        (Method::GET, "/api/v2/events/not-an-id", None, 404, ""),
        (Method::GET, "/api/v2/events?limit=0", None, 400, "limit"),
        (Method::GET, "/api/v2/events?limit=1e3", None, 400, "limit"),
        (Method::GET, "/api/v2/events?hots=x", None, 400, "hots"),
        (Method::GET, "/api/v2/events?from=soon", None, 400, "from"),
        (Method::GET, "/api/v2/events?severity=9", None, 400, "severity"),
        (Method::GET, "/api/v2/events?cursor=%00", None, 400, "cursor"),
        (Method::GET, &long, None, 200, ""),
        (Method::GET, "/api/v2/events?%ff=%fe", None, 400, "\u{fffd}"),
        (Method::GET, "/api/v2/audit-logs?page=0", None, 400, "page"),
        (Method::GET, "/api/v2/dead-letters?queue=other", None, 400, "queue"),
        (Method::POST, "/api/v2/rules", Some(json!("text")), 400, ""),
        (Method::POST, "/api/v2/rules", Some(json!({"rules": 1})), 400, "rules"),
        (Method::POST, "/api/v2/rules", Some(json!([])), 400, "rules"),
        (Method::POST, "/api/v2/rules", Some(json!({"id": 7})), 400, "id"),
        (Method::POST, "/api/v2/rules", Some(json!({"reason": 7})), 400, "reason"),
        (Method::POST, "/api/v2/rules/test", Some(json!({})), 400, "message"),
        (Method::POST, "/api/v2/rules/test", Some(json!({"message": "x", "severity": -1})), 400, "severity"),
        (Method::PUT, "/api/v2/rules/1", Some(rule()), 404, ""),
        (Method::POST, "/api/v2/dev-hosts", Some(json!({"hostname": "a b"})), 400, "hostname"),
        (Method::POST, "/api/v2/teams", Some(json!({"hostname": "a"})), 400, "team_assignment"),
        (Method::DELETE, "/api/v2/teams/nobody", None, 404, ""),
        (Method::DELETE, "/api/v2/rules", None, 405, ""),
        (Method::GET, "/api", None, 404, ""),
    ];
    for (method, path, body, status, field) in cases {
        let reply = site.api(method.clone(), path, body.clone()).await;
        assert_eq!(reply.status.as_u16(), *status, "{method} {path}: {}", reply.text);
        let answer = reply.json();
        assert_eq!(answer["field"].as_str().unwrap_or_default(), *field, "{method} {path}: {answer}");
        assert!(*status == 200 || answer["error"].is_string() && answer["correlation_id"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn bodies_that_are_not_json_are_refused_by_kind() {
    let site = Site::new().await;
    let send = async |kind: &str, body: Vec<u8>| {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/v2/rules")
            .header("x-api-key", "current-key")
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body));
        site.send(request.expect("a request")).await
    };
    assert_eq!(send("text/plain", b"{}".to_vec()).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let broken = send("application/json", b"{\"a\":".to_vec()).await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    assert!(broken.json()["detail"].as_str().is_some_and(|detail| detail.contains("line 1 column 5")));
    assert_eq!(send("application/json", b"\xff\xfe".to_vec()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(send("application/json", vec![b'['; 10_000]).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(send("application/json", vec![b' '; (1 << 20) + 1]).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_or_a_session() {
    let site = Site::new().await;
    for path in ["/api/v2/rules", "/api/v2/nothing", "/api/v2/version", "/api/v2/events"] {
        let reply = site.get(path, "").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(reply.json()["error"].is_string());
    }
    let request = Request::builder().uri("/api/v2/rules").header("x-api-key", "guess").body(Body::empty());
    assert_eq!(site.send(request.expect("a request")).await.status, StatusCode::UNAUTHORIZED);
    for path in ["/", "/events?q=a&limit=3", "/rules", "/rules/new", "/changes", "/dead-letters", "/status", "/account"]
    {
        let reply = site.get(path, "muttd_session=guess").await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{path}");
        assert!(reply.header("location").starts_with("/login"), "{path}");
    }
    assert_eq!(
        site.get("/events?q=a&limit=3", "").await.header("location"),
        "/login?next=%2Fevents%3Fq%3Da%26limit%3D3"
    );
}

#[tokio::test]
async fn every_answer_carries_the_version_the_id_and_the_security_headers() {
    let site = Site::new().await;
    let (cookie, _) = site.login().await;
    for (path, status) in [("/login", 200), ("/", 200), ("/nothing", 404), ("/api/v2/version", 200), ("/health", 200)] {
        let reply = site.get(path, &cookie).await;
        assert_eq!(reply.status.as_u16(), status, "{path}");
        assert_eq!(reply.header("x-api-version"), "v2.5", "{path}");
        assert!(!reply.header("x-correlation-id").is_empty(), "{path}");
        assert!(reply.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        assert!(!reply.text.contains(" style=") && !reply.text.contains("onclick"), "{path} has inline code");
    }
}

#[tokio::test]
async fn a_version_of_the_api_that_is_not_served_is_refused() {
    let site = Site::new().await;
    for (path, version, status) in [
        ("/api/v2/version", "v2", 200),
        ("/api/v2/version", "2.5", 200),
        ("/api/v2/version", "v1", 400),
        ("/api/v2/version", "v99", 400),
        ("/health", "v99", 200),
    ] {
        let request = Request::get(path).header("x-api-key", "current-key").header("accept-version", version);
        let reply = site.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {version}");
        assert!(status == 200 || reply.json()["error"].is_string(), "{}", reply.text);
    }
}

#[tokio::test]
async fn a_form_without_the_token_or_from_another_site_changes_nothing() {
    let site = Site::new().await;
    let (cookie, token) = site.login().await;
    let fields = |csrf: &'static str| [("hostname", "lab1"), ("csrf", csrf)];
    assert_eq!(site.post("/dev-hosts", &cookie, &fields("")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.post("/dev-hosts", &cookie, &fields("guess")).await.status, StatusCode::FORBIDDEN);
    let foreign = Request::builder()
        .method(Method::POST)
        .uri("/dev-hosts")
        .header(header::COOKIE, &cookie)
        .header("sec-fetch-site", "cross-site")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(format!("hostname=lab1&csrf={token}")));
    assert_eq!(site.send(foreign.expect("a request")).await.status, StatusCode::FORBIDDEN);
    let by_cookie = Request::builder()
        .method(Method::DELETE)
        .uri("/api/v2/rules/1")
        .header(header::COOKIE, &cookie)
        .body(Body::empty());
    assert_eq!(site.send(by_cookie.expect("a request")).await.status, StatusCode::FORBIDDEN);
    assert!(site.test.admin.dev_hosts().await.expect("works").is_empty());
    assert_eq!(site.get("/api/v2/rules", &cookie).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_password_shows_the_form_again_and_logging_out_ends_the_session() {
    let site = Site::new().await;
    let wrong = site.post("/login", "", &[("user", "admin"), ("password", "no"), ("next", "/rules")]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.text.contains("value=\"admin\"") && wrong.text.contains("value=\"/rules\""));
    assert!(wrong.text.contains("the user name or the password is wrong"));
    let (cookie, token) = site.login().await;
    assert_eq!(site.post("/logout", &cookie, &[("csrf", &token)]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.get("/rules", &cookie).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_rule_form_with_a_fault_keeps_what_was_typed_and_names_the_field() {
    let site = Site::new().await;
    let (cookie, token) = site.login().await;
    let typed = |text: &'static str| {
        vec![
            ("match_type", "regex"),
            ("match_string", text),
            ("prod_handling", "Page_only"),
            ("team_assignment", "NETO"),
            ("reason", "INC-9"),
            ("is_active", "1"),
        ]
    };
    let mut fields = typed("link (up|down");
    fields.push(("csrf", &token));
    let again = site.post("/rules", &cookie, &fields).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(again.text.contains("value=\"link (up|down\"") && again.text.contains("value=\"INC-9\""));
    assert!(again.text.contains("id=\"wrong-match_string\""), "{}", again.text);
    let mut fields = typed("link (up|down)");
    fields.push(("csrf", &token));
    let saved = site.post("/rules", &cookie, &fields).await;
    assert_eq!((saved.status, saved.header("location")), (StatusCode::SEE_OTHER, "/rules?done=rule-created"));
    let list = site.get("/rules?done=rule-created", &cookie).await;
    assert!(list.text.contains("The rule was created") && list.text.contains("matches /link (up|down)/"));
    let history = site.get("/rules/1/history", &cookie).await;
    assert!(history.text.contains("INC-9") && history.text.contains("CREATE"));
    let confirm = site.get("/rules/1/delete", &cookie).await;
    assert!(confirm.text.contains("Delete rule 1?"));
    let deleted = site.post("/rules/1/delete", &cookie, &[("csrf", &token)]).await;
    assert_eq!(deleted.header("location"), "/rules?done=rule-deleted");
    assert!(site.get("/rules/1/history", &cookie).await.text.contains("deleted"));
}

#[tokio::test]
async fn the_test_box_says_which_rule_wins_and_why() {
    let site = Site::new().await;
    let (cookie, token) = site.login().await;
    site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    site.api(Method::POST, "/api/v2/dev-hosts", Some(json!({"hostname": "Lab1"}))).await;
    let fields = [("message", "LINK DOWN on 3\r\n"), ("hostname", "lab1"), ("csrf", &*token)];
    let page = site.post("/rules/test", &cookie, &fields).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("rule 1</a> wins") && page.text.contains("recorded, not forwarded"), "{}", page.text);
    let body = json!({"message": "link down", "hostname": "other"});
    let answer = site.api(Method::POST, "/api/v2/rules/test", Some(body)).await.json();
    assert_eq!((&answer["rule"]["id"], &answer["forwarded"]), (&json!(1), &json!(true)));
    assert_eq!(answer["explanations"][0]["matched"], true);
}

#[tokio::test]
async fn an_event_is_found_and_told_whole_with_nothing_unescaped() {
    let site = Site::new().await;
    let (cookie, _) = site.login().await;
    let made = site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let hit = matched(2, "core1", "link down <script>alert(1)</script>\x1b[0m", 1);
    let id = hit.event.id;
    site.test.stores.audit.record(vec![hit]).await.expect("recorded");
    site.test.stores.audit.record(vec![judged(1, "core2", "nobody cares")]).await.expect("recorded");
    let note = DeliveryNote {
        event_id: id,
        target: crate::model::TargetName::new("moogsoft").expect("a name"),
        at: site.test.clock.now(),
        attempt: 1,
        outcome: DeliveryOutcome::Delivered,
        answer: "200 OK <b>thanks</b>".into(),
    };
    site.test.stores.audit.note_deliveries(vec![note]).await.expect("noted");

    let found = site.api(Method::GET, "/api/v2/events?matched=true&hostname=CORE1&q=LINK", None).await.json();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!((&found["items"][0]["rule_id"], &found["items"][0]["severity"]), (&json!(1), &json!(3)));
    let first = site.api(Method::GET, "/api/v2/events?limit=1", None).await.json();
    assert_eq!(first["items"][0]["id"], id.to_string());
    let cursor = first["next_cursor"].as_str().expect("there is more").to_owned();
    let second = site.api(Method::GET, &format!("/api/v2/events?limit=1&cursor={cursor}"), None).await.json();
    assert_eq!(second["items"][0]["hostname"], "core2");

    let whole = site.api(Method::GET, &format!("/api/v2/events/{id}"), None).await.json();
    assert_eq!((&whole["rule"]["id"], &whole["deliveries"][0]["outcome"]), (&json!(1), &json!("delivered")));
    for path in [format!("/events/{id}"), "/events".to_owned(), "/".to_owned()] {
        let page = site.get(&path, &cookie).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(page.text.contains("&#60;script&#62;") || page.text.contains("&lt;script&gt;"), "{path}");
        assert!(!page.text.contains("<script>alert") && !page.text.contains('\x1b'), "{path}");
    }
    let detail = site.get(&format!("/events/{id}"), &cookie).await.text;
    assert!(detail.contains("Page_only: forwarded") && !detail.contains("<b>thanks"));
    let logs = site.api(Method::GET, "/api/v2/audit-logs?rule_id=1", None).await.json();
    assert_eq!((&logs["logs"][0]["hostname"], &logs["pagination"]["has_more"]), (&json!("core1"), &json!(false)));
}

#[tokio::test]
async fn a_rule_can_be_made_from_an_event_that_none_matched() {
    let site = Site::new().await;
    let (cookie, _) = site.login().await;
    let event = judged(1, "core2", "%OSPF-5-ADJCHG: Process 1, Nbr 192.0.2.1 down");
    let id = event.event.id;
    site.test.stores.audit.record(vec![event]).await.expect("recorded");
    let detail = site.get(&format!("/events/{id}"), &cookie).await.text;
    assert!(detail.contains(&format!("/rules/new?event={id}")));
    let form = site.get(&format!("/rules/new?event={id}"), &cookie).await.text;
    assert!(form.contains("value=\"%OSPF-5-ADJCHG\""), "{form}");
}

#[tokio::test]
async fn hosts_and_teams_are_kept_over_pages_and_api_alike() {
    let site = Site::new().await;
    let (cookie, token) = site.login().await;
    let added = site.post("/dev-hosts", &cookie, &[("hostname", "Lab1."), ("csrf", &token)]).await;
    assert_eq!(added.header("location"), "/dev-hosts?done=host-added");
    assert_eq!(site.api(Method::GET, "/api/v2/dev-hosts/LAB1", None).await.json(), json!({"hostname": "lab1"}));
    let twice = site.post("/dev-hosts", &cookie, &[("hostname", "lab1"), ("csrf", &token)]).await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
    assert!(twice.text.contains("exists already"));
    let removed = site.post("/dev-hosts/remove", &cookie, &[("hostname", "lab1"), ("csrf", &token)]).await;
    assert_eq!(removed.header("location"), "/dev-hosts?done=host-removed");

    let team = json!({"hostname": "core1", "team_assignment": "CORE"});
    let made = site.api(Method::POST, "/api/v2/teams", Some(team.clone())).await;
    assert_eq!((made.status, made.header("location")), (StatusCode::CREATED, "/api/v2/teams/core1"));
    assert_eq!(site.api(Method::POST, "/api/v2/teams", Some(team)).await.status, StatusCode::CONFLICT);
    let fields = [("hostname", "core1"), ("team_assignment", "EDGE"), ("csrf", &*token)];
    assert_eq!(site.post("/teams/edit", &cookie, &fields).await.header("location"), "/teams?done=team-saved");
    let answer = site.api(Method::GET, "/api/v2/teams/core1", None).await.json();
    assert_eq!(answer, json!({"hostname": "core1", "team_assignment": "EDGE"}));
    assert!(site.get("/changes?table_name=device_teams", &cookie).await.text.contains("<ins>EDGE</ins>"));
    assert_eq!(site.api(Method::DELETE, "/api/v2/teams/core1", None).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn dead_letters_show_their_reason_and_their_event() {
    let site = Site::new().await;
    let (cookie, _) = site.login().await;
    let alert = Alert {
        event: judged(1, "core9", "it broke").event,
        cause: Cause::Rule(RuleId(1)),
        environment: Environment::Prod,
        handling: Handling::PageOnly,
        team: Team::new("NETO").expect("a name"),
    };
    let (reason, now) = ("400 bad severity".to_owned(), site.test.clock.now());
    let letter = DeadLetter::of_alert(&alert, "moogsoft", DeathClass::Refused, reason, now).after(1);
    site.test.queues.dead_alerts.append(&[letter]).await.expect("appended");
    let answer = site.api(Method::GET, "/api/v2/dead-letters?queue=dlq.forwarder", None).await.json();
    let queue = &answer["queues"][0];
    assert_eq!((&queue["total"], &queue["items"][0]["event"]["hostname"]), (&json!(1), &json!("core9")));
    let page = site.get("/dead-letters", &cookie).await.text;
    assert!(page.contains("400 bad severity") && page.contains("core9") && page.contains("moogsoft"));
    assert!(site.get("/dead-letters?queue=dlq.alerter", &cookie).await.text.contains("Nothing here"));
}

#[tokio::test]
async fn probes_tell_what_works_and_what_does_not() {
    let site = Site::new().await;
    let health = site.get("/health", "").await;
    assert_eq!((health.status, &health.json()["status"]), (StatusCode::OK, &json!("healthy")));
    let ready = site.get("/ready", "").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text.contains("port 1162 is taken by snmptrapd"));
    let metrics = site.get("/metrics", "").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.text.contains("mutt_queue_depth{queue=\"ingest\"}"), "{}", metrics.text);
    assert_eq!(site.post("/health", "", &[]).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn upstreams_names_are_kept_in_the_metrics_of_the_api() {
    let site = Site::new().await;
    let answer = site.api(Method::GET, "/api/v2/metrics", None).await.json();
    for name in ["current_rate_1m", "avg_rate_15m", "avg_rate_1h"] {
        assert!(answer["summary"][name].is_number(), "{name}");
    }
    assert_eq!(answer["chart_24h"]["labels"].as_array().map(Vec::len), Some(24));
    assert_eq!(answer["chart_24h"]["labels"][23], "12:00");
    assert_eq!(answer["chart_24h"]["data"].as_array().map(Vec::len), Some(24));
    let status = site.api(Method::GET, "/api/v2/status", None).await.json();
    assert_eq!(status["listeners"][1]["up"], false);
}

#[tokio::test]
async fn assets_are_cached_for_good_under_an_address_of_their_own() {
    let site = Site::new().await;
    let login = site.get("/login", "").await.text;
    let (_, rest) = login.split_once("href=\"").expect("a style sheet");
    let address = rest.split('"').next().unwrap_or_default().to_owned();
    let css = site.get(&address, "").await;
    assert_eq!((css.status, css.header("content-type")), (StatusCode::OK, "text/css; charset=utf-8"));
    assert!(css.header("cache-control").contains("immutable"));
    let again = Request::builder().uri(&address).header(header::IF_NONE_MATCH, css.header("etag")).body(Body::empty());
    assert_eq!(site.send(again.expect("a request")).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(site.get("/static/0000000000000000/muttd.css", "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_page_renders_with_nothing_in_it() {
    let site = Site::new().await;
    let (cookie, _) = site.login().await;
    for path in [
        "/",
        "/events",
        "/events?q=nothing&severity=3",
        "/rules",
        "/rules/new",
        "/rules/test",
        "/dev-hosts",
        "/teams",
        "/changes?table_name=alert_rules",
        "/dead-letters",
        "/status",
        "/account",
    ] {
        let page = site.get(path, &cookie).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text);
        assert!(page.text.contains("<h1>") && page.text.contains("id=\"main\""), "{path}");
    }
    let bad = site.get("/events?from=soon&hostname=core1", &cookie).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(bad.text.contains("value=\"soon\"") && bad.text.contains("wrong-from") && bad.text.contains("core1"));
    let missing = site.get("/rules/77", &cookie).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.text.contains("rule `77` does not exist"));
}
