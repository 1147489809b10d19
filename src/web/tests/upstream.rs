//! Version 1 as scripts of MUTT 2.x know it: bodies, statuses, messages.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};

use super::{Reply, Site, matched};

/// One call of a script and what it is answered with.
async fn check(site: &Site, method: Method, path: &str, body: Option<Value>, status: u16, expected: Value) {
    let reply = site.api(method.clone(), path, body).await;
    let what = format!("{method} {path}: {} {}", reply.status, reply.text);
    assert_eq!(reply.status.as_u16(), status, "{what}");
    for (name, value) in expected.as_object().expect("members to look for") {
        assert_eq!(&reply.json()[name], value, "{what}");
    }
    check_marks(&reply, path);
}

fn check_marks(reply: &Reply, path: &str) {
    let old = path.starts_with("/api/v1");
    for name in ["deprecation", "sunset", "x-sunset", "x-api-deprecated", "link"] {
        assert_eq!(reply.header(name).is_empty(), !old, "{path}: {name}");
    }
    assert_eq!(reply.header("x-api-version"), "v2.5", "{path}");
    assert_eq!(reply.header("x-api-supported-versions"), "v2.5, v2, v1", "{path}");
}

#[tokio::test]
async fn rules_are_made_changed_and_removed_with_the_old_messages() {
    let site = Site::new().await;
    let draft = json!({
        "match_string": "down", "trap_oid": "", "prod_handling": "Page_only", "dev_handling": "Ignore",
        "team_assignment": "NETO", "description": "unknown members are disregarded",
    });
    let made = json!({"id": 1, "message": "Rule created successfully"});
    check(&site, Method::POST, "/api/v1/rules", Some(draft.clone()), 201, made).await;
    let list = site.api(Method::GET, "/api/v1/rules", None).await.json();
    assert_eq!((list.as_array().map(Vec::len), &list[0]["match_type"]), (Some(1), &json!("contains")));
    let part = json!({"priority": 5, "is_active": false});
    let updated = json!({"message": "Rule updated successfully"});
    check(&site, Method::PUT, "/api/v1/rules/1", Some(part), 200, updated).await;
    let row = json!({"id": 1, "priority": 5, "is_active": false, "match_string": "down"});
    check(&site, Method::GET, "/api/v1/rules/1", None, 200, row).await;
    let error = |text: &str| json!({ "error": text });
    let nothing = Some(json!({"colour": "red"}));
    check(&site, Method::PUT, "/api/v1/rules/1", nothing, 400, error("No fields to update")).await;
    let part = Some(json!({"priority": 5}));
    check(&site, Method::PUT, "/api/v1/rules/9", part, 404, error("Rule not found")).await;
    check(&site, Method::GET, "/api/v1/rules/nine", None, 404, error("Rule not found")).await;
    let mut bare = draft;
    bare["match_string"] = Value::Null;
    let either = error("Either match_string or trap_oid is required");
    check(&site, Method::POST, "/api/v1/rules", Some(bare), 400, either).await;
    let missing = error("Missing required fields: dev_handling, team_assignment");
    check(&site, Method::POST, "/api/v1/rules", Some(json!({"prod_handling": "x"})), 400, missing).await;
    let deleted = json!({"message": "Rule deleted successfully"});
    check(&site, Method::DELETE, "/api/v1/rules/1", None, 200, deleted).await;
    check(&site, Method::DELETE, "/api/v1/rules/1", None, 404, error("Rule not found")).await;
}

