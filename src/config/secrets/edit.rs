//! Changes one secret in `secrets.toml`. Comments and the order of lines stay as they are. Never touches what comes from
//! another source; whether it does is the caller's to check. Two changes at once wait for one another, whichever process
//! makes them.

use std::fs::File;
use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};
use zeroize::Zeroizing;

use super::{MAX_SECRET, NEXT, SECRETS_FILE, check_name, file, own_secret};
use crate::model::Timestamp;
use crate::secret::{Secret, Slot};

/// Fewest characters of a key that guards the appliance itself: 16 random letters and digits are 80 bits.
const SHORTEST_KEY: usize = 16;

/// What is done to a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Puts a value into a place. CURRENT counts at once, and what it replaces does not count any more.
    Set {
        /// The place.
        slot: Slot,
        /// The value.
        value: Secret,
        /// When NEXT becomes CURRENT by itself.
        promote_at: Option<Timestamp>,
    },
    /// Makes NEXT CURRENT; what was CURRENT is forgotten.
    Promote,
    /// Forgets NEXT.
    Cancel,
}

/// Why the file stayed as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotEdited {
    /// The name or the value cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// There is no NEXT.
    #[error("the secret `{0}` has no next value; set one with `muttd secrets rotate {0}`")]
    NoNext(String),
    /// The file cannot be read or written.
    #[error("`{SECRETS_FILE}` {0}")]
    File(String),
}

/// Changes a secret in the file of a data directory. Blocks on the disk.
pub fn edit(data_dir: &Path, name: &str, edit: &Edit, now: Timestamp) -> Result<(), NotEdited> {
    check_name(name).map_err(NotEdited::Invalid)?;
    let broken = |why: String| NotEdited::File(format!("cannot be changed: {why}"));
    // The lock goes with the handle, also when the process is killed.
    let folder = File::open(data_dir).map_err(|error| broken(error.to_string()))?;
    folder.lock().map_err(|error| broken(error.to_string()))?;
    let text = file::read(data_dir).map_err(|error| broken(error.to_string()))?;
    let changed = Zeroizing::new(edited(&text, name, edit, now)?);
    // What we write we must be able to read, or the next start fails.
    file::parse(&changed).map_err(broken)?;
    file::replace(data_dir, &changed).map_err(|error| broken(error.to_string()))
}

/// The file's text after the change.
fn edited(text: &str, name: &str, edit: &Edit, now: Timestamp) -> Result<String, NotEdited> {
    // First as it is read: its errors name lines and no values.
    file::parse(text).map_err(NotEdited::File)?;
    let mut document: DocumentMut =
        text.parse().map_err(|_| NotEdited::File("is not valid TOML; mend it first".to_owned()))?;
    let table: &mut dyn TableLike = if own_secret(name).is_some() {
        document.as_table_mut()
    } else {
        let named = document.entry("secrets").or_insert(Item::Table(Table::new()));
        named.as_table_like_mut().ok_or_else(|| NotEdited::File("has no table [secrets]".to_owned()))?
    };
    let member = |ending: &str| format!("{name}{ending}");
    match edit {
        Edit::Set { slot: Slot::Current, value, .. } => {
            check_value(name, value)?;
            put(table, name, value.reveal());
            put(table, &member("_since"), &now.to_string());
        }
        Edit::Set { slot: Slot::Next, value, promote_at } => {
            check_value(name, value)?;
            put(table, &member(NEXT), value.reveal());
            put(table, &member("_next_since"), &now.to_string());
            match promote_at {
                Some(at) => put(table, &member("_promote_at"), &at.to_string()),
                None => drop(table.remove(&member("_promote_at"))),
            }
        }
        Edit::Promote => {
            let next = table.get(&member(NEXT)).and_then(Item::as_str).map(|next| Zeroizing::new(next.to_owned()));
            let next = next.ok_or_else(|| NotEdited::NoNext(name.to_owned()))?;
            put(table, name, &next);
            put(table, &member("_since"), &now.to_string());
            forget_next(table, name);
        }
        Edit::Cancel => {
            if !table.contains_key(&member(NEXT)) {
                return Err(NotEdited::NoNext(name.to_owned()));
            }
            forget_next(table, name);
        }
    }
    Ok(document.to_string())
}

