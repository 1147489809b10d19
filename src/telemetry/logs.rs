//! Log lines on standard error, for people or as JSON, with a filter that can be replaced at run time.
//!
//! Secrets, communities and message bodies are never logged; control characters are escaped by the formatter.

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Replaces the filter of the running program.
#[derive(Debug, Clone)]
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
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
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(layer);
    let started = match format {
        LogFormat::Text => {
            registry.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    // A second start in one process (as tests may do) keeps the first subscriber.
    drop(started);
    Ok(LogControl { filter: handle })
}

impl LogControl {
    /// Uses another filter from now on; a filter that cannot be read changes nothing.
    pub fn set_filter(&self, filter: &str) -> Result<(), InvalidFilter> {
        let parsed = parse(filter)?;
        self.filter.reload(parsed).map_err(|error| InvalidFilter { filter: filter.to_owned(), why: error.to_string() })
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
