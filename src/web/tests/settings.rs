//! Settings over the API and on their page.

use super::*;

const KEY: &str = "/api/v2/config/unhandled_threshold";

#[tokio::test]
async fn a_setting_is_read_changed_traced_and_brought_back_over_the_api() {
    let site = Site::new().await;
    let all = site.api(Method::GET, "/api/v2/config", None).await.json();
    let keys = all["settings"].as_array().expect("settings");
    let masked = keys.iter().find(|setting| setting["key"] == "admin.api_key").expect("secrets are listed");
    assert_eq!((&masked["value"], &masked["masked"]), (&Value::Null, &json!(true)));
    let shown = site.api(Method::GET, KEY, None).await;
    let tag = shown.header("etag").to_owned();
    assert!(tag.starts_with("\"100;"), "{tag}");
    let shown = shown.json();
    for (member, expected) in [
        ("value", json!(100)),
        ("origin", json!("default")),
        ("range", json!("1 to 1000000000")),
        ("unit", json!("events")),
        ("read_by", json!("alerter")),
        ("writable", json!(true)),
        ("live", json!(true)),
    ] {
        assert_eq!(shown[member], expected, "{member}");
    }
    let set = site.api(Method::PUT, KEY, Some(json!({"value": 7, "reason": "CHG-1", "expected": 100}))).await.json();
    assert_eq!((&set["value"], &set["origin"], &set["previous"]["value"]), (&json!(7), &json!("store"), &json!(100)));
    assert_eq!(set["beneath"], json!({"value": "100", "origin": "default"}));
    let text = site.api(Method::PUT, KEY, Some(json!({"value": "8"}))).await.json();
    assert_eq!(text["value"], 8, "a text is taken too");
    let history = site.api(Method::GET, "/api/v2/config/history?key=unhandled_threshold", None).await.json();
    assert_eq!((&history["total"], &history["changes"][1]["reason"]), (&json!(2), &json!("CHG-1")));
    let change = json!({"change": history["changes"][0]["id"]});
    let reverted = site.api(Method::POST, &format!("{KEY}/revert"), Some(change)).await.json();
    assert_eq!(reverted["value"], 7);
    let reset = site.api(Method::DELETE, KEY, None).await.json();
    assert_eq!((&reset["value"], &reset["origin"]), (&json!(100), &json!("default")));
    let log = site.api(Method::GET, "/api/v2/config-audit?table_name=dynamic_config", None).await.json();
    assert_eq!(log["pagination"]["total"], 4);
}

#[tokio::test]
async fn what_cannot_be_set_is_refused_with_the_reason_and_changes_nothing() {
    let site = Site::new().await;
    let cases: &[(Method, &str, Option<Value>, u16, &str)] = &[
        (
            Method::PUT,
            KEY,
            Some(json!({"value": 0})),
            400,
            "`unhandled_threshold` is `0`, but must be a whole number from 1",
        ),
        (Method::PUT, KEY, Some(json!({"value": "many"})), 400, "from 1 to 1000000000"),
        (Method::PUT, KEY, Some(json!({"value": null})), 400, "a number, a text or true or false"),
        (Method::PUT, KEY, Some(json!({"value": {}})), 400, "a number, a text or true or false"),
        (Method::PUT, KEY, Some(json!({})), 400, "missing"),
        (Method::PUT, KEY, Some(json!({"value": 7, "valeu": 8})), 400, "no such member"),
        (Method::PUT, KEY, Some(json!({"value": 7, "expected": 99})), 409, "`unhandled_threshold` is `100` meanwhile"),
        (Method::PUT, "/api/v2/config/unhandled_treshold", Some(json!({"value": 7})), 404, "unhandled_threshold"),
        (Method::GET, "/api/v2/config/%00", None, 404, ""),
        (Method::PUT, "/api/v2/config/snmp.listen", Some(json!({"value": 7})), 400, "MUTTD_SNMP_LISTEN"),
        (Method::PUT, "/api/v2/config/audit", Some(json!({"value": "some"})), 400, "matched, all, sample"),
        (
            Method::PUT,
            "/api/v2/config/alerter_queue_warn_threshold",
            Some(json!({"value": 1_000_001})),
            400,
            "`alerter_queue_shed_threshold` at least 1000001",
        ),
        (Method::POST, "/api/v2/config/unhandled_threshold/revert", Some(json!({"change": 99})), 400, "no change 99"),
        (
            Method::POST,
            "/api/v2/config/unhandled_threshold/revert",
            Some(json!({"change": "x"})),
            400,
            "a whole number",
        ),
        (Method::GET, "/api/v2/config/history?key=nothing", None, 404, ""),
        (Method::DELETE, "/api/v2/config/nothing", None, 404, ""),
    ];
    for (method, path, body, status, expected) in cases {
        let reply = site.api(method.clone(), path, body.clone()).await;
        assert_eq!(reply.status.as_u16(), *status, "{method} {path}: {}", reply.text);
        assert!(reply.text.contains(expected), "{method} {path}: {} should contain {expected}", reply.text);
    }
    let history = site.api(Method::GET, "/api/v2/config/history", None).await.json();
    assert_eq!(history["total"], 0);
}

