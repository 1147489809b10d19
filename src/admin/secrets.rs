//! Secrets: how each is, and its exchange. No value is told, but one that was made here, once, to whoever had it made.
//!
//! Only what `secrets.toml` holds can be changed here; for what comes from elsewhere the error says where to go. Every act
//! is a line in the change log before it is done, and a change made elsewhere is one when it is noticed. A crash between
//! the line and the file leaves the old value in force.

use std::path::Path;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{Actor, Admin, AdminError};
use crate::config::{
    Edit, HeldSecret, Keyring, NotChanged, NotEdited, SecretSource, Sources, check_name, edit_secret, own_secret,
};
use crate::model::Timestamp;
use crate::secret::{Secret, Slot};
use crate::store::Action;
use crate::telemetry::metrics::{SECRETS_IN_FORCE, SECRETS_RELOADS};
use crate::vault::VaultStatus;

/// What secrets are called in the change log.
const KIND: &str = "secrets";

/// Who works on the secrets, and what was noted of them.
pub(super) struct Desk {
    /// Its one permit is the right to change them or to note changes.
    turn: Semaphore,
    /// The secrets as the change log knows them; `None` before the first look.
    noted: Mutex<Option<Keyring>>,
    /// Why the sources could not be read again, and when that was noticed.
    fault: Mutex<Option<(Timestamp, String)>>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), noted: Mutex::default(), fault: Mutex::default() }
    }
}

/// One place of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotLine {
    /// Where its value comes from; `None` if it has none.
    pub source: Option<SecretSource>,
    /// Since when it has this value, if that is known.
    pub since: Option<Timestamp>,
    /// When the value was last used since the start.
    pub last_used: Option<Timestamp>,
}

/// One secret, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretLine {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// CURRENT.
    pub current: SlotLine,
    /// NEXT.
    pub next: SlotLine,
    /// When NEXT becomes CURRENT by itself.
    pub promote_at: Option<Timestamp>,
    /// Vault may hold it and did not answer yet.
    pub awaited: bool,
    /// Whether the appliance makes its values.
    pub made_here: bool,
    /// Where to change it, if not here.
    pub elsewhere: Option<String>,
}

/// All secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretLines {
    /// By name.
    pub lines: Vec<SecretLine>,
    /// Why the sources could not be read again, and since when; what was read before stays in force.
    pub fault: Option<(Timestamp, String)>,
    /// How the way to Vault is, if there is one.
    pub vault: Option<VaultStatus>,
    /// Since when uses are counted; `None` if nothing runs.
    pub counted_since: Option<Timestamp>,
}

/// What is done to a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretAct {
    /// A value is put into a place.
    Set {
        /// The place.
        slot: Slot,
        /// The value.
        value: Secret,
        /// When NEXT becomes CURRENT by itself.
        promote_at: Option<Timestamp>,
    },
    /// A NEXT is set beside the CURRENT that stays; made here if no value is given.
    Rotate {
        /// The value.
        value: Option<Secret>,
        /// When NEXT becomes CURRENT by itself.
        promote_at: Option<Timestamp>,
    },
    /// NEXT becomes CURRENT.
    Promote,
    /// NEXT is forgotten.
    Cancel,
}

impl SecretAct {
    const fn name(&self) -> &'static str {
        match self {
            Self::Set { slot: Slot::Current, .. } => "set",
            Self::Set { slot: Slot::Next, .. } => "set next",
            Self::Rotate { .. } => "rotate",
            Self::Promote => "promote",
            Self::Cancel => "cancel",
        }
    }
}

/// A secret after an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretChanged {
    /// How it is now.
    pub line: SecretLine,
    /// The value that was made here, to be shown once.
    pub made: Option<Secret>,
}

/// An act that was found fit to be done.
struct Plan {
    edit: Edit,
    made: Option<Secret>,
    before: Option<Value>,
    after: Value,
}

impl Admin {
    /// Every secret.
    pub fn secret_lines(&self) -> SecretLines {
        let config = self.parts.keeper.current();
        SecretLines {
            lines: lines(&config.secrets),
            fault: self.secrets_fault(),
            vault: config.sources().vault().map(|vault| (*vault.status.get()).clone()),
            counted_since: Some(self.parts.clock.now().minus(self.parts.started.elapsed())),
        }
    }

    /// One secret.
    pub fn secret_line(&self, name: &str) -> Result<SecretLine, AdminError> {
        line_of(&self.parts.keeper.current().secrets, name)
    }

    /// Why the sources could not be read again, and since when.
    pub fn secrets_fault(&self) -> Option<(Timestamp, String)> {
        self.secrets.fault.lock().clone()
    }

