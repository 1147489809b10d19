//! What every implementation of the store traits must do, run against the embedded databases. Another backend joins by
//! being opened in [`open`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muttd::access::{Network, RingKey, Role, Scopes};
use muttd::clock::Clock;
use muttd::live::Live;
use muttd::model::{
    Decision, DeliveryNote, DeliveryOutcome, Environment, Event, EventId, EventIds, Handling, Judged, MatchType,
    Matched, Protocol, RuleDraft, RuleId, Severity, Source, TargetName, Team, Timestamp,
};
use muttd::store::{
    ApiKey, Change, ChangeQuery, ConfigEdit, DeviceTeam, EventQuery, HostQuery, KeyChange, Kind, LiveSession,
    Operation, Overrun, RecentSettings, Session, SessionClock, Sighting, StoreError, Stores, UnhandledBatch,
    UnhandledEvents, UnhandledPolicy, User, UserUpdate,
};

/// 2026-11-21T00:00:00Z
const START: i64 = 1_795_219_200_000;
const DAY: i64 = 86_400_000;

fn open(folder: &Path) -> Stores {
    try_open(folder).expect("the stores open")
}

fn try_open(folder: &Path) -> Result<Stores, StoreError> {
    let clock = Clock::fixed(Timestamp::from_millis(START));
    Stores::open(folder, clock, Live::constant(RecentSettings { max_bytes: 64 << 20, max_days: 7 }))
}

/// What is on disk at this moment, as a killed process leaves it.
fn copy_of(folder: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).expect("a folder") {
            let path = entry.expect("an entry").path();
            let target = to.join(path.file_name().expect("a name"));
            if path.is_dir() {
                std::fs::create_dir(&target).expect("a folder");
                copy(&path, &target);
            } else if !path.to_string_lossy().ends_with("-shm") {
                // The shared-memory index is rebuilt from the log; a copy taken while it changes would be torn.
                match std::fs::copy(&path, &target) {
                    // A store may remove a file of its own while it is copied, as the log of a database that is closed.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    copied => drop(copied.expect("a copy")),
                }
            }
        }
    }
    let to = tempfile::tempdir().expect("a folder");
    copy(folder, to.path());
    to
}

/// Makes events with ids in the order of the calls.
struct Maker {
    ids: EventIds,
}

impl Maker {
    fn new() -> Self {
        Self { ids: EventIds::new(7) }
    }

    fn judged(&self, millis: i64, host: &str, rule: Option<i64>) -> Judged {
        let at = Timestamp::from_millis(millis);
        let source = Source { protocol: Protocol::SyslogUdp, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let mut event = Event::new(self.ids.next(at), at, source);
        event.hostname = host.into();
        event.message = format!("%LINK-3-UPDOWN: Interface Gi0/{} on {host} changed state", millis % 7).into();
        event.raw = format!("<187>{}", event.message).into();
        event.severity = Severity::new(3);
        let matched = rule.map(|rule| Matched { rule: RuleId(rule), handling: Handling::PageOnly, team: team("NETO") });
        Judged { event, decision: Decision { environment: Environment::Prod, matched } }
    }
}

fn team(name: &str) -> Team {
    Team::new(name).expect("a team")
}

fn change() -> Change {
    Change { reason: Some("ticket 17".into()), ..Change::new("anna", "request-1") }
}

fn draft(text: &str, priority: i32) -> RuleDraft {
    RuleDraft {
        match_string: Some(text.to_owned()),
        trap_oid: Some("1.3.6.1.4.1.9".parse().expect("an oid")),
        syslog_severity: Severity::new(3),
        match_type: MatchType::Contains,
        priority,
        prod_handling: Handling::PageAndTicket,
        dev_handling: Handling::Other("Ignore".into()),
        team_assignment: team("NETO"),
        is_active: true,
    }
}

fn ids(events: &[Judged]) -> Vec<EventId> {
    events.iter().map(|judged| judged.event.id).collect()
}

async fn search_all(stores: &Stores, query: &EventQuery) -> Vec<Judged> {
    let (mut found, mut query) = (Vec::new(), query.clone());
    loop {
        let page = stores.audit.search(&query).await.expect("a page");
        assert!(page.items.len() <= query.limit);
        found.extend(page.items);
        match page.next {
            Some(next) => query.before = Some(next),
            None => return found,
        }
    }
}

/// Events over four months, among them many of one millisecond and meta-alerts that share a place with their cause.
fn four_months(maker: &Maker) -> Vec<Judged> {
    let mut events = Vec::new();
    for month in 0..4 {
        for n in 0..60 {
            let millis = START + month * 30 * DAY + (n / 20) * 1_000;
            let judged = maker.judged(
                millis,
                ["r1", "R2", "r3"][usize::try_from(n % 3).expect("below three")],
                (n % 4 != 0).then_some(n % 4),
            );
            if n % 10 == 0 {
                let mut meta = judged.clone();
                meta.event.id = judged.event.id.derived();
                meta.event.source.protocol = Protocol::Internal;
                meta.event.severity = Severity::new(4);
                events.push(meta);
            }
            events.push(judged);
        }
    }
    events
}

#[tokio::test]
async fn audit_rows_are_kept_once_however_often_they_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let events = four_months(&Maker::new());
    stores.audit.record(events.clone()).await.unwrap();
    stores.audit.record(events.clone()).await.unwrap();
    let (first, second) = tokio::join!(stores.audit.record(events.clone()), stores.audit.record(events[..50].to_vec()));
    first.and(second).unwrap();
    assert_eq!(stores.audit.approximate_rows().await.unwrap(), events.len() as u64);
    for judged in &events {
        assert_eq!(stores.audit.get(judged.event.id).await.unwrap().as_ref(), Some(judged));
    }
    stores.close().await.unwrap();
    let stores = open(folder.path());
    stores.audit.record(events.clone()).await.unwrap();
    assert_eq!(search_all(&stores, &EventQuery { limit: 1_000, ..EventQuery::default() }).await.len(), events.len());
}

