//! Which source wins, what NEXT becomes and when, and what a faulty source is told.

use super::*;
use crate::config::values::Values;
use crate::secret::Slot;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use tempfile::TempDir;

const NOON: Timestamp = Timestamp::from_millis(1_772_366_400_000);

/// What the sources hold; `secrets.toml` as its lines.
#[derive(Default)]
struct House {
    folder: Option<TempDir>,
    variables: Vec<(String, String)>,
    vault: Option<VaultState>,
}

impl House {
    fn with_file(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let house = Self { folder: Some(folder), ..Self::default() };
        house.write(text);
        house
    }

    fn data(&self) -> &Path {
        self.folder.as_ref().expect("a directory").path()
    }

    fn write(&self, text: &str) {
        let path = self.data().join(SECRETS_FILE);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    }

    fn variable(mut self, name: &str, text: &str) -> Self {
        self.variables.push((name.to_owned(), text.to_owned()));
        self
    }

    fn vault(mut self, answered: bool, members: &[(&str, &str)]) -> Self {
        let values = members.iter().map(|(name, text)| ((*name).to_owned(), Secret::new(*text))).collect();
        self.vault = Some(VaultState { values: Arc::new(values), answered });
        self
    }

    fn read_after(&self, earlier: Option<&NamedSecrets>) -> Result<NamedSecrets, ConfigError> {
        let variable =
            |name: &str| self.variables.iter().find(|(known, _)| known == name).map(|(_, text)| text.clone());
        let file = self.data().join("muttd.toml");
        let values = Values::read(file.exists().then_some(file.as_path()), variable).expect("valid settings");
        let places = Places {
            data_dir: self.data(),
            variables: self.variables.clone(),
            values: &values,
            vault: self.vault.clone(),
            now: NOON,
        };
        NamedSecrets::read(places, earlier)
    }

    fn read(&self) -> NamedSecrets {
        self.read_after(None).expect("readable")
    }
}

fn values(held: &HeldSecret) -> (&str, Option<&str>) {
    (held.pair.current.reveal(), held.pair.next.as_ref().map(Secret::reveal))
}

#[test]
fn the_first_source_that_has_a_member_wins() {
    let credentials = tempfile::tempdir().expect("a directory");
    std::fs::write(credentials.path().join("chat"), "credential\n").expect("written");
    std::fs::write(credentials.path().join("TLS.pem"), [0xff, 0xfe]).expect("written");
    let file = "admin_api_key = \"file\"\n[secrets]\nchat = \"file\"\nmail = \"file\"\nmail_next = \"file-next\"\n";
    let house = House::with_file(file)
        .variable("MUTTD_SECRET_ON_CALL", "variable")
        .variable("MUTTD_INGEST_API_KEY", "variable")
        .variable("MUTTD_INGEST_API_KEY_NEXT", "variable-next")
        .variable("CREDENTIALS_DIRECTORY", &credentials.path().display().to_string())
        .vault(true, &[("chat", "vault"), ("mail", "vault"), ("admin_api_key", "vault")]);
    std::fs::write(house.data().join("muttd.toml"), "[admin]\napi_key = \"toml\"\n[moog]\napi_key = \"toml\"")
        .expect("written");
    let found = house.read();
    let check = |name: &str, expected: (&str, Option<&str>), sources: [Option<SecretSource>; 2]| {
        let held = found.held(name);
        assert_eq!((values(&held), [held.current, held.next]), (expected, sources), "{name}");
    };
    use SecretSource::{ConfigFile, Credential, Environment, SecretsFile, Vault};
    check("on-call", ("variable", None), [Some(Environment), None]);
    check("ingest_api_key", ("variable", Some("variable-next")), [Some(Environment), Some(Environment)]);
    check("chat", ("credential", None), [Some(Credential), None]);
    check("mail", ("vault", Some("file-next")), [Some(Vault), Some(SecretsFile)]);
    check("admin_api_key", ("vault", None), [Some(Vault), None]);
    check("moog_api_key", ("toml", None), [Some(ConfigFile), None]);
    check("nowhere", ("", None), [None, None]);
    let told = found.find("nowhere").expect_err("not set");
    assert!(told.contains("MUTTD_SECRET_NOWHERE") && told.contains("secrets.toml"), "{told}");
    assert!(found.find("mail_next").expect_err("a member").contains("`_next`"));
    assert!(found.find("admin_api_key").is_err(), "no target is sent the admin key");
    let listed = found.keyring(&[("on-call".into(), "pager".into())]);
    let names: Vec<&str> = listed.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["admin_api_key", "chat", "ingest_api_key", "mail", "moog_api_key", "on-call"]);
    assert_eq!(listed.get("on-call").expect("listed").users, ["pager"]);
}