    /// Changes a secret that `secrets.toml` holds, and puts it into force. Carried out to its end even if the caller goes
    /// away.
    pub async fn change_secret(
        &self,
        name: &str,
        act: SecretAct,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<SecretChanged, AdminError> {
        let change = actor.change(reason)?;
        let (admin, name) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            let _turn = admin.secrets.turn.acquire().await.map_err(|_| stopping())?;
            let keyring = admin.parts.keeper.current().secrets.clone();
            let now = admin.parts.clock.now();
            let Plan { edit, made, before, after } = plan(&keyring, &name, act, now)?;
            let action = Action { kind: KIND, record_id: name.clone(), old: before, new: Some(after) };
            admin.parts.stores.changes.note_action(action, &change).await?;
            let (folder, secret) = (admin.parts.data_dir.clone(), name.clone());
            let edited = tokio::task::spawn_blocking(move || edit_secret(&folder, &secret, &edit, now)).await;
            edited.map_err(|_| stopping())??;
            admin.reload_secrets().await?;
            *admin.secrets.noted.lock() = Some(admin.parts.keeper.current().secrets.clone());
            Ok(SecretChanged { line: admin.secret_line(&name)?, made })
        });
        task.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Reads the sources again because one of them changed, and notes what is new.
    pub async fn reread_secrets(&self) -> Result<(), AdminError> {
        let _turn = self.secrets.turn.acquire().await.map_err(|_| stopping())?;
        self.reload_secrets().await?;
        self.note_changes().await
    }

    /// Notes what is new since the last look, whoever put it into force.
    pub async fn note_secret_changes(&self) -> Result<(), AdminError> {
        let _turn = self.secrets.turn.acquire().await.map_err(|_| stopping())?;
        self.note_changes().await
    }

    /// Has `secrets.toml` say what is so already: a NEXT whose moment came is its CURRENT.
    pub async fn finish_promotions(&self) -> Result<(), AdminError> {
        let keyring = self.parts.keeper.current().secrets.clone();
        for name in keyring.to_promote() {
            let _turn = self.secrets.turn.acquire().await.map_err(|_| stopping())?;
            let (folder, secret, now) = (self.parts.data_dir.clone(), name.to_owned(), self.parts.clock.now());
            let edit = move || edit_secret(&folder, &secret, &Edit::Promote, now);
            let edited = tokio::task::spawn_blocking(edit).await;
            edited.map_err(|_| stopping())??;
            self.reload_secrets().await?;
        }
        Ok(())
    }

    async fn reload_secrets(&self) -> Result<(), AdminError> {
        let outcome = self.parts.keeper.reload_secrets().await;
        let status = if outcome.is_ok() { "success" } else { "failure" };
        metrics::counter!(SECRETS_RELOADS, "status" => status).increment(1);
        metrics::gauge!(SECRETS_IN_FORCE).set(if outcome.is_ok() { 1.0 } else { 0.0 });
        let now = self.parts.clock.now();
        *self.secrets.fault.lock() = outcome.as_ref().err().map(|error| (now, error.to_string()));
        outcome.map_err(|error| match error {
            NotChanged::Invalid(why) => AdminError::Unavailable(why),
            other => AdminError::Unavailable(other.to_string()),
        })
    }

    async fn note_changes(&self) -> Result<(), AdminError> {
        let now_held = self.parts.keeper.current().secrets.clone();
        let noted = self.secrets.noted.lock().clone();
        let Some(noted) = noted else {
            *self.secrets.noted.lock() = Some(now_held);
            return Ok(());
        };
        for (name, before, after) in now_held.changes(&noted) {
            let actor = Actor::new(who_changed(before, after), "secrets-reread");
            let change = actor.change(Some("the source of the secret changed"))?;
            let outline = |held: Option<&HeldSecret>| held.map(HeldSecret::outline);
            let (old, new) = (outline(before), outline(after));
            let action = Action { kind: KIND, record_id: name.to_owned(), old, new };
            self.parts.stores.changes.note_action(action, &change).await?;
            tracing::info!(secret = name, by = change.by, "A secret was changed at its source and is in force");
        }
        *self.secrets.noted.lock() = Some(now_held);
        Ok(())
    }
}

/// The secrets that a process with these sources would start with, for when none runs. Blocks on the disk.
pub fn secrets_offline(sources: &Sources) -> Result<SecretLines, AdminError> {
    let config = sources.load().map_err(|error| AdminError::Unavailable(error.0))?;
    Ok(SecretLines { lines: lines(&config.secrets), fault: None, vault: None, counted_since: None })
}

