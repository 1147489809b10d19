//! The ingest API: JSON events by POST, one or many, plain or gzip.
//!
//! The way of a request: the key is checked before a byte of the body is read; the body is read into bounded room
//! ([`body`]); it is split into items, whatever way the sender batches ([`items`]); each item becomes an event
//! ([`members`]); all of them are handed to the intake together, and the answer follows when they are durable.
//!
//! What it never does: answer 2xx before the events are on stable storage; take part of a batch because the queue
//! filled up half way (the good items of a request are taken together or not at all); send back what it was sent; answer
//! 5xx for bad input. A crash before the answer may leave the events queued: the sender repeats them, at least once.

mod answer;
mod auth;
mod body;
mod handler;
mod items;
mod members;
mod spans;
mod structured;
mod time;
mod varbinds;

pub use handler::router;