fn forget_next(table: &mut dyn TableLike, name: &str) {
    for ending in [NEXT, "_next_since", "_promote_at"] {
        drop(table.remove(&format!("{name}{ending}")));
    }
}

/// Puts a text at a name; a comment behind the line stays.
fn put(table: &mut dyn TableLike, name: &str, text: &str) {
    let mut value = Value::from(text);
    if let Some(Item::Value(old)) = table.get_mut(name) {
        *value.decor_mut() = old.decor().clone();
        *old = value;
    } else {
        drop(table.insert(name, Item::Value(value)));
    }
}

/// Refuses values that could not be sent, and keys that could be guessed.
fn check_value(name: &str, value: &Secret) -> Result<(), NotEdited> {
    let invalid = |why: String| Err(NotEdited::Invalid(why));
    let text = value.reveal();
    if text.trim().is_empty() || text.trim() != text {
        return invalid("the value is empty or has blanks around it".to_owned());
    }
    if text.len() > MAX_SECRET || text.chars().any(char::is_control) {
        return invalid(format!("a value is one line of at most {MAX_SECRET} bytes"));
    }
    if !own_secret(name).is_some_and(|own| own.made_here) {
        return Ok(());
    }
    if text.len() < SHORTEST_KEY || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid(format!("a key has at least {SHORTEST_KEY} characters, ASCII letters, digits and signs only"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_772_366_400_000);

    fn set(slot: Slot, value: &str) -> Edit {
        Edit::Set { slot, value: Secret::new(value), promote_at: None }
    }

    fn check(text: &str, name: &str, edit: &Edit, expected: &str) {
        assert_eq!(edited(text, name, edit, NOON).expect("it can be changed"), expected);
    }

    #[test]
    fn lines_and_comments_stay_and_only_the_members_of_one_secret_change() {
        let text = "# ours\ningest_api_key = \"old\" # since May\nadmin_api_key = 'other'\n\n[secrets]\nchat = \"c\"\n";
        check(
            text,
            "ingest_api_key",
            &set(Slot::Current, "0123456789abcdef"),
            "# ours\ningest_api_key = \"0123456789abcdef\" # since May\nadmin_api_key = 'other'\n\
             ingest_api_key_since = \"2026-03-01T12:00:00Z\"\n\n[secrets]\nchat = \"c\"\n",
        );
        let rotating = edited(text, "chat", &set(Slot::Next, "n\"ext"), NOON).expect("it can be changed");
        assert!(rotating.ends_with("chat = \"c\"\nchat_next = 'n\"ext'\nchat_next_since = \"2026-03-01T12:00:00Z\"\n"));
        let promoted = edited(&rotating, "chat", &Edit::Promote, NOON).expect("there is a next value");
        assert!(
            promoted.ends_with("[secrets]\nchat = 'n\"ext'\nchat_since = \"2026-03-01T12:00:00Z\"\n"),
            "{promoted}"
        );
        check(&rotating, "chat", &Edit::Cancel, text);
        check("", "chat", &set(Slot::Current, "c"), "[secrets]\nchat = \"c\"\nchat_since = \"2026-03-01T12:00:00Z\"\n");
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_telling_the_value() {
        let check = |text: &str, name: &str, edit: &Edit, expected: &str| {
            let error = edited(text, name, edit, NOON).expect_err("a fault").to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        };
        check("", "ingest_api_key", &set(Slot::Next, "hunter2"), "at least 16 characters");
        check("", "chat", &set(Slot::Next, "hunter2\nx"), "one line");
        check("", "chat", &set(Slot::Next, " hunter2"), "blanks around it");
        check("", "chat", &Edit::Promote, "no next value");
        check("", "chat", &Edit::Cancel, "no next value");
        check("a = 1\nb = hunter2", "chat", &Edit::Cancel, "line 2 is not valid TOML");
    }

    #[test]
    fn the_file_is_replaced_as_a_whole_and_stays_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a directory");
        file::load_or_create(folder.path()).expect("it is made");
        edit(folder.path(), "chat", &set(Slot::Current, "c"), NOON).expect("it can be changed");
        let path = folder.path().join(SECRETS_FILE);
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1, "nothing is left beside it");
        let members = file::load(folder.path()).expect("readable");
        assert_eq!(members.values["chat"], Secret::new("c"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        let error = edit(folder.path(), "chat", &Edit::Cancel, NOON).expect_err("refused").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
