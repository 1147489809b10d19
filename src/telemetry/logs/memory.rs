//! The last lines of the log in memory, for people who cannot reach the machine's own log.
//!
//! Bounded in lines and in bytes, whatever is logged: the oldest go first. A reader keeps no place in here, only the id
//! of the line it saw last; lines that went before it came are told as missed. The lock is held for moving pointers, never
//! for searching. Gone with the process: the journal or whoever collects standard error keeps what must be kept.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::line::{LogLevel, LogLine};

/// Lines kept, at most.
const MOST_LINES: usize = 4_096;
/// Bytes they take, at most.
const MOST_BYTES: usize = 2 << 20;

/// The last lines; clones share them.
#[derive(Debug, Clone)]
pub struct LogRing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<Kept>,
    /// The id of the newest line.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    newest: u64,
}

/// Which lines are wanted; members that are `None` do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Lines that matter at least so much.
    pub level: Option<LogLevel>,
    /// The part of the program (`forward`), or a module with all below it (`muttd::forward`).
    pub component: Option<String>,
    /// A text in the sentence, a field's name or its value, ignoring case.
    pub text: Option<String>,
}

/// Lines found, newest first.
#[derive(Debug, Clone, Default)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<Arc<LogLine>>,
    /// Where older ones go on, if there are any.
    pub next: Option<u64>,
}

/// Lines that came after a reader's last one, oldest first.
#[derive(Debug, Clone, Default)]
pub struct LogNews {
    /// Those the filter lets through.
    pub lines: Vec<Arc<LogLine>>,
    /// Where to go on.
    pub cursor: u64,
    /// How many went before they could be read, whatever the filter says of them.
    pub missed: u64,
}

impl Default for LogRing {
    fn default() -> Self {
        Self(Arc::new(Inner { kept: Mutex::default(), newest: watch::Sender::new(0) }))
    }
}

