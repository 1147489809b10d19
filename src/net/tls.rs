//! Which cryptography TLS uses here: ring, chosen once for the process. Holds no key and reads no file.

/// Has TLS clients and servers of this process use ring; a later call changes nothing.
pub fn use_ring() {
    // The answer says whether another part of the process was first; either way ring is in place then.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