#[tokio::test]
async fn hosts_and_teams_are_listed_changed_and_refused_with_the_old_messages() {
    let site = Site::new().await;
    let lab = || Some(json!({"hostname": "lab1"}));
    let told = |text: &str| json!({ "message": text });
    let error = |text: &str| json!({ "error": text });
    check(&site, Method::POST, "/api/v1/dev-hosts", lab(), 201, told("Dev host added successfully")).await;
    check(&site, Method::POST, "/api/v1/dev-hosts", lab(), 409, error("Hostname already exists")).await;
    check(&site, Method::POST, "/api/v1/dev-hosts", Some(json!({})), 400, error("hostname is required")).await;
    check(&site, Method::GET, "/api/v1/dev-hosts", None, 200, json!({"hosts": [{"hostname": "lab1"}]})).await;
    check(&site, Method::DELETE, "/api/v1/dev-hosts/lab1", None, 200, told("Dev host deleted successfully")).await;
    check(&site, Method::DELETE, "/api/v1/dev-hosts/lab1", None, 404, error("Hostname not found")).await;
    let row = |team: &str| json!({"hostname": "sw1", "team_assignment": team});
    check(&site, Method::POST, "/api/v1/teams", Some(row("CORE")), 201, told("Team mapping added successfully")).await;
    let taken = error("Hostname already has a team assignment");
    check(&site, Method::POST, "/api/v1/teams", Some(row("CORE")), 409, taken).await;
    let team = || Some(json!({"team_assignment": "ACCESS"}));
    check(&site, Method::PUT, "/api/v1/teams/sw1", team(), 200, told("Team mapping updated successfully")).await;
    check(&site, Method::PUT, "/api/v1/teams/sw9", team(), 404, error("Hostname not found")).await;
    check(&site, Method::GET, "/api/v1/teams", None, 200, json!({"teams": [row("ACCESS")]})).await;
    check(&site, Method::DELETE, "/api/v1/teams/sw1", None, 200, told("Team mapping deleted successfully")).await;
}

#[tokio::test]
async fn a_key_in_the_address_opens_version_1_alone() {
    let site = Site::new().await;
    for (path, status) in [
        ("/api/v1/metrics?api_key=current-key", 200),
        ("/api/v1/rules?api_key=current%2Dkey&page=2&colour=red", 200),
        ("/api/v1/metrics?api_key=wrong", 401),
        ("/api/v1/metrics", 401),
        ("/api/v2/metrics?api_key=current-key", 401),
    ] {
        let reply = site.send(Request::get(path).body(Body::empty()).expect("a request")).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {}", reply.text);
        check_marks(&reply, path);
        if status == 401 && path.starts_with("/api/v1") {
            assert_eq!(reply.json()["error"], "Unauthorized");
            assert!(reply.json()["correlation_id"].is_string());
        }
    }
}

#[tokio::test]
async fn what_is_nowhere_or_asked_for_in_another_version_is_marked_too() {
    let site = Site::new().await;
    let error = json!({"error": "there is nothing at this address"});
    check(&site, Method::GET, "/api/v1/nothing", None, 404, error).await;
    check(&site, Method::PATCH, "/api/v1/rules", None, 405, json!({})).await;
    check(&site, Method::GET, "/api/v1/rules?api_version=7", None, 400, json!({})).await;
    check(&site, Method::GET, "/api/v2/rules?api_version=v2", None, 200, json!({"total": 0})).await;
}

#[tokio::test]
async fn the_audit_is_read_page_by_page_to_its_end_and_by_cursor() {
    let site = Site::new().await;
    let rows = (1..=250).map(|number| matched(number, "core1", "down", 7)).collect();
    site.test.stores.audit.record(rows).await.expect("recorded");
    let (mut page, mut seen) = (1, 0);
    loop {
        let path = format!("/api/v1/audit-logs?page={page}&limit=60&hostname=core1");
        let answer = site.api(Method::GET, &path, None).await.json();
        let logs = answer["logs"].as_array().expect("`logs`").len();
        assert!(logs > 0 && logs <= 60, "{answer}");
        seen += logs;
        assert_eq!(answer["logs"][0]["matched_rule_id"], 7);
        if answer["pagination"]["pages"].as_u64() <= Some(page) {
            assert_eq!(answer["pagination"], json!({"page": page, "limit": 60, "total": 250, "pages": 5}));
            break;
        }
        page += 1;
    }
    assert_eq!((page, seen), (5, 250));
    let (mut cursor, mut seen) = (String::new(), 0);
    for _ in 0..3 {
        let answer = site.api(Method::GET, &format!("/api/v2/audit-logs?limit=100{cursor}"), None).await.json();
        seen += answer["logs"].as_array().expect("`logs`").len();
        cursor = answer["next_cursor"].as_str().map(|next| format!("&cursor={next}")).unwrap_or_default();
    }
    assert_eq!((seen, cursor.as_str()), (250, ""));
    let whole = site.api(Method::GET, "/api/v1/audit-logs?limit=9999&page=zero", None).await.json();
    assert_eq!((&whole["pagination"]["limit"], &whole["pagination"]["page"]), (&json!(200), &json!(1)));
}
