//! Acts on secrets over a real `secrets.toml`, and their lines in the change log.

use super::*;
use crate::admin::testing::{NOON, TestAdmin};
use crate::store::ChangeQuery;
use std::time::Duration;

fn actor() -> Actor {
    Actor::new("alice", "c-1")
}

async fn act(house: &TestAdmin, name: &str, act: SecretAct) -> Result<SecretChanged, AdminError> {
    house.admin.change_secret(name, act, &actor(), Some("INC-7")).await
}

const fn rotate() -> SecretAct {
    SecretAct::Rotate { value: None, promote_at: None }
}

fn set(slot: Slot, value: &str) -> SecretAct {
    SecretAct::Set { slot, value: Secret::new(value), promote_at: None }
}

async fn log(house: &TestAdmin) -> Vec<crate::store::ChangeRow> {
    let query = ChangeQuery { table_name: Some("secrets".into()), limit: 100, ..ChangeQuery::default() };
    house.stores.changes.changes(&query).await.expect("readable")
}

fn in_force(house: &TestAdmin, name: &str) -> (String, Option<String>) {
    let config = house.admin.parts.keeper.current();
    let pair = &config.secrets.get(name).expect("a secret").pair;
    (pair.current.reveal().to_owned(), pair.next.as_ref().map(|next| next.reveal().to_owned()))
}

#[tokio::test]
async fn a_key_is_rotated_promoted_and_cancelled_and_each_act_is_a_line_without_values() {
    let house = TestAdmin::new().await;
    let (old, _) = in_force(&house, "ingest_api_key");
    let made = act(&house, "ingest_api_key", rotate()).await.expect("rotates").made.expect("made here");
    assert_eq!(in_force(&house, "ingest_api_key"), (old.clone(), Some(made.reveal().to_owned())));
    let twice = act(&house, "ingest_api_key", rotate()).await;
    assert!(matches!(twice, Err(AdminError::Conflict(_))), "{twice:?}");
    let promoted = act(&house, "ingest_api_key", SecretAct::Promote).await.expect("promotes");
    assert_eq!((promoted.made, promoted.line.next.source), (None, None));
    assert_eq!(promoted.line.current.since, Some(house.admin.clock().now()));
    assert_eq!(in_force(&house, "ingest_api_key"), (made.reveal().to_owned(), None));
    act(&house, "ingest_api_key", rotate()).await.expect("rotates again");
    act(&house, "ingest_api_key", SecretAct::Cancel).await.expect("cancels");
    let none = act(&house, "ingest_api_key", SecretAct::Cancel).await;
    assert!(matches!(none, Err(AdminError::Conflict(_))), "{none:?}");
    let lines = log(&house).await;
    let acts: Vec<_> = lines.iter().map(|line| line.new_values.clone().expect("after")["act"].clone()).collect();
    assert_eq!(acts[..4], ["cancel", "cancel", "rotate", "promote"], "newest first; what failed late was begun");
    assert_eq!((lines[0].changed_by.as_str(), lines[0].reason.as_deref()), ("alice", Some("INC-7")));
    let text = format!("{lines:?}");
    assert!(!text.contains(made.reveal()) && !text.contains(&old), "{text}");
    house.admin.note_secret_changes().await.expect("a look");
    assert_eq!(log(&house).await.len(), lines.len(), "an act is not noted again when it is noticed");
}

#[tokio::test]
async fn what_cannot_be_done_says_why_and_changes_nothing() {
    let house = TestAdmin::new().await;
    let check = async |name: &str, done: SecretAct, expected: &str| {
        let error = act(&house, name, done).await.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("chat", rotate(), "does not exist").await;
    check("chat_next", set(Slot::Current, "x"), "`_next`").await;
    check("ingest_api_key", set(Slot::Next, "short"), "at least 16 characters").await;
    check("moog_api_key", rotate(), "has no value yet").await;
    let past = Some(NOON);
    check("ingest_api_key", SecretAct::Rotate { value: None, promote_at: past }, "it has passed").await;
    act(&house, "chat", set(Slot::Current, "c")).await.expect("a secret of a target to come");
    check("chat", rotate(), "give the value that the receiver made").await;
    assert_eq!(in_force(&house, "chat"), ("c".into(), None));
}

#[tokio::test]
async fn what_is_changed_in_the_file_is_noticed_noted_and_a_broken_file_changes_nothing() {
    let house = TestAdmin::new().await;
    house.admin.note_secret_changes().await.expect("the first look");
    let path = house.admin.parts.data_dir.join("secrets.toml");
    let kept = std::fs::read_to_string(&path).expect("readable");
    std::fs::write(&path, format!("{kept}[secrets]\nchat = \"c\"\n")).expect("written");
    house.admin.reread_secrets().await.expect("read");
    let line = log(&house).await.remove(0);
    assert_eq!((line.changed_by.as_str(), line.record_id.as_str(), line.old_values), ("secrets.toml", "chat", None));
    std::fs::write(&path, "ingest_api_key = ").expect("written");
    assert!(house.admin.reread_secrets().await.is_err());
    assert!(house.admin.secret_lines().fault.expect("told").1.contains("line 1"));
    assert_eq!(in_force(&house, "chat").0, "c");
    std::fs::write(&path, kept).expect("written");
    house.admin.reread_secrets().await.expect("read");
    assert_eq!(house.admin.secret_lines().fault, None);
    assert_eq!(log(&house).await[0].operation, crate::store::Operation::Delete);
}

#[tokio::test]
async fn a_moment_of_promotion_that_came_is_written_into_the_file() {
    let house = TestAdmin::new().await;
    house.admin.note_secret_changes().await.expect("the first look");
    let path = house.admin.parts.data_dir.join("secrets.toml");
    // The configuration goes by the system's clock, which is far beyond this moment.
    let file = "[secrets]\nchat = \"old\"\nchat_next = \"new\"\nchat_promote_at = 2026-01-01T00:00:00Z\n";
    std::fs::write(&path, file).expect("written");
    house.admin.reread_secrets().await.expect("read");
    assert_eq!(in_force(&house, "chat"), ("new".into(), None));
    house.admin.finish_promotions().await.expect("written");
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(text.contains("chat = \"new\"") && !text.contains("old") && !text.contains("promote_at"), "{text}");
    let lines = log(&house).await.len();
    house.admin.note_secret_changes().await.expect("a look");
    assert_eq!(log(&house).await.len(), lines, "it is the same value as before");
}

#[tokio::test]
async fn a_secret_from_elsewhere_is_not_changed_here() {
    let keyring = |source| {
        let pair = crate::secret::SecretPair::new("chat", "c");
        HeldSecret {
            pair,
            current: Some(source),
            next: None,
            since: None,
            next_since: None,
            promote_at: None,
            promoted: false,
            awaited: false,
            users: vec!["noc".into()],
        }
    };
    for (source, expected) in [
        (SecretSource::Environment, "MUTTD_SECRET_CHAT"),
        (SecretSource::Credential, "systemd credential `chat`"),
        (SecretSource::Vault, "in Vault"),
        (SecretSource::ConfigFile, "muttd.toml"),
    ] {
        let told = elsewhere("chat", &keyring(source)).expect("not here");
        assert!(told.contains(expected), "{told}");
    }
    let here = line("chat", &keyring(SecretSource::SecretsFile));
    assert_eq!((here.elsewhere, here.purpose.as_str()), (None, "is sent to noc"));
    assert!(in_future(Some(NOON), NOON.plus(Duration::from_secs(1))).is_err());
}