#[tokio::test]
async fn audit_pages_lose_and_repeat_nothing_across_months_and_equal_times() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let mut events = four_months(&Maker::new());
    for chunk in events.chunks(37) {
        stores.audit.record(chunk.to_vec()).await.unwrap();
    }
    events.sort_by_key(|judged| std::cmp::Reverse(judged.event.id));
    for limit in [1, 2, 7, 59, 60, 61, 1_000] {
        let found = search_all(&stores, &EventQuery { limit, ..EventQuery::default() }).await;
        assert_eq!(ids(&found), ids(&events), "limit {limit}");
    }
}

#[tokio::test]
async fn each_audit_filter_finds_what_a_plain_comparison_finds() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let mut events = four_months(&Maker::new());
    for (index, judged) in events.iter_mut().enumerate() {
        if index % 5 == 0 {
            judged.event.correlation_id = Some(format!("call-{}", index % 3).into());
        }
        // Some were received on a clock that was set back, so their ids are ahead of their time.
        if index % 11 == 0 {
            judged.event.received_at = judged.event.received_at.minus(Duration::from_secs(7_200));
        }
    }
    stores.audit.record(events.clone()).await.unwrap();
    events.sort_by_key(|judged| std::cmp::Reverse(judged.event.id));
    let base = EventQuery { limit: 17, ..EventQuery::default() };
    let time = |millis: i64| Some(Timestamp::from_millis(millis));
    let own_id = events.iter().find(|judged| judged.event.correlation_id.is_none()).unwrap().event.id;
    let queries = [
        EventQuery { hostname: Some("R2.".into()), ..base.clone() },
        EventQuery { hostname: Some("nobody".into()), ..base.clone() },
        EventQuery { rule: Some(RuleId(2)), ..base.clone() },
        EventQuery { rule: Some(RuleId(2)), hostname: Some("r3".into()), text: Some("gi0/3".into()), ..base.clone() },
        EventQuery { matched: Some(false), ..base.clone() },
        EventQuery { matched: Some(true), severity: Severity::new(4), ..base.clone() },
        EventQuery { protocol: Some(Protocol::Internal), ..base.clone() },
        EventQuery { peer: Some(IpAddr::V4(Ipv4Addr::BROADCAST)), ..base.clone() },
        EventQuery { text: Some("INTERFACE gi0/5".into()), ..base.clone() },
        EventQuery { correlation_id: Some("call-1".into()), ..base.clone() },
        EventQuery { correlation_id: Some(own_id.to_string()), ..base.clone() },
        EventQuery { from: time(START + 30 * DAY), to: time(START + 60 * DAY + 1_000), ..base.clone() },
        EventQuery { from: time(START - 7_200_000), to: time(START), ..base.clone() },
        EventQuery { from: time(START + 200 * DAY), ..base.clone() },
    ];
    for query in queries {
        let prepared = query.prepared();
        let expected: Vec<Judged> = events.iter().filter(|judged| prepared.matches(judged)).cloned().collect();
        assert_eq!(ids(&search_all(&stores, &query).await), ids(&expected), "{query:?}");
    }
}

#[tokio::test]
async fn audit_survives_a_kill_as_soon_as_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let events = four_months(&Maker::new());
    stores.audit.record(events.clone()).await.unwrap();
    let after_kill = copy_of(folder.path());
    let reopened = open(after_kill.path());
    assert_eq!(search_all(&reopened, &EventQuery { limit: 1_000, ..EventQuery::default() }).await.len(), events.len());
    reopened.close().await.unwrap();
    stores.close().await.unwrap();
}

