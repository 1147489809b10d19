//! Sockets: binding them with errors that say who holds the port, TLS, and serving HTTP with bounds.

pub mod api_version;
mod bind;
mod holder;
pub mod http;
pub mod outbound;
pub mod problem;
mod refusals;
mod retry;
mod strangers;
pub mod tls;

pub use bind::{BindError, Transport, bind_tcp, bind_udp, resize_receive_buffer};
pub use holder::Holder;
pub use retry::keep_trying;
pub use strangers::Strangers;
