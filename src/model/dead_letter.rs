//! What a stage gave up on, with everything that is needed to understand it and to try again.
//!
//! A letter outlives programs: its form on disk carries a version. Version 1 had six fields and no mark; from version 2
//! on a letter begins with [`MARK`] where version 1 has its origin, which is never that text. A version this program
//! does not know is an error, so the queue shows the letter's bytes instead of guessing.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Alert, Event, EventId, Flag, Timestamp};

/// Stands where version 1 has its origin. No origin holds control characters.
const MARK: &str = "\u{1}letter";
/// The version written.
const VERSION: u8 = 2;

/// Why a letter is dead, for grouping; the text beside it says more. Written as a number: new ones go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeathClass {
    /// A letter of an older version, which did not say.
    Unknown,
    /// The record's bytes are not understood.
    Undecodable,
    /// The process ended too often while it was in work.
    Crashed,
    /// Judging it failed.
    Judging,
    /// The audit can never take it.
    Audit,
    /// There were too many alerts waiting already.
    Shed,
    /// There is no target it could go to.
    NoTarget,
    /// It does not fit into a record of a queue.
    TooLarge,
    /// The receiver refuses this alert.
    Refused,
    /// The receiver refuses the credentials.
    Credentials,
    /// The receiver wanted fewer alerts until the tries were used up.
    RateLimited,
    /// The receiver failed until the tries were used up.
    ServerError,
    /// The receiver did not answer in time until the tries were used up.
    Timeout,
    /// The receiver could not be reached until the tries were used up.
    Connection,
    /// The target's own code or settings failed.
    Internal,
}

impl DeathClass {
    /// All of them, in the order they are written in.
    pub const ALL: [Self; 15] = [
        Self::Unknown,
        Self::Undecodable,
        Self::Crashed,
        Self::Judging,
        Self::Audit,
        Self::Shed,
        Self::NoTarget,
        Self::TooLarge,
        Self::Refused,
        Self::Credentials,
        Self::RateLimited,
        Self::ServerError,
        Self::Timeout,
        Self::Connection,
        Self::Internal,
    ];

    /// The name used in the API, on pages and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Undecodable => "undecodable",
            Self::Crashed => "crashed",
            Self::Judging => "judging",
            Self::Audit => "audit",
            Self::Shed => "shed",
            Self::NoTarget => "no_target",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Credentials => "credentials",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Internal => "internal",
        }
    }

    /// The class of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What a letter's payload is; letters of both kinds lie in the queue `dead`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// Bytes that are not understood, or a letter of an older version, which did not say.
    Unknown,
    /// An `Event`, for the alerter.
    Event,
    /// An `Alert`, for a target.
    Alert,
}

/// What a person changed in a letter; the record as it died stays beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// The payload before the first change.
    pub original: Vec<u8>,
    /// Who changed it last.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A record that its stage gave up on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The stage or target that gave up: `alerter`, or a target's name.
    pub origin: String,
    /// The event's id, when the record could still be read.
    pub event_id: Option<EventId>,
    /// The record as the stage's queue held it (postcard of an `Event` or an `Alert`).
    pub payload: Vec<u8>,
    /// What the payload is.
    pub holds: Holds,
    /// Why, as one of a few kinds.
    pub class: DeathClass,
    /// Why, for people.
    pub reason: String,
    /// What the receiver answered last, when it was a receiver.
    pub answer: Option<String>,
    /// Tries made since it was put back last.
    pub attempts: u32,
    /// How often it was put back.
    pub replays: u32,
    /// When it was given up the first time.
    pub first_died_at: Timestamp,
    /// When it was given up the last time.
    pub died_at: Timestamp,
    /// What a person changed.
    pub edited: Option<Edited>,
}

impl DeadLetter {
    /// A letter whose record cannot be read.
    pub fn of_bytes(origin: &str, payload: Vec<u8>, reason: String, attempts: u32, died_at: Timestamp) -> Self {
        Self {
            origin: origin.to_owned(),
            event_id: None,
            payload,
            holds: Holds::Unknown,
            class: DeathClass::Undecodable,
            reason,
            answer: None,
            attempts,
            replays: 0,
            first_died_at: died_at,
            died_at,
            edited: None,
        }
    }