#[tokio::test]
async fn deliveries_are_told_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let judged = Maker::new().judged(START, "r1", Some(1));
    let note = |attempt: u32, outcome: DeliveryOutcome| DeliveryNote {
        event_id: judged.event.id,
        target: TargetName::new("moogsoft").unwrap(),
        at: Timestamp::from_millis(START + i64::from(attempt)),
        attempt,
        outcome,
        answer: "503 Service Unavailable".into(),
    };
    let story = vec![note(1, DeliveryOutcome::Retrying), note(2, DeliveryOutcome::Delivered)];
    stores.audit.record(vec![judged.clone()]).await.unwrap();
    stores.audit.note_deliveries(story.clone()).await.unwrap();
    assert_eq!(stores.audit.deliveries(judged.event.id).await.unwrap(), story);
    assert_eq!(stores.audit.deliveries(judged.event.id.derived()).await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_audit_file_is_set_aside_and_recording_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let maker = Maker::new();
    stores
        .audit
        .record(vec![maker.judged(START, "r1", Some(1)), maker.judged(START + 30 * DAY, "r1", Some(1))])
        .await
        .unwrap();
    stores.close().await.unwrap();
    let file = folder.path().join("audit/events-2026-11.db");
    std::fs::write(&file, "no database at all ".repeat(1_000)).unwrap();
    let stores = open(folder.path());
    let fresh = maker.judged(START, "r1", Some(1));
    stores.audit.record(vec![fresh.clone()]).await.unwrap();
    let found = search_all(&stores, &EventQuery { limit: 10, ..EventQuery::default() }).await;
    assert_eq!(found.len(), 2, "the fresh row and the one of the other month");
    let aside = std::fs::read_dir(folder.path().join("audit")).unwrap();
    let aside = aside.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".damaged-2026"));
    assert_eq!(aside.count(), 1);
}

#[tokio::test]
async fn a_damaged_row_is_left_out_and_the_others_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let maker = Maker::new();
    let mut events: Vec<Judged> = (0..200).map(|n| maker.judged(START + n, "r1", Some(1))).collect();
    events[77].event.fields = Some("{\"serial\":\"UNCOMPRESSED8A1F93C7D2\"}".into());
    stores.audit.record(events.clone()).await.unwrap();
    stores.close().await.unwrap();
    let file = folder.path().join("audit/events-2026-11.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(10).position(|window| window == b"8A1F93C7D2").expect("the value in the file");
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let stores = open(folder.path());
    let damaged = events.remove(77);
    events.reverse();
    assert_eq!(ids(&search_all(&stores, &EventQuery { limit: 50, ..EventQuery::default() }).await), ids(&events));
    assert_eq!(stores.audit.get(damaged.event.id).await.unwrap(), None);
}

async fn edit(stores: &Stores, edits: impl IntoIterator<Item = ConfigEdit>) -> Result<(), StoreError> {
    stores.edits.apply(edits.into_iter().collect(), &change()).await.map(drop)
}

#[tokio::test]
async fn rules_round_trip_and_each_change_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let before = stores.rules.version().await.unwrap();
    let rules = stores.rules.create(vec![draft("b", 20), draft("a", 10)], &change()).await.unwrap();
    let mut changed = rules[0].clone();
    changed.draft.priority = 5;
    changed.draft.is_active = false;
    edit(&stores, [ConfigEdit::ReplaceRule(changed.clone()), ConfigEdit::RemoveRule(rules[1].id)]).await.unwrap();
    assert_eq!(stores.rules.list().await.unwrap(), (vec![changed.clone()], vec![]));
    assert!(stores.rules.version().await.unwrap() >= before + 4);
    let lines = stores.changes.changes(&ChangeQuery { limit: 100, ..ChangeQuery::default() }).await.unwrap();
    let told: Vec<(Operation, &str, &str)> =
        lines.iter().map(|line| (line.operation, line.table_name.as_str(), line.record_id.as_str())).collect();
    assert_eq!(
        told,
        [
            (Operation::Delete, "alert_rules", "2"),
            (Operation::Update, "alert_rules", "1"),
            (Operation::Create, "alert_rules", "2"),
            (Operation::Create, "alert_rules", "1"),
        ]
    );
    let (old, new) = (lines[1].old_values.as_ref().unwrap(), lines[1].new_values.as_ref().unwrap());
    assert_eq!((old["priority"].as_i64(), new["priority"].as_i64()), (Some(20), Some(5)));
    assert_eq!((old["is_active"].as_bool(), new["is_active"].as_bool()), (Some(true), Some(false)));
    let expected = serde_json::json!({
        "id": 1, "match_string": "b", "trap_oid": "1.3.6.1.4.1.9", "syslog_severity": 3, "match_type": "contains",
        "priority": 20, "prod_handling": "Page_and_ticket", "dev_handling": "Ignore", "team_assignment": "NETO",
        "is_active": true,
    });
    assert_eq!(*old, expected);
    assert_eq!((lines[0].changed_by.as_str(), lines[0].reason.as_deref()), ("anna", Some("ticket 17")));
    assert_eq!(lines[0].correlation_id, "request-1");
    // A number is never given twice, also after a restart.
    stores.close().await.unwrap();
    let stores = open(folder.path());
    assert_eq!(stores.rules.create(vec![draft("c", 1)], &change()).await.unwrap()[0].id, RuleId(3));
    assert_eq!(stores.rules.get(changed.id).await.unwrap(), changed);
}

