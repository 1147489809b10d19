//! Sockets: binding them with errors that say who holds the port, and serving HTTP with bounds.