    /// The letter of an event that could not be processed.
    pub fn of_event(event: &Event, origin: &str, class: DeathClass, reason: String, died_at: Timestamp) -> Self {
        // Encoding plain data to a vector has no way to fail; an empty payload still names the event.
        let payload = postcard::to_stdvec(event).unwrap_or_default();
        Self { class, holds: Holds::Event, ..Self::of(event, payload, origin, reason, died_at) }
    }

    /// The letter of an alert that could not be delivered.
    pub fn of_alert(alert: &Alert, origin: &str, class: DeathClass, reason: String, died_at: Timestamp) -> Self {
        let payload = postcard::to_stdvec(alert).unwrap_or_default();
        Self { class, holds: Holds::Alert, ..Self::of(&alert.event, payload, origin, reason, died_at) }
    }

    fn of(event: &Event, payload: Vec<u8>, origin: &str, reason: String, died_at: Timestamp) -> Self {
        let (replays, first_died_at) = event.replays().unwrap_or((0, died_at));
        Self {
            event_id: Some(event.id),
            replays,
            // A clock that was set back must not make the first time later than the last.
            first_died_at: first_died_at.min(died_at),
            ..Self::of_bytes(origin, payload, reason, 0, died_at)
        }
    }

    /// The same after so many tries.
    #[must_use]
    pub fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The same with what the receiver answered.
    #[must_use]
    pub fn answered(mut self, answer: String) -> Self {
        self.answer = Some(answer);
        self
    }
}

impl Event {
    /// How often it was put back from the dead letters, and when it became one first.
    pub fn replays(&self) -> Option<(u32, Timestamp)> {
        self.flags.iter().find_map(|flag| match flag {
            Flag::Replayed { times, first_died } => {
                Some((u32::from(*times), Timestamp::from_millis(i64::from(*first_died) * 1_000)))
            }
            _ => None,
        })
    }

    /// Notes that it is put back from the dead letters for the `times`th time.
    pub fn note_replay(&mut self, times: u32, first_died_at: Timestamp) {
        self.forget_replays();
        let first_died = u32::try_from(first_died_at.as_seconds()).unwrap_or(0);
        self.flags.push(Flag::Replayed { times: u16::try_from(times).unwrap_or(u16::MAX), first_died });
    }

    /// Takes that note away: what is made of the event counts for itself.
    pub fn forget_replays(&mut self) {
        self.flags.retain(|flag| !matches!(flag, Flag::Replayed { .. }));
    }
}

/// What follows mark and version in version 2.
#[derive(Deserialize)]
struct Second {
    origin: String,
    event_id: Option<EventId>,
    payload: Vec<u8>,
    holds: Holds,
    class: DeathClass,
    reason: String,
    answer: Option<String>,
    attempts: u32,
    replays: u32,
    first_died_at: Timestamp,
    died_at: Timestamp,
    edited: Option<Edited>,
}

impl Serialize for DeadLetter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Field by field as in [`Second`], whose form a tuple shares; borrowed, since payloads may be large.
        let second = (
            &self.origin,
            &self.event_id,
            &self.payload,
            &self.holds,
            &self.class,
            &self.reason,
            &self.answer,
            &self.attempts,
            &self.replays,
            &self.first_died_at,
            &self.died_at,
            &self.edited,
        );
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(MARK)?;
        tuple.serialize_element(&VERSION)?;
        tuple.serialize_element(&second)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for DeadLetter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Six is what version 1 needs; later versions read fewer elements.
        deserializer.deserialize_tuple(6, LetterVisitor)
    }
}

struct LetterVisitor;

impl<'de> Visitor<'de> for LetterVisitor {
    type Value = DeadLetter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dead letter of version 1 or 2")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<DeadLetter, A::Error> {
        let first: String = next(&mut seq)?;
        if first != MARK {
            return first_version(first, seq);
        }
        let version: u8 = next(&mut seq)?;
        if version != VERSION {
            return Err(de::Error::custom(format!("dead letter version {version} is unknown to this program")));
        }
        let letter: Second = next(&mut seq)?;
        Ok(DeadLetter {
            origin: letter.origin,
            event_id: letter.event_id,
            payload: letter.payload,
            holds: letter.holds,
            class: letter.class,
            reason: letter.reason,
            answer: letter.answer,
            attempts: letter.attempts,
            replays: letter.replays,
            first_died_at: letter.first_died_at,
            died_at: letter.died_at,
            edited: letter.edited,
        })
    }
}

