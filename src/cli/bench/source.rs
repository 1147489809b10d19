//! Events as the syslog listener would make them of synthetic lines, for what is measured without sockets.

use std::net::{IpAddr, Ipv4Addr};

use crate::cli::send::synthetic::Synthetic;
use crate::cli::send::{Feed, Marker, Origin, Shape};
use crate::clock::Clock;
use crate::ingest::syslog::{ParseOptions, parse};
use crate::model::{Event, EventId, EventIds, Protocol, Source};

/// The mark of lines that no socket carried.
const MARK: &str = "stage";
const DIGITS: usize = 10;
/// The listener's own limit by default.
const MESSAGE_BYTES: usize = 64 << 10;

/// Makes events, each with its own number and id.
pub struct EventSource {
    feed: Feed,
    ids: EventIds,
    clock: Clock,
    number: u64,
    line: Vec<u8>,
}

impl EventSource {
    /// Events of the lines that `spec` describes.
    pub fn new(spec: &Synthetic) -> anyhow::Result<Self> {
        let marker = Marker { text: MARK.to_owned(), digits: DIGITS };
        let feed = Feed::new(&Origin::Synthetic(spec.clone()), &Shape::Syslog, Some(&marker))?;
        Ok(Self { feed, ids: EventIds::new(spec.seed), clock: Clock::system(), number: 0, line: Vec::new() })
    }

    /// A new id.
    pub fn next_id(&self) -> EventId {
        self.ids.next(self.clock.now())
    }

    /// The next `count` events.
    pub fn next(&mut self, count: usize) -> Vec<Event> {
        let now = self.clock.now();
        let source = Source { protocol: Protocol::SyslogTcp, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let options = ParseOptions::new(None, now, MESSAGE_BYTES);
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            self.line.clear();
            self.feed.put(self.number, &mut self.line);
            self.number += 1;
            events.extend(parse(&self.line, Event::new(self.ids.next(now), now, source), &options));
        }
        events
    }
}