#[tokio::test]
async fn a_change_that_fails_leaves_no_line_and_no_version() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    stores.inventory.add_dev_host("lab1", &change()).await.unwrap();
    let version = stores.rules.version().await.unwrap();
    let mut bad = draft("x", 1);
    bad.match_string = Some(String::new());
    let rule = muttd::model::Rule { id: RuleId(99), draft: draft("x", 1) };
    let row = DeviceTeam { hostname: "r9".into(), team_assignment: team("NETO") };
    let not_found = |error: &StoreError| matches!(error, StoreError::NotFound { .. });
    let failures = [
        stores.rules.create(vec![draft("fine", 1), bad], &change()).await.map(|_| ()),
        edit(&stores, [ConfigEdit::ExpectRule(RuleId(99), Vec::new()), ConfigEdit::ReplaceRule(rule)]).await,
        edit(&stores, [ConfigEdit::ExpectRule(RuleId(99), Vec::new()), ConfigEdit::RemoveRule(RuleId(99))]).await,
        stores.inventory.remove_dev_host("nobody", &change()).await,
        edit(&stores, [ConfigEdit::ExpectTeam("r9".into(), Vec::new()), ConfigEdit::PutTeam(row)]).await,
        edit(&stores, [ConfigEdit::ExpectTeam("r9".into(), Vec::new()), ConfigEdit::RemoveTeam("r9".into())]).await,
        stores.inventory.add_dev_host("LAB1.", &change()).await.map(|_| ()),
        stores.inventory.add_dev_host("two words", &change()).await.map(|_| ()),
    ];
    let kinds: Vec<&str> = failures
        .iter()
        .map(|failure| match failure {
            Err(error) if not_found(error) => "not found",
            Err(StoreError::Exists { .. }) => "exists",
            Err(StoreError::Invalid(_)) => "invalid",
            _ => "other",
        })
        .collect();
    let expected = ["invalid", "not found", "not found", "not found", "not found", "not found", "exists", "invalid"];
    assert_eq!(kinds, expected);
    assert_eq!(stores.rules.version().await.unwrap(), version);
    assert_eq!(stores.changes.count_changes(&ChangeQuery::default()).await.unwrap(), 1);
    assert_eq!(stores.rules.list().await.unwrap().0, []);
}

#[tokio::test]
async fn hosts_are_listed_in_pages_by_a_part_of_the_name_and_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    for host in ["c1", "a1", "b2", "a2", "b1"] {
        stores.inventory.add_dev_host(host, &change()).await.unwrap();
        let row = DeviceTeam { hostname: host.into(), team_assignment: team("CORE") };
        stores.inventory.add_device_team(row, &change()).await.unwrap();
    }
    let text = |text: &str| Some(text.to_owned());
    for (query, expected) in [
        (HostQuery::default(), vec!["a1", "a2", "b1", "b2", "c1"]),
        (HostQuery { limit: Some(2), ..HostQuery::default() }, vec!["a1", "a2"]),
        (HostQuery { limit: Some(2), after: text("a2"), ..HostQuery::default() }, vec!["b1", "b2"]),
        (HostQuery { part: text("1"), after: text("a1"), ..HostQuery::default() }, vec!["b1", "c1"]),
        (HostQuery { part: text("%"), ..HostQuery::default() }, vec![]),
        (HostQuery::one("b2"), vec!["b2"]),
        (HostQuery::one("b"), vec![]),
    ] {
        let hosts = stores.inventory.dev_hosts(&query).await.unwrap();
        assert_eq!(hosts.into_iter().map(|host| host.hostname).collect::<Vec<_>>(), expected, "{query:?}");
        let teams = stores.inventory.device_teams(&query).await.unwrap();
        assert_eq!(teams.into_iter().map(|row| row.hostname).collect::<Vec<_>>(), expected, "{query:?}");
    }
    assert_eq!(stores.inventory.count_dev_hosts().await.unwrap(), 5);
    assert_eq!(stores.inventory.count_device_teams().await.unwrap(), 5);
    let third = ChangeQuery { skip: 2, limit: 1, ..ChangeQuery::default() };
    let all = stores.changes.changes(&ChangeQuery { limit: 10, ..ChangeQuery::default() }).await.unwrap();
    assert_eq!(stores.changes.changes(&third).await.unwrap(), all[2..3]);
}

