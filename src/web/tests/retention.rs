//! Retention on its pages: who sees which buttons, runs, archives, holds, erasures, and input that is at fault.

use std::time::Duration;

use super::*;
use crate::access::Role;
use crate::admin::Actor;

/// A browser of a user with this role; the cookie and the token of its forms.
async fn visitor(site: &Site, role: Role) -> (String, String) {
    let name = format!("{}1", role.name());
    let (actor, own) = (Actor::new("admin", "c"), Actor::new(name.as_str(), "c"));
    let admin = &site.test.admin;
    let made = admin.create_user(&name, role, &actor, None).await.expect("made");
    let peer = std::net::Ipv4Addr::LOCALHOST.into();
    admin.change_password(&own, made.password.reveal(), PASSWORD.into(), peer).await.expect("changed");
    let token = admin.login(&name, PASSWORD, peer).await.expect("logs in").token;
    let csrf = admin.session(&token).await.expect("works").expect("in force").csrf_token;
    (format!("muttd_session={token}"), csrf)
}

/// A site whose only events are old enough to be archived.
async fn old_site() -> Site {
    let site = Site::new().await;
    let events = vec![matched(1, "core1", "link down on <eth1>", 3), matched(2, "core2", "fan 2 failed", 3)];
    site.test.stores.audit.record(events).await.expect("recorded");
    site.test.clock.advance(Duration::from_hours(24 * 100));
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_show_a_viewer_everything_but_the_buttons() {
    let site = old_site().await;
    site.test.admin.run_retention(&Actor::new("admin", "c"), None).await.expect("runs");
    let all =
        ["/admin/retention", "/admin/retention/archives", "/admin/retention/search?go=1", "/admin/retention/holds"];
    for (role, changes) in [(Role::Viewer, false), (Role::Admin, true)] {
        let (cookie, _) = visitor(&site, role).await;
        let mut text = String::new();
        for path in all {
            let page = site.get(path, &cookie).await;
            assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text);
            text.push_str(&page.text);
        }
        for part in ["What the last run did", "events-2026-03-01.ndjson.zst", "link down on"] {
            assert!(text.contains(part), "{part} for {role}");
        }
        assert!(!text.contains("<eth1>"), "text from the network is escaped");
        for button in
            ["Run now", "Dry run", ">Verify<", "/archives/restore", "/file\"", "Place hold", "See what would go"]
        {
            assert_eq!(text.contains(button), changes, "{button} for {role}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_verifies_and_does_not_run() {
    let site = old_site().await;
    site.test.admin.run_retention(&Actor::new("admin", "c"), None).await.expect("runs");
    let (cookie, csrf) = visitor(&site, Role::Operator).await;
    let page = site.get("/admin/retention/archives", &cookie).await.text;
    assert!(page.contains(">Verify<") && !page.contains("/archives/restore"), "{page}");
    let fields = [("csrf", csrf.as_str()), ("name", "events-2026-03-01.ndjson.zst")];
    let verified = site.post("/admin/retention/archives/verify", &cookie, &fields).await;
    assert_eq!(verified.header("location"), "/admin/retention/archives?done=archive-verified", "{}", verified.text);
    let page = site.get("/admin/retention/archives", &cookie).await.text;
    assert!(!page.contains("when it was written"), "{page}");
    let fields = [("csrf", csrf.as_str()), ("act", "run")];
    assert_eq!(site.post("/admin/retention/run", &cookie, &fields).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing_a_run_archives_and_the_archive_is_searched_and_restored() {
    let site = old_site().await;
    let (cookie, csrf) = site.login().await;
    let csrf = ("csrf", csrf.as_str());
    let planned = site.post("/admin/retention/run", &cookie, &[csrf, ("act", "plan")]).await;
    assert_eq!(planned.status, StatusCode::OK, "{}", planned.text);
    assert!(
        planned.text.contains("What a run would do now") && planned.text.contains("2026-03-01"),
        "{}",
        planned.text
    );
    assert!(site.test.admin.archives().is_empty());
    let ran = site.post("/admin/retention/run", &cookie, &[csrf, ("act", "run"), ("reason", "CHG-7")]).await;
    assert_eq!(ran.header("location"), "/admin/retention?done=retention-ran", "{}", ran.text);
    assert_eq!(site.test.admin.archives().len(), 1);
    let found = site.get("/admin/retention/search?hostname=core1", &cookie).await.text;
    assert!(found.contains("link down") && !found.contains("fan 2"), "{found}");
    let (_, rest) = found.split_once("/admin/retention/events/").expect("a link to the event");
    let id = rest.split('"').next().expect("an id");
    let event = site.get(&format!("/admin/retention/events/{id}"), &cookie).await;
    assert!(event.status == StatusCode::OK && event.text.contains("kept in the archive"), "{}", event.text);
    let name = "events-2026-03-01.ndjson.zst";
    let form = site.get(&format!("/admin/retention/archives/restore?name={name}"), &cookie).await.text;
    assert!(form.contains(name), "{form}");
    let fields = [csrf, ("name", name), ("from", ""), ("to", ""), ("days", "3")];
    let restored = site.post("/admin/retention/archives/restore", &cookie, &fields).await;
    assert_eq!(restored.header("location"), "/admin/retention/archives?done=archive-restored", "{}", restored.text);
    let page = site.get("/admin/retention/archives", &cookie).await.text;
    assert!(page.contains("restored") && page.contains("end restore"), "{page}");
    let returned = site.post("/admin/retention/archives/return", &cookie, &[csrf, ("name", name)]).await;
    assert_eq!(returned.header("location"), "/admin/retention/archives?done=archive-returned", "{}", returned.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_placed_and_lifted_and_a_host_is_erased_after_a_question() {
    let site = old_site().await;
    let (cookie, csrf) = site.login().await;
    let csrf = ("csrf", csrf.as_str());
    let fields = [csrf, ("name", "case <7>"), ("hostname", "core1"), ("from", "2026-02-01"), ("reason", "the court")];
    let placed = site.post("/admin/retention/holds", &cookie, &fields).await;
    assert_eq!(placed.header("location"), "/admin/retention/holds?done=hold-placed", "{}", placed.text);
    let page = site.get("/admin/retention/holds", &cookie).await.text;
    assert!(page.contains("the court") && page.contains("core1") && !page.contains("<7>"), "{page}");
    let id = site.test.admin.holds().await.expect("holds")[0].id.to_string();
    let erase = [csrf, ("hostname", "core1"), ("reason", "asked for")];
    let held = site.post("/admin/retention/erase", &cookie, &erase).await;
    assert_eq!(held.status, StatusCode::CONFLICT, "a hold keeps it: {}", held.text);
    let asked = site.get(&format!("/admin/retention/holds/lift?id={id}"), &cookie).await.text;
    assert!(asked.contains("Lift a legal hold"), "{asked}");
    let bare = site.post("/admin/retention/holds/lift", &cookie, &[csrf, ("id", &id)]).await;
    assert_eq!(bare.status, StatusCode::BAD_REQUEST, "a reason is needed: {}", bare.text);
    let lifted = site.post("/admin/retention/holds/lift", &cookie, &[csrf, ("id", &id), ("reason", "closed")]).await;
    assert_eq!(lifted.header("location"), "/admin/retention/holds?done=hold-lifted", "{}", lifted.text);
    assert!(site.test.admin.holds().await.expect("holds").is_empty());
    let plan = site.get("/admin/retention/erase?hostname=core1", &cookie).await.text;
    assert!(plan.contains("at least 1") && plan.contains("Erase for good"), "{plan}");
    let erased = site.post("/admin/retention/erase", &cookie, &erase).await;
    assert_eq!(erased.header("location"), "/admin/retention/holds?done=erasure-asked", "{}", erased.text);
    assert_eq!(site.test.admin.plan_erasure("core1").await.expect("a plan").audit_rows, 0);
}

#[tokio::test]
async fn input_at_fault_is_shown_again_with_what_is_wrong() {
    let site = Site::new().await;
    let (cookie, csrf) = site.login().await;
    let csrf = ("csrf", csrf.as_str());
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let forms: [(&str, Fields<'_>, u16, &str); 10] = [
        ("holds", &[csrf, ("name", "kept"), ("from", "soon"), ("reason", "x")], 400, "it is not a time"),
        ("holds", &[csrf, ("name", "kept")], 400, "it is missing"),
        (
            "holds",
            &[csrf, ("name", "a"), ("reason", "x"), ("from", "2026-02-02"), ("to", "2026-02-01")],
            400,
            "not after",
        ),
        ("holds/lift", &[csrf, ("id", "x"), ("reason", "x")], 404, "hold `x` does not exist"),
        ("archives/restore", &[csrf, ("name", "../x"), ("days", "3")], 404, "does not exist"),
        ("archives/restore", &[csrf, ("from", "2026-01-01"), ("to", "2026-01-02"), ("days", "0")], 400, "1 to 366"),
        ("archives/restore", &[csrf, ("days", "3")], 400, "either an archive"),
        ("archives/verify", &[csrf, ("sample", "-1")], 400, "a whole number"),
        ("erase", &[csrf, ("hostname", "core1")], 400, "it is missing"),
        ("run", &[csrf, ("act", "explode")], 400, "no such button"),
    ];
    for (path, fields, status, expected) in forms {
        let reply = site.post(&format!("/admin/retention/{path}"), &cookie, fields).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {fields:?}: {}", reply.text);
        assert!(reply.text.contains(expected), "{path} {fields:?}: {}", reply.text);
    }
    let addresses = [
        ("archives?from=x", 400, "it is not a day"),
        ("archives?cursor=x", 400, "an archive of this list"),
        ("archives?check=1", 200, "Manifest and files fit"),
        ("search?from=x", 400, "it is not a time"),
        ("search?cursor=x", 400, "a cursor"),
        ("events/x", 404, "does not exist"),
        ("archives/return?name=x", 404, "does not exist"),
        ("archives/accept", 200, "there is none"),
        ("erase?hostname=", 400, "it is missing"),
    ];
    for (path, status, expected) in addresses {
        let reply = site.get(&format!("/admin/retention/{path}"), &cookie).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {}", reply.text);
        assert!(reply.text.contains(expected), "{path}: {}", reply.text);
    }
    let forged = site.post("/admin/retention/run", &cookie, &[("csrf", "x"), ("act", "run")]).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_has_its_own_report_under_its_number() {
    let site = old_site().await;
    // Numbers are moments, and this clock stands still.
    let first = site.test.clock.now().as_micros();
    let actor = Actor::new("admin", "c");
    site.test.admin.run_retention(&actor, None).await.expect("runs");
    site.test.admin.verify_archives(None, None, &actor, None).await.expect("verifies");
    let name = "events-2026-03-01.ndjson.zst";
    site.test.admin.return_archive(name, &actor, None).await.expect_err("it is not restored");
    let task = async |number: i64| {
        let reply = site.api(Method::GET, &format!("/api/v2/retention/tasks/{number}"), None).await;
        (reply.status.as_u16(), reply.json())
    };
    let (status, run) = task(first).await;
    assert_eq!((status, &run["finished"], &run["report"]["archived_events"]), (200, &json!(true), &json!(2)), "{run}");
    let (status, verified) = task(first + 1).await;
    let report = &verified["report"];
    assert_eq!((status, &report["verified"], &report["archived_events"]), (200, &json!(1), &json!(0)), "{verified}");
    assert_eq!(task(first + 2).await.0, 409, "what failed answers as it would have at once");
    assert_eq!(task(first + 3).await.0, 404);
    assert_eq!(task(-1).await.0, 404);
}
