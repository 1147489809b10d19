//! Kinds of targets: what a kind of receiver is told in the configuration, and how a target of it is made.
//!
//! A kind is a file in `forward/targets` with an options struct that implements [`KindOptions`], and one line in the
//! table [`super::targets::KINDS`]. Nothing here connects to anything.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::guard::Guard;
use super::http::Http;
use super::{Secrets, Target};
use crate::clock::Clock;
use crate::model::TargetName;

/// Options as they stand in the configuration, without those that every target has.
pub type RawOptions = Map<String, Value>;

/// The options of one kind: a struct with `#[serde(deny_unknown_fields)]`.
pub trait KindOptions: DeserializeOwned + Send + 'static {
    /// Checks what the types cannot; the error names the key and what it may be.
    fn check(&self) -> Result<(), String>;

    /// Whether a target of this kind is useless without a `secret`.
    fn needs_secret(&self) -> bool {
        false
    }

    /// Names of further secrets that the options refer to; they are in [`TargetParts::secrets`] when it is built.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the target; the error is for people.
    fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String>;
}

/// What a target is made with.
pub struct TargetParts {
    /// Its name.
    pub name: TargetName,
    /// The HTTP client: time-out, address guard and bounds are in it.
    pub http: Http,
    /// Decides which addresses may be spoken to, for kinds that do not speak HTTP.
    pub guard: Guard,
    /// The longest that one call may take.
    pub timeout: Duration,
    /// The secrets that the options named.
    pub secrets: Secrets,
    /// The wall clock.
    pub clock: Clock,
}

type Build = Box<dyn FnOnce(TargetParts) -> Result<Arc<dyn Target>, String> + Send>;

/// Checked options that wait to become a target.
pub struct Prepared {
    /// Whether `secret` must be given.
    pub needs_secret: bool,
    /// Further secrets that are wanted.
    pub secrets: Vec<String>,
    build: Build,
}

impl Prepared {
    /// Makes the target.
    pub fn build(self, parts: TargetParts) -> Result<Arc<dyn Target>, String> {
        (self.build)(parts)
    }
}

/// One kind of target.
#[derive(Debug)]
pub struct TargetKind {
    /// What `kind` says in the configuration.
    pub name: &'static str,
    /// What it is, in a few words.
    pub summary: &'static str,
    prepare: fn(RawOptions) -> Result<Prepared, String>,
}

impl TargetKind {
    /// A line of the table.
    pub const fn of<O: KindOptions>(name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, prepare: prepare::<O> }
    }

    /// The kind of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        super::targets::KINDS.iter().find(|kind| kind.name == name)
    }

    /// Reads and checks options; the error names the key.
    pub fn prepare(&self, options: RawOptions) -> Result<Prepared, String> {
        (self.prepare)(options)
    }
}

impl PartialEq for TargetKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

fn prepare<O: KindOptions>(options: RawOptions) -> Result<Prepared, String> {
    let options: O = serde_json::from_value(Value::Object(options)).map_err(|error| error.to_string())?;
    options.check()?;
    Ok(Prepared {
        needs_secret: options.needs_secret(),
        secrets: options.secrets(),
        build: Box::new(|parts| options.build(parts)),
    })
}