/// Changes a secret in a data directory while no process runs on it: the next start notices nothing else, so there is no
/// line in the change log. Blocks on the disk.
pub fn change_secret_offline(
    sources: &Sources,
    data_dir: &Path,
    name: &str,
    act: SecretAct,
    now: Timestamp,
) -> Result<SecretChanged, AdminError> {
    let load = || sources.load().map_err(|error| AdminError::Unavailable(error.0));
    let Plan { edit, made, .. } = plan(&load()?.secrets, name, act, now)?;
    edit_secret(data_dir, name, &edit, now)?;
    Ok(SecretChanged { line: line_of(&load()?.secrets, name)?, made })
}

/// What is to be written, if the act is fit to be done.
fn plan(keyring: &Keyring, name: &str, act: SecretAct, now: Timestamp) -> Result<Plan, AdminError> {
    check_name(name).map_err(|why| AdminError::invalid("name", why))?;
    let held = keyring.get(name);
    if held.is_none() && matches!(act, SecretAct::Promote | SecretAct::Cancel | SecretAct::Rotate { .. }) {
        return Err(unknown(name));
    }
    if let Some(why) = held.and_then(|held| elsewhere(name, held)) {
        return Err(AdminError::Conflict(format!("the secret `{name}` is not changed here: {why}")));
    }
    let (kind, before) = (act.name(), held.map(HeldSecret::outline));
    let (has_current, has_next) = held.map_or((false, false), |held| (held.current.is_some(), held.next.is_some()));
    let made_here = own_secret(name).is_some_and(|own| own.made_here);
    let mut made = None;
    let edit = match act {
        SecretAct::Set { slot, value, promote_at } => {
            Edit::Set { slot, value, promote_at: in_future(promote_at, now)? }
        }
        SecretAct::Rotate { .. } if has_next => {
            return Err(AdminError::Conflict(format!(
                "the secret `{name}` has a next value already; promote or cancel that first"
            )));
        }
        SecretAct::Rotate { .. } if !has_current => {
            return Err(AdminError::Conflict(format!("the secret `{name}` has no value yet; set one")));
        }
        SecretAct::Rotate { value: None, .. } if !made_here => {
            return Err(AdminError::invalid(
                "value",
                "give the value that the receiver made; only its own keys are made here",
            ));
        }
        SecretAct::Rotate { value, promote_at } => {
            let value = match value {
                Some(value) => value,
                None => made.insert(random()?).clone(),
            };
            Edit::Set { slot: Slot::Next, value, promote_at: in_future(promote_at, now)? }
        }
        SecretAct::Promote => Edit::Promote,
        SecretAct::Cancel => Edit::Cancel,
    };
    let after = outline_after(&edit, kind, has_current, has_next);
    Ok(Plan { edit, made, before, after })
}

/// What the change log is told of a secret after an act.
fn outline_after(edit: &Edit, kind: &str, has_current: bool, has_next: bool) -> Value {
    let set = |is_set: bool| is_set.then_some(SecretSource::SecretsFile.name());
    let (current, next) = match edit {
        Edit::Set { slot: Slot::Current, .. } => (true, has_next),
        Edit::Set { slot: Slot::Next, .. } => (has_current, true),
        Edit::Promote => (true, false),
        Edit::Cancel => (has_current, false),
    };
    let mut after = json!({"act": kind, "current": set(current), "next": set(next)});
    if let Edit::Set { promote_at: Some(at), .. } = edit {
        after["promote_at"] = json!(at.to_string());
    }
    after
}

fn in_future(promote_at: Option<Timestamp>, now: Timestamp) -> Result<Option<Timestamp>, AdminError> {
    match promote_at {
        Some(at) if at <= now => Err(AdminError::invalid("promote_at", "it has passed; promote the secret instead")),
        other => Ok(other),
    }
}

fn random() -> Result<Secret, AdminError> {
    Secret::random().map_err(|error| AdminError::Unavailable(format!("the system gives no random numbers: {error}")))
}

/// Where to change a secret that does not come from `secrets.toml` alone.
fn elsewhere(name: &str, held: &HeldSecret) -> Option<String> {
    let places = [(held.current, Slot::Current), (held.next, Slot::Next)];
    let foreign = places.into_iter().find_map(|(source, slot)| {
        source.filter(|source| *source != SecretSource::SecretsFile).map(|source| (source, slot))
    });
    foreign.map(|(source, slot)| {
        format!("its {} value comes from {}; {}", slot.name(), source.name(), source.where_to_change(name, slot))
    })
}

