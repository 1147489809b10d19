//! Which certificate of an appliance a command believes: arguments that every command with a connection has. Keeps
//! nothing and sends nothing.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::net::tls::{Connector, TlsError, Trust, own_certificate_file};

/// Arguments about the appliance's certificate.
#[derive(Debug, Clone, Default, Args)]
pub struct TrustArgs {
    /// PEM file with the certificate of the appliance, or of who signed it, besides the system's authorities. With
    /// --data the certificate that the appliance made for itself is known anyway.
    #[arg(long, global = true, value_name = "FILE", env = "MUTTD_CA")]
    ca: Option<PathBuf>,
    /// Believe every certificate: whoever sits between can read what is sent.
    #[arg(long, global = true, conflicts_with = "ca")]
    insecure: bool,
}

impl TrustArgs {
    /// What makes connections inside TLS; `data` is the appliance's data directory, if it is known.
    pub fn connector(&self, data: Option<&Path>) -> Result<Connector, TlsError> {
        if self.insecure {
            eprintln!(
                "muttd: warning: --insecure: the certificate is not checked, whoever sits between can read along"
            );
            return Connector::new(&Trust::Everyone);
        }
        let own = data.map(own_certificate_file).filter(|file| file.exists());
        Connector::new(&Trust::System(self.ca.iter().cloned().chain(own).collect()))
    }
}