#[tokio::test]
async fn hosts_and_teams_are_kept_by_their_key_and_the_log_pages() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    assert_eq!(stores.inventory.add_dev_host(" Lab1.Example. ", &change()).await.unwrap().hostname, "lab1.example");
    let row = |host: &str, name: &str| DeviceTeam { hostname: host.into(), team_assignment: team(name) };
    stores.inventory.add_device_team(row("R1", "CORE"), &change()).await.unwrap();
    edit(&stores, [ConfigEdit::PutTeam(row("r1", "EDGE"))]).await.unwrap();
    assert_eq!(stores.inventory.device_teams(&HostQuery::default()).await.unwrap(), [row("r1", "EDGE")]);
    edit(&stores, [ConfigEdit::RemoveTeam("R1".into())]).await.unwrap();
    stores.inventory.remove_dev_host("lab1.example", &change()).await.unwrap();
    assert_eq!(
        (
            stores.inventory.dev_hosts(&HostQuery::default()).await.unwrap(),
            stores.inventory.device_teams(&HostQuery::default()).await.unwrap()
        ),
        (vec![], vec![])
    );
    let query = ChangeQuery {
        table_name: Some("device_teams".into()),
        record_id: Some("r1".into()),
        limit: 2,
        ..ChangeQuery::default()
    };
    assert_eq!(stores.changes.count_changes(&query).await.unwrap(), 3);
    let first = stores.changes.changes(&query).await.unwrap();
    let rest = stores.changes.changes(&ChangeQuery { before: Some(first[1].id), ..query.clone() }).await.unwrap();
    let told: Vec<Operation> = first.iter().chain(&rest).map(|line| line.operation).collect();
    assert_eq!(told, [Operation::Delete, Operation::Update, Operation::Create]);
    let count = async |query: ChangeQuery| stores.changes.count_changes(&query).await.unwrap();
    let at = first[0].changed_at;
    let later = at.plus(std::time::Duration::from_secs(1));
    assert_eq!(count(ChangeQuery { user: Some("anna".into()), ..query.clone() }).await, 3);
    assert_eq!(count(ChangeQuery { user: Some("bob".into()), ..query.clone() }).await, 0);
    assert_eq!(count(ChangeQuery { operation: Some(Operation::Update), ..query.clone() }).await, 1);
    assert_eq!(count(ChangeQuery { correlation_id: Some("request-1".into()), ..query.clone() }).await, 3);
    assert_eq!(count(ChangeQuery { from: Some(later), ..query.clone() }).await, 0);
    assert_eq!(count(ChangeQuery { to: Some(later), ..query.clone() }).await, 3);
    let oldest = stores.changes.changes(&ChangeQuery { ascending: true, ..query.clone() }).await.unwrap();
    assert_eq!(oldest[0].operation, Operation::Create);
    let next = ChangeQuery { ascending: true, after: Some(oldest[1].id), ..query };
    assert_eq!(stores.changes.changes(&next).await.unwrap()[0].operation, Operation::Delete);
    assert!(stores.changes.verify_trail(&[]).await.unwrap().is_whole());
}