/// Who is named in the change log for a change that was noticed: the source whose value is another one.
fn who_changed(before: Option<&HeldSecret>, after: Option<&HeldSecret>) -> &'static str {
    if after.is_some_and(|after| after.promoted) && before.is_some_and(|before| !before.promoted) {
        return "promote_at";
    }
    let current = |held: Option<&HeldSecret>| held.map(|held| held.pair.current.clone());
    let source = |held: Option<&HeldSecret>| {
        let current_changed = current(before) != current(after);
        held.and_then(|held| if current_changed { held.current } else { held.next.or(held.current) })
    };
    source(after).or_else(|| source(before)).map_or("secrets", SecretSource::name)
}

fn lines(keyring: &Keyring) -> Vec<SecretLine> {
    keyring.iter().map(|(name, held)| line(name, held)).collect()
}

fn line_of(keyring: &Keyring, name: &str) -> Result<SecretLine, AdminError> {
    keyring.get(name).map(|held| line(name, held)).ok_or_else(|| unknown(name))
}

fn line(name: &str, held: &HeldSecret) -> SecretLine {
    let own = own_secret(name);
    let purpose = match (own, held.users.as_slice()) {
        (Some(own), _) => own.purpose.to_owned(),
        (None, []) => "is used by no target".to_owned(),
        (None, targets) => format!("is sent to {}", targets.join(", ")),
    };
    SecretLine {
        name: name.to_owned(),
        purpose,
        current: SlotLine { source: held.current, since: held.since, last_used: held.pair.current.last_used() },
        next: SlotLine {
            source: held.next,
            since: held.next_since,
            last_used: held.pair.next.as_ref().and_then(Secret::last_used),
        },
        promote_at: held.promote_at.filter(|_| !held.promoted),
        awaited: held.awaited,
        made_here: own.is_some_and(|own| own.made_here),
        elsewhere: elsewhere(name, held),
    }
}

/// A secret as the API and the command line tell of it, without its values.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Secret)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// The value in force.
    pub current: SlotView,
    /// The value that follows.
    pub next: SlotView,
    /// When NEXT becomes CURRENT by itself.
    #[schema(format = DateTime)]
    pub promote_at: Option<String>,
    /// HashiCorp Vault may hold it and did not answer yet.
    pub awaited: bool,
    /// Whether the appliance makes its values.
    pub made_here: bool,
    /// Where to change it, if not here.
    pub elsewhere: Option<String>,
    /// The value that was made just now; it is in no later answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeView>,
}

/// A value that was made here, to be shown once.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = MadeSecret)]
pub struct MadeView {
    /// Which of the two it is.
    pub slot: &'static str,
    /// The value.
    pub value: String,
}

impl std::fmt::Debug for MadeView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeView").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// One of a secret's two values.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = SecretSlot)]
pub struct SlotView {
    /// Whether there is one.
    pub set: bool,
    /// Where it comes from.
    pub source: Option<&'static str>,
    /// Since when, if that is known.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// When it was used last since the start.
    #[schema(format = DateTime)]
    pub last_used: Option<String>,
}

impl From<&SlotLine> for SlotView {
    fn from(slot: &SlotLine) -> Self {
        Self {
            set: slot.source.is_some(),
            source: slot.source.map(|source| source.name()),
            since: slot.since.map(|at| at.to_string()),
            last_used: slot.last_used.map(|at| at.to_string()),
        }
    }
}

impl From<&SecretLine> for SecretView {
    fn from(line: &SecretLine) -> Self {
        Self {
            name: line.name.clone(),
            purpose: line.purpose.clone(),
            current: SlotView::from(&line.current),
            next: SlotView::from(&line.next),
            promote_at: line.promote_at.map(|at| at.to_string()),
            awaited: line.awaited,
            made_here: line.made_here,
            elsewhere: line.elsewhere.clone(),
            made: None,
        }
    }
}

impl From<&SecretChanged> for SecretView {
    fn from(changed: &SecretChanged) -> Self {
        let made = changed.made.as_ref();
        let made = made.map(|made| MadeView { slot: Slot::Next.name(), value: made.reveal().to_owned() });
        Self { made, ..Self::from(&changed.line) }
    }
}

fn unknown(name: &str) -> AdminError {
    AdminError::NotFound { what: "secret", key: name.chars().take(64).collect() }
}

fn stopping() -> AdminError {
    AdminError::Unavailable("the appliance is stopping".to_owned())
}

impl From<NotEdited> for AdminError {
    fn from(error: NotEdited) -> Self {
        match error {
            NotEdited::Invalid(why) => Self::invalid("value", why),
            NotEdited::NoNext(_) => Self::Conflict(error.to_string()),
            NotEdited::File(_) => Self::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
