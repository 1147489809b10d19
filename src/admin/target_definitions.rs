//! How targets are defined: those of the configuration file are shown, those kept in the store are added, changed and
//! removed while everything runs. A definition is read as the file's are; secrets are named in it and never in it.

use super::{Actor, Admin, AdminError};
use crate::config::{NotChanged, TargetEdit, TargetOrigin, read_definition};
use crate::store::{KeptTarget, target_tag};

/// How a target is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetDefinition {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// What was written; `None` for those of the file, which are changed there.
    pub definition: Option<String>,
    /// Whether it is to be spoken to.
    pub enabled: bool,
    /// Why it is not, although it should.
    pub problem: Option<String>,
}

impl Admin {
    /// Every target by name, of file and store.
    pub fn target_definitions(&self) -> Vec<TargetDefinition> {
        let config = self.parts.keeper.current();
        let kept = config.kept_targets();
        let mut all: Vec<TargetDefinition> = kept
            .iter()
            .map(|target| TargetDefinition {
                name: target.name.clone(),
                kind: target.kind.clone(),
                definition: Some(target.definition.clone()),
                enabled: target.enabled,
                problem: config.targets.unusable.get(&target.name).cloned(),
            })
            .collect();
        let of_file =
            config.targets.targets.iter().filter(|target| kept.iter().all(|k| k.name != target.name.as_str()));
        all.extend(of_file.map(|target| TargetDefinition {
            name: target.name.to_string(),
            kind: target.kind.name.to_owned(),
            definition: None,
            enabled: true,
            problem: None,
        }));
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// How one target is defined.
    pub fn target_definition(&self, name: &str) -> Result<TargetDefinition, AdminError> {
        let found = self.target_definitions().into_iter().find(|target| target.name == name);
        found.ok_or_else(|| no_target(name))
    }

    /// Adds a target; it is spoken to when this returns.
    pub async fn add_target(
        &self,
        definition: &str,
        enabled: Enabled,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<TargetDefinition, AdminError> {
        let target = read(definition, enabled)?;
        match self.origin(&target.name) {
            Some(TargetOrigin::Store) => return Err(AdminError::Exists { what: "target", key: target.name }),
            Some(TargetOrigin::File) if !self.is_legacy_default(&target.name) => return Err(of_file(&target.name)),
            _ => {}
        }
        self.keep(target, None, actor, reason).await
    }

    /// Gives a target of the store another definition; it goes by it when this returns. With `expected` only if it has one
    /// of these tags.
    pub async fn change_target(
        &self,
        name: &str,
        definition: &str,
        enabled: Enabled,
        expected: Option<Vec<String>>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<TargetDefinition, AdminError> {
        self.must_be_kept(name)?;
        let target = read(definition, enabled)?;
        if target.name != name {
            let why = format!("`name` is `{}`; a target keeps its name, because its outbox has it too", target.name);
            return Err(AdminError::invalid("definition", why));
        }
        self.keep(target, expected, actor, reason).await
    }

    /// Removes a target of the store; what waits in its outbox is kept. With `expected` only if it has one of these tags.
    pub async fn remove_target(
        &self,
        name: &str,
        expected: Option<Vec<String>>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<(), AdminError> {
        self.must_be_kept(name)?;
        let change = actor.change(reason)?;
        let expected = expected.map(|tags| (name.to_owned(), tags));
        let edits = vec![TargetEdit::Forget(name.to_owned())];
        self.parts.keeper.set_targets(edits, expected, change).await.map_err(|error| match error {
            // Nothing was asked for that could be invalid: another target needs this one.
            NotChanged::Invalid(why) => AdminError::Conflict(why),
            other => other.into(),
        })
    }

    /// What a change of a kept target can be made to depend on.
    pub fn target_tag(&self, name: &str) -> Option<String> {
        let config = self.parts.keeper.current();
        config.kept_targets().iter().find(|target| target.name == name).map(target_tag)
    }

    async fn keep(
        &self,
        target: KeptTarget,
        expected: Option<Vec<String>>,
        actor: &Actor,
        reason: Option<&str>,
    ) -> Result<TargetDefinition, AdminError> {
        let name = target.name.clone();
        let change = actor.change(reason)?;
        let expected = expected.map(|tags| (name.clone(), tags));
        self.parts.keeper.set_targets(vec![TargetEdit::Keep(target)], expected, change).await.map_err(refused)?;
        self.target_definition(&name)
    }

    fn origin(&self, name: &str) -> Option<TargetOrigin> {
        self.parts.keeper.current().target_origin(name)
    }

    /// Whether this is the target that is there as long as no other is defined and no webhook is configured: it gives
    /// way to one of its name.
    fn is_legacy_default(&self, name: &str) -> bool {
        let config = self.parts.keeper.current();
        config.targets.targets.iter().any(|target| {
            target.name.as_str() == name && target.options.get("url").is_some_and(|url| url.as_str() == Some(""))
        })
    }

    fn must_be_kept(&self, name: &str) -> Result<(), AdminError> {
        match self.origin(name) {
            Some(TargetOrigin::Store) => Ok(()),
            Some(TargetOrigin::File) => Err(of_file(name)),
            None => Err(no_target(name)),
        }
    }
}

/// Whether a target is to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enabled {
    /// It is.
    Yes,
    /// It is kept only; its alerts wait.
    No,
}

fn read(definition: &str, enabled: Enabled) -> Result<KeptTarget, AdminError> {
    read_definition(definition, enabled == Enabled::Yes).map_err(|error| AdminError::invalid("definition", error.0))
}

fn refused(error: NotChanged) -> AdminError {
    match error {
        NotChanged::Invalid(why) => AdminError::invalid("definition", why),
        other => other.into(),
    }
}

fn no_target(name: &str) -> AdminError {
    AdminError::NotFound { what: "target", key: name.chars().take(40).collect() }
}

fn of_file(name: &str) -> AdminError {
    let why = format!("target `{name}` is defined in the configuration file; change it there and send SIGHUP");
    AdminError::Conflict(why)
}
