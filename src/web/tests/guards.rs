//! What stands before the API: repeats, lost updates, limits, other origins, compression.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use super::{Reply, Site, rule};

/// A request with headers besides the key.
async fn ask(site: &Site, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Reply {
    let mut request = Request::builder().method(method).uri(path).header("x-api-key", "current-key");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = match body {
        Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    site.send(request.expect("a request")).await
}

#[tokio::test]
async fn a_repeated_post_is_done_once_and_answered_the_same() {
    let site = Site::new().await;
    let post = async |path: &str, key: &str, body: Value| {
        ask(&site, Method::POST, path, &[("idempotency-key", key)], Some(body)).await
    };
    let first = post("/api/v2/rules", "k-1", rule()).await;
    let again = post("/api/v2/rules", "k-1", rule()).await;
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!((again.json(), again.header("location")), (first.json(), "/api/v2/rules/1"));
    assert_ne!(first.header("x-correlation-id"), again.header("x-correlation-id"), "each request has its own id");
    let other = post("/api/v1/rules", "k-1", rule()).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.text);
    let reason = [("idempotency-key", "k-1"), ("x-change-reason", "another")];
    let other = ask(&site, Method::POST, "/api/v2/rules", &reason, Some(rule())).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "with another reason it is another request");
    assert_eq!(post("/api/v2/rules", "k-2", json!({"match_string": "x"})).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(post("/api/v2/rules", "k-2", rule()).await.status, StatusCode::CREATED, "what failed frees its key");
    assert_eq!(post("/api/v2/rules", "two words", rule()).await.status, StatusCode::BAD_REQUEST);
    let key = json!({"name": "script", "scopes": ["read"]});
    assert_eq!(post("/api/v2/keys", "k-3", key.clone()).await.status, StatusCode::CREATED);
    let repeated = post("/api/v2/keys", "k-3", key).await;
    assert_eq!(repeated.status, StatusCode::CONFLICT);
    assert!(repeated.text.contains("done already"), "{}", repeated.text);
    assert_eq!(site.test.admin.rules().await.expect("rules").rules.len(), 2);
}

#[tokio::test]
async fn two_who_change_the_same_thing_do_not_overwrite_each_other() {
    let site = Site::new().await;
    let made = site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    let seen = made.header("etag").to_owned();
    assert_eq!(site.api(Method::GET, "/api/v2/rules/1", None).await.header("etag"), seen);
    let priority = |number: i32| Some(json!({ "priority": number }));
    let change = async |tag: &str, number| {
        ask(&site, Method::PATCH, "/api/v2/rules/1", &[("if-match", tag)], priority(number)).await
    };
    let first = change(&seen, 5).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let late = change(&seen, 7).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED, "{}", late.text);
    assert_eq!(late.header("etag"), first.header("etag"), "the answer says what is there now");
    let delete = ask(&site, Method::DELETE, "/api/v2/rules/1", &[("if-match", &seen)], None).await;
    assert_eq!(delete.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(change("W/\"x\"", 7).await.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(change("x", 7).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(change("*", 9).await.status, StatusCode::OK);
    assert_eq!(change(late.header("etag"), 7).await.status, StatusCode::PRECONDITION_FAILED);
    let team = json!({"hostname": "sw1", "team_assignment": "CORE"});
    let made = site.api(Method::POST, "/api/v2/teams", Some(team)).await;
    let seen = made.header("etag").to_owned();
    let put = async |team: &str| {
        let body = Some(json!({ "team_assignment": team }));
        ask(&site, Method::PUT, "/api/v2/teams/sw1", &[("if-match", &seen)], body).await.status
    };
    assert_eq!((put("EDGE").await, put("OTHER").await), (StatusCode::OK, StatusCode::PRECONDITION_FAILED));
    assert_eq!(site.api(Method::DELETE, "/api/v2/rules/9", None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_form_that_was_overtaken_shows_what_the_other_did_and_can_be_sent_again() {
    let site = Site::new().await;
    site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    let (cookie, csrf) = site.login().await;
    let version = |page: &str| {
        let (_, rest) = page.split_once("name=\"version\" value=\"").expect("a version");
        rest.split('"').next().expect("a value").to_owned()
    };
    let seen = version(&site.get("/rules/1", &cookie).await.text);
    site.api(Method::PATCH, "/api/v2/rules/1", Some(json!({"priority": 7, "reason": "CHG-7"}))).await;
    let save = async |version: &str| {
        let fields = [
            ("csrf", csrf.as_str()),
            ("version", version),
            ("match_string", "mine"),
            ("prod_handling", "Page_only"),
            ("team_assignment", "NETO"),
            ("is_active", "1"),
        ];
        site.post("/rules/1", &cookie, &fields).await
    };
    let overtaken = save(&seen).await;
    assert_eq!(overtaken.status, StatusCode::PRECONDITION_FAILED);
    for part in ["Somebody else changed this", "CHG-7", "value=\"mine\""] {
        assert!(overtaken.text.contains(part), "{part}: {}", overtaken.text);
    }
    assert_eq!(site.api(Method::GET, "/api/v2/rules/1", None).await.json()["priority"], 7, "nothing was saved");
    assert_eq!(save(&version(&overtaken.text)).await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.api(Method::GET, "/api/v2/rules/1", None).await.json()["match_string"], "mine");
}

#[tokio::test]
async fn a_list_that_is_the_same_is_not_sent_again() {
    let site = Site::new().await;
    let team = json!({"hostname": "sw1", "team_assignment": "CORE"});
    site.api(Method::POST, "/api/v2/teams", Some(team)).await;
    site.api(Method::POST, "/api/v2/dev-hosts", Some(json!({"hostname": "lab1"}))).await;
    let same = async |path: &str, tag: &str| {
        let again = ask(&site, Method::GET, path, &[("if-none-match", tag)], None).await;
        (again.status, again.text.len(), again.header("etag").to_owned())
    };
    for path in ["config", "config/unhandled_threshold", "config/history", "teams/sw1", "dev-hosts/lab1"] {
        let path = format!("/api/v2/{path}");
        let tag = site.api(Method::GET, &path, None).await.header("etag").to_owned();
        assert_eq!(same(&path, &tag).await, (StatusCode::NOT_MODIFIED, 0, tag.clone()), "{path}");
        assert_eq!(same(&path, "\"other\"").await.0, StatusCode::OK, "{path}");
    }
    for path in ["/api/v2/rules", "/api/v2/teams", "/api/v2/dev-hosts?api_version=2"] {
        let first = site.api(Method::GET, path, None).await;
        let tag = first.header("etag").to_owned();
        let again = async || ask(&site, Method::GET, path, &[("if-none-match", &tag)], None).await;
        assert_eq!((again().await.status, again().await.text.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path}");
        site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
        assert_eq!(again().await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let site = Site::new().await;
    let (cookie, _) = site.login().await;
    let path = "/api/v2/config/api_rate_limit_per_minute";
    let free = site.api(Method::GET, "/api/v2/version", None).await;
    assert_eq!(free.header("ratelimit-limit"), "60000");
    let set = site.api(Method::PUT, path, Some(json!({"value": 3}))).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text);
    let mut last = free;
    for _ in 0..6 {
        last = site.api(Method::GET, "/api/v2/version", None).await;
    }
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS, "{}", last.text);
    assert_eq!((last.header("ratelimit-limit"), last.header("ratelimit-remaining")), ("3", "0"));
    let wait: u64 = last.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    let asked = async |name: &str, value: &str| {
        let request = Request::get("/api/v2/version").header("x-api-key", value).header("x-muttd-user", name);
        site.send(request.body(Body::empty()).expect("a request")).await.status
    };
    let limited = StatusCode::TOO_MANY_REQUESTS;
    assert_eq!(asked("anna", "next-key").await, limited, "CURRENT and NEXT are one key, whoever says to use it");
    assert_eq!(site.get("/api/v2/version", &cookie).await.status, StatusCode::OK, "a user has a bucket of its own");
}

#[tokio::test]
async fn only_named_origins_may_read_the_api() {
    let site = Site::new().await;
    let preflight = [("origin", "https://noc.example"), ("access-control-request-method", "POST")];
    let off = ask(&site, Method::OPTIONS, "/api/v2/rules", &preflight, None).await;
    assert_eq!(off.header("access-control-allow-origin"), "");
    let site = Site::with("[http]\ncors_origins = [\"https://noc.example\"]\n").await;
    let allowed = ask(&site, Method::OPTIONS, "/api/v2/rules", &preflight, None).await;
    assert_eq!(
        (allowed.status, allowed.header("access-control-allow-origin")),
        (StatusCode::NO_CONTENT, preflight[0].1)
    );
    assert!(allowed.header("access-control-allow-headers").contains("Idempotency-Key"));
    for (origin, expected) in [("https://noc.example", "https://noc.example"), ("https://evil.example", "")] {
        let answer = ask(&site, Method::GET, "/api/v2/version", &[("origin", origin)], None).await;
        assert_eq!(answer.header("access-control-allow-origin"), expected);
        assert_eq!((answer.header("access-control-allow-credentials"), answer.header("vary").is_empty()), ("", false));
    }
}

#[tokio::test]
async fn answers_of_the_api_are_compressed_and_pages_are_not() {
    let site = Site::new().await;
    let (cookie, _) = site.login().await;
    for (path, encoding) in [("/api/v2/config", "gzip"), ("/rules", "")] {
        let request = Request::get(path).header(header::COOKIE, &cookie).header(header::ACCEPT_ENCODING, "gzip");
        let reply = site.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!((reply.status, reply.header("content-encoding")), (StatusCode::OK, encoding), "{path}");
    }
}

#[tokio::test]
async fn many_rules_are_changed_at_once_or_not_at_all_and_put_in_order() {
    let site = Site::new().await;
    for _ in 0..3 {
        site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    }
    let items = json!([
        {"action": "disable", "id": 1},
        {"action": "change", "id": 2, "rule": {"priority": "soon"}},
        {"action": "delete", "id": 9},
    ]);
    let refused = site.api(Method::POST, "/api/v2/rules/bulk", Some(json!({ "items": items }))).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let errors = refused.json()["errors"].clone();
    assert_eq!((&errors[0]["index"], &errors[0]["field"]), (&json!(1), &json!("priority")), "{errors}");
    assert_eq!(errors[1]["index"], 2);
    let items = json!([
        {"action": "disable", "id": 1},
        {"action": "enable", "id": 2},
        {"action": "delete", "id": 3},
        {"action": "create", "rule": rule()},
    ]);
    let done =
        site.api(Method::POST, "/api/v2/rules/bulk", Some(json!({"items": items, "reason": "CHG-9"}))).await.json();
    let outcomes: Vec<&str> =
        done["items"].as_array().expect("items").iter().filter_map(|i| i["outcome"].as_str()).collect();
    assert_eq!((outcomes.as_slice(), &done["done"]), (&["changed", "unchanged", "deleted", "created"][..], &json!(3)));
    let moved = site.api(Method::POST, "/api/v2/rules/reorder", Some(json!({"id": 4, "before": 1}))).await;
    assert_eq!(moved.status, StatusCode::OK, "{}", moved.text);
    let list = site.api(Method::GET, "/api/v2/rules", None).await.json();
    let order: Vec<i64> =
        list["rules"].as_array().expect("rules").iter().filter_map(|rule| rule["id"].as_i64()).collect();
    assert_eq!(order, [4, 1, 2]);
    let on = site.api(Method::POST, "/api/v2/rules/1/enable", None).await.json();
    assert_eq!(on["is_active"], true);
    let tried =
        site.api(Method::POST, "/api/v2/rules/try", Some(json!({"rule_id": 1, "rule": rule(), "days": 1}))).await;
    assert_eq!((tried.status, &tried.json()["complete"]), (StatusCode::OK, &json!(true)), "{}", tried.text);
    let nothing = site.api(Method::POST, "/api/v2/rules/try", Some(json!({"days": 1}))).await;
    assert_eq!(nothing.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_pages_change_several_rules_and_try_the_one_in_the_form() {
    let site = Site::new().await;
    for _ in 0..2 {
        site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    }
    let (cookie, csrf) = site.login().await;
    let csrf = ("csrf", csrf.as_str());
    let bulk = async |fields: &[(&str, &str)]| site.post("/rules/bulk", &cookie, fields).await;
    assert_eq!(bulk(&[csrf, ("id", "1"), ("id", "2"), ("action", "disable")]).await.status, StatusCode::SEE_OTHER);
    assert!(site.test.admin.rules().await.expect("rules").rules.iter().all(|rule| !rule.draft.is_active));
    assert_eq!(bulk(&[csrf, ("up", "2")]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.test.admin.rules().await.expect("rules").rules[0].id.0, 2);
    let asked = bulk(&[csrf, ("id", "1"), ("action", "delete")]).await;
    assert!(asked.text.contains("delete-them") && asked.text.contains("Delete 1 rules"), "{}", asked.text);
    assert_eq!(bulk(&[csrf, ("id", "1"), ("action", "delete-them")]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(site.test.admin.rules().await.expect("rules").rules.len(), 1);
    assert_eq!(bulk(&[csrf, ("action", "enable")]).await.status, StatusCode::BAD_REQUEST);
    let fields =
        [csrf, ("match_string", "down"), ("prod_handling", "Page_only"), ("team_assignment", "NETO"), ("days", "3")];
    let tried = site.post("/rules/try", &cookie, &fields).await;
    assert!(tried.status == StatusCode::OK && tried.text.contains("What it would have done"), "{}", tried.text);
    let live = site.get("/events?hostname=core1", &cookie).await.text;
    assert!(live.contains("data-live=\"/api/v2/events/stream?hostname=core1\""), "{live}");
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let site = Site::new().await;
    site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    let at_fault = async |path: &str| {
        let reply = site.api(Method::GET, path, None).await;
        (reply.status.as_u16(), reply.json()["field"].as_str().map(str::to_owned))
    };
    for path in ["/api/v2/users?limit=1", "/api/v2/rules?limit=1&limit=2", "/api/v2/rules?page=1&page=1"] {
        let (status, field) = at_fault(path).await;
        assert!(status == 400 && path.contains(&field.expect("named")), "{path}");
    }
    assert_eq!(at_fault("/api/v2/rules?limit=1&api_version=v2").await.0, 200);
    assert_eq!(at_fault("/api/v1/audit-logs?limit=1&limit=2&colour=red").await.0, 200, "as it was");
    let send = async |path: &str, headers: &[(&str, &str)], body: &'static str| {
        let mut request = Request::builder().method(Method::POST).uri(path).header("x-api-key", "current-key");
        for (name, value) in [("content-type", "application/json")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        site.send(request.body(Body::from(body)).expect("a request")).await
    };
    let twice = "{\"hostname\": \"a\",\n \"hostname\": \"b\"}";
    let refused = send("/api/v2/dev-hosts", &[], twice).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("`hostname` is there twice at line 2"), "{}", refused.text);
    assert_eq!(
        send("/api/v1/dev-hosts", &[], twice).await.status,
        StatusCode::CREATED,
        "the last one counts, as it did"
    );
    let empty = send("/api/v2/dev-hosts", &[], " ").await;
    assert!(empty.status == StatusCode::BAD_REQUEST && empty.text.contains("the body is empty"), "{}", empty.text);
    let packed = send("/api/v2/dev-hosts", &[("content-encoding", "gzip")], "x").await;
    assert_eq!((packed.status.as_u16(), packed.header("accept-encoding")), (415, "identity"), "{}", packed.text);
    let long = send("/api/v2/dev-hosts", &[("content-length", "99999999999")], "{").await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE, "it is not waited for");
}

#[tokio::test]
async fn conditions_hold_for_whatever_carries_them() {
    let site = Site::new().await;
    let made = site.api(Method::POST, "/api/v2/rules", Some(rule())).await;
    let tag = made.header("etag").to_owned();
    let status = async |method: Method, name: &str, value: &str, body: Option<Value>| {
        ask(&site, method, "/api/v2/rules/1", &[(name, value)], body).await.status.as_u16()
    };
    let change = || Some(json!({"priority": 7}));
    assert_eq!(status(Method::PATCH, "if-none-match", "*", change()).await, 412, "it is there");
    assert_eq!(status(Method::PATCH, "if-none-match", &tag, change()).await, 400);
    assert_eq!(status(Method::GET, "if-match", "\"other\"", None).await, 412);
    assert_eq!(status(Method::GET, "if-match", &tag, None).await, 200);
    let seen = site.api(Method::GET, "/api/openapi.json", None).await.header("etag").to_owned();
    for known in [format!("W/{seen}"), "*".to_owned()] {
        let again = ask(&site, Method::GET, "/api/openapi.json", &[("if-none-match", &known)], None).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{known}");
    }
}

#[tokio::test]
async fn a_stranger_is_told_how_to_prove_who_it_is() {
    let site = Site::new().await;
    for path in ["/api/v2/rules", "/api/v1/rules"] {
        let reply = site.send(Request::builder().uri(path).body(Body::empty()).expect("a request")).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert!(reply.header("www-authenticate").starts_with("ApiKey "), "{path}");
    }
    let wrong = site.post("/login", "", &[("user", "admin"), ("password", "wrong")]).await;
    assert_eq!((wrong.status, wrong.header("www-authenticate").is_empty()), (StatusCode::UNAUTHORIZED, false));
}