fn first_version<'de, A: SeqAccess<'de>>(origin: String, mut seq: A) -> Result<DeadLetter, A::Error> {
    let event_id = next(&mut seq)?;
    let payload = next(&mut seq)?;
    let reason = next(&mut seq)?;
    let attempts = next(&mut seq)?;
    let died_at = next(&mut seq)?;
    let letter = DeadLetter::of_bytes(&origin, payload, reason, attempts, died_at);
    Ok(DeadLetter { event_id, class: DeathClass::Unknown, ..letter })
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom("the letter is cut off"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventIds, Protocol, Source};

    const NOON: Timestamp = Timestamp::from_millis(1_772_366_400_000);

    fn event() -> Event {
        let source = Source { protocol: Protocol::Http, peer: std::net::Ipv4Addr::LOCALHOST.into() };
        let mut event = Event::new(EventIds::new(1).next(NOON), NOON, source);
        event.hostname = "core1".into();
        event
    }

    fn letter() -> DeadLetter {
        let mut letter = DeadLetter::of_event(&event(), "alerter", DeathClass::Judging, "it broke".into(), NOON);
        letter.edited = Some(Edited { original: vec![1, 2], by: "alice".into(), at: NOON });
        letter.after(4).answered("503 Busy".into())
    }

    #[test]
    fn letters_come_back_as_they_were_also_several_in_a_row() {
        let letters = vec![letter(), DeadLetter::of_bytes("moogsoft", vec![9], "garbled".into(), 1, NOON), letter()];
        let bytes = postcard::to_stdvec(&letters).expect("encodes");
        assert_eq!(postcard::from_bytes::<Vec<DeadLetter>>(&bytes).expect("decodes"), letters);
    }

    #[test]
    fn letters_of_the_first_version_stay_readable() {
        /// The form that was written before letters had a version.
        #[derive(Serialize)]
        struct First {
            origin: String,
            event_id: Option<EventId>,
            payload: Vec<u8>,
            reason: String,
            attempts: u32,
            died_at: Timestamp,
        }
        let first = |reason: &str| First {
            origin: "moogsoft".into(),
            event_id: Some(event().id),
            payload: vec![1, 2, 3],
            reason: reason.into(),
            attempts: 5,
            died_at: NOON,
        };
        let bytes = postcard::to_stdvec(&[first("one"), first("two")].as_slice()).expect("encodes");
        let letters: Vec<DeadLetter> = postcard::from_bytes(&bytes).expect("decodes");
        let told: Vec<_> = letters.iter().map(|letter| (letter.reason.as_str(), letter.class)).collect();
        assert_eq!(told, [("one", DeathClass::Unknown), ("two", DeathClass::Unknown)]);
        let letter = &letters[1];
        assert_eq!((letter.origin.as_str(), letter.attempts, letter.replays), ("moogsoft", 5, 0));
        assert_eq!((letter.payload.as_slice(), letter.first_died_at, letter.died_at), (&[1, 2, 3][..], NOON, NOON));
    }

    #[test]
    fn a_version_of_the_future_is_an_error_and_no_guess() {
        let mut bytes = postcard::to_stdvec(&letter()).expect("encodes");
        bytes[MARK.len() + 1] = VERSION + 1;
        assert!(postcard::from_bytes::<DeadLetter>(&bytes).is_err());
        bytes[MARK.len() + 1] = VERSION;
        assert!(postcard::from_bytes::<DeadLetter>(&bytes).is_ok());
    }

    #[test]
    fn replays_travel_with_the_event_into_its_next_letter() {
        let mut event = event();
        assert_eq!(event.replays(), None);
        event.note_replay(1, NOON);
        event.note_replay(2, NOON);
        assert_eq!((event.replays(), event.flags.len()), (Some((2, NOON)), 1));
        let later = NOON.plus(std::time::Duration::from_secs(900));
        let letter = DeadLetter::of_event(&event, "alerter", DeathClass::Judging, String::new(), later);
        assert_eq!((letter.replays, letter.first_died_at, letter.died_at), (2, NOON, later));
        event.forget_replays();
        assert_eq!(event.replays(), None);
    }

    #[test]
    fn every_class_is_found_by_its_name() {
        for (place, class) in DeathClass::ALL.into_iter().enumerate() {
            assert_eq!(DeathClass::parse(class.name()), Some(class));
            assert_eq!(class as usize, place, "the list is in the order of the numbers on disk");
        }
    }
}