#[test]
fn next_is_current_from_its_moment_on() {
    let file = |at: &str| format!("[secrets]\nchat = \"old\"\nchat_next = \"new\"\nchat_promote_at = {at}\n");
    let check = |at: &str, expected: (&str, Option<&str>), promoted: bool| {
        let house = House::with_file(&file(at));
        let held = house.read().held("chat");
        assert_eq!((values(&held), held.promoted), (expected, promoted), "{at}");
        let keyring = house.read().keyring(&[]);
        assert_eq!(keyring.to_promote().collect::<Vec<_>>(), if promoted { vec!["chat"] } else { vec![] });
        assert_eq!(keyring.next_promotion().is_some(), !promoted);
    };
    check("\"2026-03-01T12:00:00Z\"", ("new", None), true);
    check("2026-03-01T12:00:01Z", ("old", Some("new")), false);
    check("2026-03-01T12:59:59+01:00", ("new", None), true);
    let refused = House::with_file(&file("\"tomorrow\"")).read_after(None).expect_err("no time").to_string();
    assert!(refused.contains("`chat_promote_at` must be a time"), "{refused}");
    let alone = House::with_file("[secrets]\nchat = \"old\"\nchat_promote_at = 2026-03-01T00:00:00Z\n");
    assert_eq!(values(&alone.read().held("chat")), ("old", None), "there is nothing to promote");
}

#[test]
fn until_vault_answers_what_it_may_hold_is_awaited() {
    let awaiting = House::with_file("[secrets]\nchat = \"c\"\n").vault(false, &[]);
    assert!(awaiting.read().find("mail").expect("it may come").current.is_empty());
    assert!(!awaiting.read().find("chat").expect("it is there").current.is_empty());
    let answered = House::with_file("").vault(true, &[]);
    assert!(answered.read().find("mail").is_err());
}

#[test]
fn uses_go_on_when_sources_are_read_again_and_a_missing_file_is_not_made_anew() {
    let house = House::with_file("[secrets]\nchat = \"old\"\nchat_next = \"new\"\n");
    let first = house.read();
    first.held("chat").pair.used(Slot::Next, NOON);
    house.write("[secrets]\nchat = \"new\"\n");
    let second = house.read_after(Some(&first)).expect("readable");
    assert_eq!(second.held("chat").pair.current.last_used(), Some(NOON));
    let changes = second.keyring(&[]);
    let earlier = first.keyring(&[]);
    let changed: Vec<&str> = changes.changes(&earlier).map(|(name, ..)| name).collect();
    assert_eq!(changed, ["chat"]);
    std::fs::remove_file(house.data().join(SECRETS_FILE)).expect("removed");
    assert!(house.read_after(Some(&second)).is_err());
    assert!(!house.data().join(SECRETS_FILE).exists());
}

#[test]
fn keys_are_made_once_for_the_owner_only() {
    let house = House { folder: Some(tempfile::tempdir().expect("a directory")), ..House::default() };
    let (first, second) = (house.read(), house.read());
    let (ingest, admin) = first.fresh_keys().expect("they are shown once");
    assert!(second.fresh_keys().is_none() && ingest != admin);
    assert_eq!(second.held("ingest_api_key").pair.current, ingest);
    assert_eq!(kept_admin_key(house.data()).expect("kept"), admin);
    let path = house.data().join(SECRETS_FILE);
    assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_faulty_file_is_told_by_line_and_member_without_its_values() {
    let check = |text: &str, expected: &str| {
        let error = House::with_file(text).read_after(None).expect_err("a fault").to_string();
        assert!(error.contains(expected) && error.contains("secrets.toml"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    };
    check("a = \"b\"\ningest_api_key = hunter2\n", "line 2 is not valid TOML");
    check("ingest_api_kee = \"hunter2\"", "`ingest_api_kee` is not known");
    check("secrets = \"hunter2\"", "[secrets] must hold lines");
    check("[secrets]\nchat = 7\n", "`chat` must be a text");
    check("[secrets]\nChat = \"hunter2\"\n", "lower-case");
    let house = House::with_file("");
    let path = house.data().join(SECRETS_FILE);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let error = house.read_after(None).expect_err("others can read it").to_string();
    assert!(error.contains("chmod 600"), "{error}");
}