impl LogRing {
    /// Adds a line and gives it its number.
    pub(super) fn push(&self, mut line: LogLine) {
        let mut kept = self.0.kept.lock();
        kept.newest += 1;
        line.id = kept.newest;
        kept.bytes += line.approximate_bytes();
        kept.lines.push_back(Arc::new(line));
        while kept.lines.len() > MOST_LINES || kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.approximate_bytes();
        }
        let newest = kept.newest;
        drop(kept);
        // Two lines may come here in either order; readers wait for any change and look for themselves.
        self.0.newest.send_modify(|told| *told = newest.max(*told));
    }

    /// Every line there is, oldest first.
    pub fn all(&self) -> Vec<Arc<LogLine>> {
        self.0.kept.lock().lines.iter().cloned().collect()
    }

    /// The id of the newest line; 0 if there is none.
    pub fn newest(&self) -> u64 {
        self.0.kept.lock().newest
    }

    /// Up to `limit` lines older than `before`, newest first.
    pub fn page(&self, filter: &LogFilter, before: Option<u64>, limit: usize) -> LogPage {
        let filter = filter.prepared();
        let all = self.all();
        let mut found = all.iter().rev().filter(|line| before.is_none_or(|id| line.id < id) && filter.takes(line));
        let lines: Vec<Arc<LogLine>> = found.by_ref().take(limit.max(1)).cloned().collect();
        let next = found.next().and(lines.last()).map(|line| line.id);
        LogPage { lines, next }
    }

    /// Up to `most` lines that came after `cursor`. A cursor from before a restart begins with the oldest line there is.
    pub fn after(&self, filter: &LogFilter, cursor: u64, most: usize) -> LogNews {
        let filter = filter.prepared();
        let (fresh, oldest, newest, cursor) = {
            let kept = self.0.kept.lock();
            let newest = kept.newest;
            let cursor = if cursor > newest { 0 } else { cursor };
            let oldest = kept.lines.front().map_or(newest + 1, |line| line.id);
            // Ids follow one another without gaps, so the place of the first unread line is known.
            let seen = usize::try_from((cursor + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
            let fresh: Vec<_> = kept.lines.range(seen.min(kept.lines.len())..).cloned().collect();
            (fresh, oldest, newest, cursor)
        };
        let mut news = LogNews { lines: Vec::new(), cursor, missed: oldest.saturating_sub(cursor + 1) };
        for line in &fresh {
            if news.lines.len() >= most.max(1) {
                return news;
            }
            news.cursor = line.id;
            if filter.takes(line) {
                news.lines.push(Arc::clone(line));
            }
        }
        news.cursor = newest;
        news
    }

    /// Changes with every line.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }
}

impl LogFilter {
    /// With the text in lower case.
    fn prepared(&self) -> Self {
        Self { text: self.text.as_ref().map(|text| text.to_lowercase()), ..self.clone() }
    }

    /// Whether a line is wanted; the text is in lower case already.
    fn takes(&self, line: &LogLine) -> bool {
        self.level.is_none_or(|least| line.level >= least)
            && self.component.as_deref().is_none_or(|wanted| is_of(line, wanted))
            && self.text.as_deref().is_none_or(|text| holds(line, text))
    }
}

fn is_of(line: &LogLine, wanted: &str) -> bool {
    let below = |rest: &str| rest.is_empty() || rest.starts_with("::");
    line.component() == wanted || line.module.strip_prefix(wanted).is_some_and(below)
}

fn holds(line: &LogLine, lower: &str) -> bool {
    let contains = |text: &str| text.to_lowercase().contains(lower);
    contains(&line.message)
        || line.fields.iter().any(|(name, value)| match value.as_str() {
            Some(text) => contains(name) || contains(text),
            None => contains(name) || value.to_string().contains(lower),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn line(module: &'static str, level: LogLevel, message: &str) -> LogLine {
        let fields = vec![("event.id".into(), "E-17".into()), ("attempt".into(), 3.into())];
        LogLine { id: 0, at: Timestamp::default(), level, module: module.into(), message: message.into(), fields }
    }

    fn ring() -> LogRing {
        let ring = LogRing::default();
        ring.push(line("muttd::forward::desk", LogLevel::Info, "Delivered"));
        ring.push(line("muttd::ingest", LogLevel::Warn, "Refused"));
        ring.push(line("sled::log", LogLevel::Error, "disk full"));
        ring
    }

    fn ids(lines: &[Arc<LogLine>]) -> Vec<u64> {
        lines.iter().map(|line| line.id).collect()
    }

    #[test]
    fn lines_are_found_by_level_component_and_text() {
        let check = |level: Option<LogLevel>, component: &str, text: &str, expected: &[u64]| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let filter = LogFilter { level, component: some(component), text: some(text) };
            assert_eq!(ids(&ring().page(&filter, None, 10).lines), expected, "{filter:?}");
        };
        check(None, "", "", &[3, 2, 1]);
        check(Some(LogLevel::Warn), "", "", &[3, 2]);
        check(None, "forward", "", &[1]);
        check(None, "muttd::forward", "", &[1]);
        check(None, "muttd::for", "", &[]);
        check(None, "sled", "", &[3]);
        check(None, "", "DISK", &[3]);
        check(None, "", "e-17", &[3, 2, 1]);
        check(None, "ingest", "3", &[2]);
    }

    #[test]
    fn pages_go_back_to_the_oldest_line_and_end_there() {
        let ring = ring();
        let first = ring.page(&LogFilter::default(), None, 2);
        assert_eq!((ids(&first.lines), first.next), (vec![3, 2], Some(2)));
        let second = ring.page(&LogFilter::default(), first.next, 2);
        assert_eq!((ids(&second.lines), second.next), (vec![1], None));
    }

    #[test]
    fn a_reader_that_was_too_slow_is_told_how_many_lines_it_missed() {
        let ring = ring();
        let news = ring.after(&LogFilter::default(), 1, 1);
        assert_eq!((ids(&news.lines), news.cursor, news.missed), (vec![2], 2, 0));
        for _ in 0..MOST_LINES {
            ring.push(line("muttd", LogLevel::Debug, "chatter"));
        }
        let news = ring.after(&LogFilter { level: Some(LogLevel::Info), ..LogFilter::default() }, 2, 10);
        assert_eq!((ids(&news.lines), news.cursor, news.missed), (vec![], 3 + MOST_LINES as u64, 1));
        let restarted = ring.after(&LogFilter::default(), 1 << 40, 1);
        assert_eq!(ids(&restarted.lines), [4]);
    }

    #[test]
    fn the_ring_is_bounded_in_lines_and_in_bytes() {
        let ring = LogRing::default();
        for _ in 0..2 * MOST_LINES {
            ring.push(line("muttd", LogLevel::Info, "short"));
        }
        assert_eq!(ring.all().len(), MOST_LINES);
        let long = "x".repeat(4 << 10);
        for _ in 0..MOST_LINES {
            ring.push(line("muttd", LogLevel::Info, &long));
        }
        let bytes: usize = ring.all().iter().map(|line| line.approximate_bytes()).sum();
        assert!(bytes <= MOST_BYTES && bytes > MOST_BYTES / 2, "{bytes}");
        assert_eq!(ring.newest(), 3 * MOST_LINES as u64);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_a_line() {
        let ring = ring();
        let mut changes = ring.changes();
        changes.mark_unchanged();
        ring.push(line("muttd", LogLevel::Info, "news"));
        changes.changed().await.expect("the ring is there");
        assert_eq!(ids(&ring.after(&LogFilter::default(), 3, 10).lines), [4]);
    }
}