#[tokio::test]
async fn a_tag_that_no_longer_holds_is_a_conflict() {
    let site = Site::new().await;
    let put = async |tag: &str, value: u32| {
        let request = Request::builder().method(Method::PUT).uri(KEY).header("x-api-key", "current-key");
        let request = request.header(header::CONTENT_TYPE, "application/json").header(header::IF_MATCH, tag);
        let body = Body::from(json!({"value": value}).to_string());
        site.send(request.body(body).expect("a request")).await
    };
    let late = put("\"99\"", 7).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
    let first = late.header("etag").to_owned();
    assert_eq!(put("\"100\"", 7).await.status, StatusCode::OK, "the value alone will do");
    assert_eq!(put(&first, 8).await.status, StatusCode::PRECONDITION_FAILED);
    let set = site.api(Method::GET, KEY, None).await;
    assert!(set.header("etag").starts_with("\"7;"), "{}", set.header("etag"));
    assert_eq!(put(set.header("etag"), 100).await.status, StatusCode::OK);
    let now = site.api(Method::GET, KEY, None).await.header("etag").to_owned();
    assert!(now.starts_with("\"100;") && now != first, "the same value from elsewhere is told apart: {now}");
    assert_eq!(put("*", 8).await.status, StatusCode::OK);
    assert_eq!(put("seven", 9).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_paths_of_version_1_answer_in_their_shapes_and_say_that_they_end() {
    let site = Site::new().await;
    let all = site.api(Method::GET, "/api/v1/config", None).await;
    assert_eq!(all.json()["config"]["moog_rate_limit"], 50);
    assert_eq!(all.header("deprecation"), "true");
    assert_eq!(all.header("link"), "</api/v2/config>; rel=\"successor-version\"");
    let body = json!({"value": "9", "reason": "CHG-2"});
    let set = site.api(Method::PUT, "/api/v1/config/moog_rate_limit", Some(body)).await.json();
    assert_eq!((&set["status"], &set["value"], &set["old_value"]), (&json!("updated"), &json!(9), &json!(50)));
    let history = site.api(Method::GET, "/api/v1/config/history", None).await.json();
    assert_eq!((&history["history"][0]["reason"], &history["pagination"]["total"]), (&json!("CHG-2"), &json!(1)));
    let request = |version: &str| {
        let request = Request::builder().uri("/api/v1/config").header("x-api-key", "current-key");
        request.header("accept-version", version).body(Body::empty()).expect("a request")
    };
    assert_eq!(site.send(request("v1")).await.status, StatusCode::OK);
    assert_eq!(site.send(request("v3")).await.status, StatusCode::BAD_REQUEST);
    let keyless = Request::builder().uri("/api/v1/config").body(Body::empty()).expect("a request");
    assert_eq!(site.send(keyless).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_page_changes_what_was_typed_shows_where_it_comes_from_and_goes_back() {
    let site = Site::new().await;
    let (cookie, csrf) = site.login().await;
    let page = site.get("/admin/config", &cookie).await.text;
    for part in
        ["unhandled_threshold", "1 to 1,000,000,000", "badge none\">default", "snmp.communities", "set, not shown"]
    {
        assert!(page.contains(part), "the page has no {part}");
    }
    let typed = |threshold: &'static str, was: &'static str| {
        let keys =
            site.test.admin.settings().settings.into_iter().filter(|setting| setting.key.reader.starts_with("alerter"));
        let mut fields: Vec<(String, String)> = keys
            .flat_map(|setting| {
                let id = setting.key.id().into_owned();
                [(format!("was.{id}"), setting.text.clone()), (id, setting.text)]
            })
            .collect();
        for (name, value) in &mut fields {
            match name.as_str() {
                "unhandled_threshold" => *value = threshold.to_owned(),
                "was.unhandled_threshold" => *value = was.to_owned(),
                _ => {}
            }
        }
        fields.extend([
            ("csrf".into(), csrf.clone()),
            ("group".into(), "alerter".into()),
            ("reason".into(), "CHG-3".into()),
        ]);
        fields
    };
    let post = async |path: &str, fields: Vec<(String, String)>| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        site.post(path, &cookie, &fields).await
    };
    let refused = post("/admin/config", typed("0", "100")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("from 1 to") && refused.text.contains("value=\"CHG-3\""), "{}", refused.text);
    assert_eq!(post("/admin/config", typed("7", "99")).await.status, StatusCode::CONFLICT, "someone was quicker");
    assert_eq!(post("/admin/config", typed("7", "100")).await.header("location"), "/admin/config?done=settings-saved");
    assert_eq!(post("/admin/config", typed("7", "7")).await.header("location"), "/admin/config?done=settings-same");
    let changes = site.test.admin.settings_history(None, None, 10).await.expect("lines").rows;
    assert_eq!(changes.len(), 1, "only what was changed is written");
    let page = site.get("/admin/config", &cookie).await.text;
    assert!(page.contains("badge calm\">store") && page.contains("without it: 100 (default)"), "{page}");
    let history = site.get("/admin/config/history?key=unhandled_threshold", &cookie).await.text;
    assert!(history.contains("CHG-3") && history.contains("environment, file or default"), "{history}");
    let form = |extra: &[(&str, &str)]| {
        let pairs = extra.iter().copied().chain([("csrf", csrf.as_str())]);
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    let number = changes[0].id.to_string();
    let reverted = post("/admin/config/revert", form(&[("key", "unhandled_threshold"), ("change", &number)])).await;
    assert_eq!(reverted.header("location"), "/admin/config?done=setting-reverted");
    assert_eq!(site.test.admin.setting("unhandled_threshold").expect("a key").text, "100");
    post("/admin/config", typed("7", "100")).await;
    let reset = post("/admin/config/reset", form(&[("reset", "unhandled_threshold")])).await;
    assert_eq!(reset.header("location"), "/admin/config?done=setting-reset");
    assert_eq!(site.test.admin.setting("unhandled_threshold").expect("a key").text, "100");
}
