//! Log lines: on standard error, for people or as JSON, or in systemd's journal; the last ones in memory; and a filter
//! that can be replaced at run time.
//!
//! Secrets, communities and message bodies are never logged, so they are in none of these places; control characters are
//! escaped by whatever shows a line.

mod journal;
mod line;
mod memory;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

pub use line::{LogLevel, LogLine};
pub use memory::{LogFilter, LogNews, LogPage, LogRing};

use self::journal::{Journal, is_stderr_the_journals};
use self::line::{Lines, Outlet};
use crate::clock::Clock;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal if standard error is the journal's, else for people.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// To systemd's journal, field by field.
    Journald,
}

/// The log of the running program.
#[derive(Debug, Clone, Default)]
pub struct LogControl {
    /// Replaces the filter; `None` where it does not go by the configuration.
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    /// The last lines.
    ring: LogRing,
}

/// What cannot be used as a filter.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "`{filter}` is not a log filter ({why}); use error, warn, info, debug, trace or directives such as `info,muttd::forward=debug`"
)]
pub struct InvalidFilter {
    filter: String,
    why: String,
}

/// Starts logging for the whole process; call it once.
pub fn init(filter: &str, format: LogFormat) -> Result<LogControl, InvalidFilter> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let ring = LogRing::default();
    let (outlet, trouble) = outlet(format);
    let text = matches!(outlet, Outlet::None).then(|| {
        let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(ansi).boxed()
    });
    let lines = Lines { ring: ring.clone(), outlet, clock: Clock::system() };
    // A second start in one process (as tests may do) keeps the first subscriber.
    drop(tracing_subscriber::registry().with(layer).with(text).with(lines).try_init());
    if let Some(error) = trouble {
        tracing::warn!(%error, "The journal cannot be written to; log lines go to standard error as text");
    }
    Ok(LogControl { filter: Some(handle), ring })
}

/// Where lines go by `format`, and why it is not where they should.
fn outlet(format: LogFormat) -> (Outlet, Option<std::io::Error>) {
    let wanted = match format {
        LogFormat::Auto => is_stderr_the_journals(std::env::var("JOURNAL_STREAM").ok().as_deref()),
        LogFormat::Journald => true,
        LogFormat::Text => false,
        LogFormat::Json => return (Outlet::Json, None),
    };
    if !wanted {
        return (Outlet::None, None);
    }
    match Journal::open() {
        Ok(journal) => (Outlet::Journal(journal), None),
        Err(error) => (Outlet::None, Some(error)),
    }
}

impl LogControl {
    /// Uses another filter from now on; a filter that cannot be read changes nothing.
    pub fn set_filter(&self, filter: &str) -> Result<(), InvalidFilter> {
        let parsed = parse(filter)?;
        let Some(handle) = &self.filter else { return Ok(()) };
        handle.reload(parsed).map_err(|error| InvalidFilter { filter: filter.to_owned(), why: error.to_string() })
    }

    /// The same lines under a filter that stays as it is.
    #[must_use]
    pub fn with_fixed_filter(self) -> Self {
        Self { filter: None, ..self }
    }

    /// The last lines.
    pub fn ring(&self) -> LogRing {
        self.ring.clone()
    }
}

/// Whether a filter can be used; an empty one would log errors only, so it is none.
pub fn check(filter: &str) -> Result<(), InvalidFilter> {
    if filter.trim().is_empty() {
        return Err(InvalidFilter { filter: String::new(), why: "it is empty".to_owned() });
    }
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, InvalidFilter> {
    // sled and hyper chat about their own inner life below `warn`.
    let quiet = ["sled=warn", "hyper=warn", "reqwest=warn", "rustls=warn", "h2=warn"];
    let parsed = EnvFilter::try_new(filter)
        .map_err(|error| InvalidFilter { filter: filter.to_owned(), why: error.to_string() })?;
    Ok(quiet.iter().filter_map(|directive| directive.parse().ok()).fold(parsed, EnvFilter::add_directive))
}