#[tokio::test]
async fn users_are_logged_without_their_hashes_and_sessions_end() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let at = |second: i64| Timestamp::from_millis(START + second * 1_000);
    let clock = |second: i64| SessionClock { now: at(second), unused_since: at(second - 50) };
    let session = |n: u8, end: i64| Session {
        token_hash: [n; 32],
        user: "anna".into(),
        csrf_token: "t".into(),
        created_at: at(0),
        last_seen: at(0),
        expires_at: at(end),
        peer: "192.0.2.7".into(),
    };
    let found = async |n: u8, second: i64| stores.accounts.session(&[n; 32], clock(second)).await.unwrap();
    assert!(matches!(stores.accounts.put_session(session(1, 9), clock(0)).await, Err(StoreError::NotFound { .. })));
    let anna = user("anna", "$argon2id$one", Role::Admin, at(0));
    stores.accounts.create_user(anna.clone(), &change()).await.unwrap();
    assert!(matches!(stores.accounts.create_user(anna.clone(), &change()).await, Err(StoreError::Exists { .. })));
    for (n, end) in [(1, 10), (2, 100)] {
        stores.accounts.put_session(session(n, end), clock(0)).await.unwrap();
    }
    let live = LiveSession { session: session(1, 10), role: Role::Admin, must_change_password: false };
    assert_eq!(found(1, 9).await, Some(live));
    assert_eq!(found(1, 10).await, None, "it is over");
    assert_eq!(found(2, 50).await, None, "it was not used");
    stores.accounts.touch_session(&[2; 32], at(30)).await.unwrap();
    assert!(found(2, 50).await.is_some(), "it was used meanwhile");
    assert_eq!(stores.accounts.sessions(clock(20)).await.unwrap().len(), 1);
    stores.accounts.end_session(&[1; 32]).await.unwrap();
    assert_eq!(found(1, 1).await, None);
    let password = Some(("$argon2id$two".to_owned(), true));
    let update = UserUpdate { password, ..UserUpdate::default() };
    let changed = stores.accounts.update_user("anna", update, &change()).await.unwrap();
    assert_eq!(found(2, 31).await, None, "a new password ends the sessions");
    assert_eq!((changed.password_hash.as_str(), changed.must_change_password), ("$argon2id$two", true));
    assert_eq!(changed.last_login, Some(at(0)));
    assert_eq!((stores.accounts.user_count().await.unwrap(), stores.accounts.user("bob").await.unwrap()), (1, None));
    let lines = stores.changes.changes(&ChangeQuery { limit: 9, ..ChangeQuery::default() }).await.unwrap();
    let text = serde_json::to_string(&lines).unwrap();
    assert_eq!(lines.len(), 2);
    assert!(text.contains("password_changed") && !text.contains("argon2id"), "{text}");
}

fn user(name: &str, hash: &str, role: Role, created_at: Timestamp) -> User {
    User {
        name: name.into(),
        password_hash: hash.into(),
        created_at,
        role,
        enabled: true,
        must_change_password: false,
        last_login: None,
    }
}

#[tokio::test]
async fn one_admin_who_may_log_in_always_remains() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let accounts = &stores.accounts;
    let now = Timestamp::from_millis(START);
    for (name, role) in [("anna", Role::Admin), ("bob", Role::Operator)] {
        accounts.create_user(user(name, "h", role, now), &change()).await.unwrap();
    }
    let demote = || UserUpdate { role: Some(Role::Viewer), ..UserUpdate::default() };
    let disable = || UserUpdate { enabled: Some(false), ..UserUpdate::default() };
    for update in [demote(), disable()] {
        let refused = accounts.update_user("anna", update, &change()).await;
        assert!(matches!(&refused, Err(StoreError::Conflict(why)) if why.contains("last admin")), "{refused:?}");
    }
    assert!(matches!(accounts.delete_user("anna", &change()).await, Err(StoreError::Conflict(_))));
    assert_eq!(accounts.user("anna").await.unwrap().map(|user| (user.role, user.enabled)), Some((Role::Admin, true)));
    let promote = UserUpdate { role: Some(Role::Admin), ..UserUpdate::default() };
    accounts.update_user("bob", promote, &change()).await.unwrap();
    accounts.delete_user("anna", &change()).await.unwrap();
    let names: Vec<String> = accounts.users().await.unwrap().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["bob"]);
    assert!(matches!(accounts.delete_user("anna", &change()).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn api_keys_are_exchanged_and_logged_without_their_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let now = Timestamp::from_millis(START);
    let ring = RingKey {
        name: "rsyslog".into(),
        scopes: Scopes::parse("ingest").unwrap(),
        networks: Network::parse_list("192.0.2.0/24").unwrap(),
        expires_at: Some(now.plus(Duration::from_secs(60))),
        current: [1; 32],
        next: None,
    };
    let key = ApiKey { key: ring, created_at: now, created_by: "anna".into(), rotated_at: None, last_used: None };
    stores.api_keys.create_api_key(key.clone(), &change()).await.unwrap();
    assert!(matches!(stores.api_keys.create_api_key(key.clone(), &change()).await, Err(StoreError::Exists { .. })));
    assert_eq!(stores.api_keys.api_keys().await.unwrap(), [key]);
    let act = async |what| stores.api_keys.change_api_key("rsyslog", what, &change()).await;
    assert!(matches!(act(KeyChange::Promote).await, Err(StoreError::Conflict(_))), "there is no NEXT");
    let rotated = act(KeyChange::Rotate([2; 32])).await.unwrap();
    assert_eq!((rotated.key.current, rotated.key.next), ([1; 32], Some([2; 32])));
    assert!(rotated.rotated_at.is_some());
    let promoted = act(KeyChange::Promote).await.unwrap();
    assert_eq!((promoted.key.current, promoted.key.next), ([2; 32], None));
    let peer = "192.0.2.7".parse().unwrap();
    stores.api_keys.note_key_uses(vec![("rsyslog".into(), now, peer)]).await.unwrap();
    assert_eq!(stores.api_keys.api_keys().await.unwrap()[0].last_used, Some((now, peer)));
    stores.api_keys.revoke_api_key("rsyslog", &change()).await.unwrap();
    assert!(matches!(act(KeyChange::Promote).await, Err(StoreError::NotFound { .. })));
    let lines = stores.changes.changes(&ChangeQuery { limit: 9, ..ChangeQuery::default() }).await.unwrap();
    let text = serde_json::to_string(&lines).unwrap();
    assert_eq!(lines.len(), 4, "a use is no change");
    assert!(text.contains("rotated") && text.contains("promoted") && !text.contains("_hash"), "{text}");
}

#[tokio::test]
async fn a_damaged_configuration_stops_the_start_and_is_left_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    stores.rules.create(vec![draft("a", 1)], &change()).await.unwrap();
    stores.close().await.unwrap();
    let file = folder.path().join("config.db");
    std::fs::write(&file, "scribble").unwrap();
    let Err(error) = try_open(folder.path()) else { panic!("it opened") };
    let text = error.to_string();
    assert!(text.contains("config.db") && text.contains("Restore a backup"), "{text}");
    assert_eq!(std::fs::read(&file).unwrap(), b"scribble");
}

