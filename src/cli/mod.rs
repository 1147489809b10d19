//! cli

/// Sample messages and the rules that fit them.
pub mod samples;

/// Sends messages over real sockets.
pub mod send;