fn policy(threshold: u64) -> UnhandledPolicy {
    UnhandledPolicy { threshold, window: Duration::from_secs(86_400), max_counters: 1_000 }
}

/// A batch with one sighting for each (host, count).
fn batch(maker: &EventIds, second: i64, sightings: &[(&str, u64)]) -> UnhandledEvents {
    let at = Timestamp::from_millis(START + second * 1_000);
    let key = maker.next(at);
    let kind = |(host, _): &(&str, u64)| Kind { hostname: (*host).into(), signature: "link # down".into() };
    let kinds = sightings.iter().map(kind).collect();
    let sightings = sightings.iter().enumerate().map(|(kind, (_, count))| Sighting {
        kind,
        count: *count,
        last: key,
        at,
        sample: "link 4 down".into(),
    });
    UnhandledEvents { kinds, batches: vec![UnhandledBatch { key, sightings: sightings.collect() }] }
}

/// Batches in one call.
fn together(all: Vec<UnhandledEvents>) -> Arc<UnhandledEvents> {
    let mut joined = UnhandledEvents::default();
    for UnhandledEvents { mut kinds, mut batches } in all {
        let sightings = batches.iter_mut().flat_map(|batch| &mut batch.sightings);
        sightings.for_each(|sighting| sighting.kind += joined.kinds.len());
        joined.kinds.append(&mut kinds);
        joined.batches.append(&mut batches);
    }
    Arc::new(joined)
}

fn told(overruns: &[Overrun]) -> BTreeSet<(String, u64)> {
    overruns.iter().map(|overrun| (overrun.kind.hostname.to_string(), overrun.count)).collect()
}

fn expected(pairs: &[(&str, u64)]) -> BTreeSet<(String, u64)> {
    pairs.iter().map(|(host, count)| ((*host).to_owned(), *count)).collect()
}

#[tokio::test]
async fn unhandled_batches_count_once_and_answer_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let ids = EventIds::new(1);
    let first = batch(&ids, 0, &[("r1", 60), ("r2", 99)]);
    let second = batch(&ids, 1, &[("r1", 60), ("r2", 1), ("r3", 300)]);
    let third = batch(&ids, 2, &[("r1", 500)]);
    assert_eq!(stores.unhandled.count(together(vec![first.clone()]), policy(100)).await.unwrap(), []);
    let answer = stores.unhandled.count(together(vec![second.clone()]), policy(100)).await.unwrap();
    assert_eq!(told(&answer), expected(&[("r1", 120), ("r2", 100), ("r3", 300)]));
    // Again, alone, twice in one call, and after others: the same answer, and nothing is counted.
    assert_eq!(stores.unhandled.count(together(vec![second.clone()]), policy(100)).await.unwrap(), answer);
    let again = stores
        .unhandled
        .count(together(vec![first.clone(), second.clone(), second.clone()]), policy(100))
        .await
        .unwrap();
    assert_eq!(again, answer);
    assert_eq!(stores.unhandled.count(together(vec![third, second.clone()]), policy(100)).await.unwrap(), answer);
    let top = stores.unhandled.top(2).await.unwrap();
    assert_eq!(told(&top), expected(&[("r1", 620), ("r3", 300)]));
    assert_eq!(top[0].window_start, Timestamp::from_millis(START));
    // After a kill between the answer and the ack, and after an orderly restart.
    let after_kill = copy_of(folder.path());
    stores.close().await.unwrap();
    for folder in [after_kill.path(), folder.path()] {
        let stores = open(folder);
        assert_eq!(
            stores.unhandled.count(together(vec![first.clone(), second.clone()]), policy(100)).await.unwrap(),
            answer
        );
        assert_eq!(told(&stores.unhandled.top(9).await.unwrap()), expected(&[("r1", 620), ("r2", 100), ("r3", 300)]));
        // The window's one meta-alert was told before the restart.
        let next = batch(&ids, 3, &[("r1", 500), ("r2", 500)]);
        assert_eq!(stores.unhandled.count(together(vec![next]), policy(100)).await.unwrap(), []);
        stores.close().await.unwrap();
    }
}

#[tokio::test]
async fn unhandled_counting_starts_anew_when_the_window_has_passed() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let ids = EventIds::new(1);
    let day = 86_400;
    let calls =
        [(0, 99, None), (day - 1, 1, Some(100)), (day, 99, None), (day + 5, 1, Some(100)), (day + 6, 400, None)];
    for (second, count, expected) in calls {
        let answer =
            stores.unhandled.count(together(vec![batch(&ids, second, &[("r1", count)])]), policy(100)).await.unwrap();
        assert_eq!(answer.first().map(|overrun| overrun.count), expected, "second {second}");
    }
}

#[tokio::test]
async fn unhandled_counters_are_bounded_and_forget_the_one_seen_longest_ago() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let ids = EventIds::new(1);
    let policy = UnhandledPolicy { max_counters: 3, ..policy(100) };
    for (second, host) in ["a", "b", "c", "a", "d"].into_iter().enumerate() {
        let batch = batch(&ids, i64::try_from(second).unwrap(), &[(host, 10)]);
        stores.unhandled.count(together(vec![batch]), policy).await.unwrap();
    }
    let kept = expected(&[("a", 20), ("c", 10), ("d", 10)]);
    assert_eq!(told(&stores.unhandled.top(9).await.unwrap()), kept);
    stores.close().await.unwrap();
    assert_eq!(told(&open(folder.path()).unhandled.top(9).await.unwrap()), kept);
}

#[tokio::test]
async fn unhandled_checkpoints_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let ids = EventIds::new(1);
    // More transactions than between two checkpoints, gathered by as many calls at once as make it quick.
    let unhandled = Arc::clone(&stores.unhandled);
    for round in 0..20_i64 {
        let calls = (0..256)
            .map(|n| unhandled.count(together(vec![batch(&ids, round, &[(["r1", "r2"][n % 2], 1)])]), policy(2_000)));
        for answer in futures_util::future::join_all(calls).await {
            answer.unwrap();
        }
    }
    let after_kill = copy_of(folder.path());
    let reopened = open(after_kill.path());
    let overruns = reopened
        .unhandled
        .count(together(vec![batch(&ids, 30, &[("r1", 1), ("r2", 1)])]), policy(2_000))
        .await
        .unwrap();
    assert_eq!(told(&overruns), expected(&[]), "both passed 2,000 before");
    assert_eq!(told(&reopened.unhandled.top(9).await.unwrap()), expected(&[("r1", 2_561), ("r2", 2_561)]));
}

#[tokio::test]
async fn a_damaged_counter_file_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    let ids = EventIds::new(1);
    stores.unhandled.count(together(vec![batch(&ids, 0, &[("r1", 50)])]), policy(100)).await.unwrap();
    stores.close().await.unwrap();
    std::fs::write(folder.path().join("state.db"), "scribble ".repeat(999)).unwrap();
    let stores = open(folder.path());
    assert_eq!(stores.unhandled.top(9).await.unwrap(), []);
    stores.unhandled.count(together(vec![batch(&ids, 1, &[("r1", 50)])]), policy(100)).await.unwrap();
    assert_eq!(told(&stores.unhandled.top(9).await.unwrap()), expected(&[("r1", 50)]));
}

#[tokio::test]
async fn a_closed_store_answers_that_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let stores = open(folder.path());
    stores.close().await.unwrap();
    stores.close().await.unwrap();
    let event = Maker::new().judged(START, "r1", Some(1));
    let results = [
        stores.audit.record(vec![event.clone()]).await,
        stores.unhandled.count(together(vec![batch(&EventIds::new(1), 0, &[("r1", 1)])]), policy(9)).await.map(|_| ()),
        stores.rules.create(vec![draft("a", 1)], &change()).await.map(|_| ()),
    ];
    for result in results {
        assert!(matches!(result, Err(StoreError::Unavailable { .. })), "{result:?}");
    }
    // The recent store takes no answer; it must not panic either.
    stores.recent.append(&Arc::new(vec![event]));
}
