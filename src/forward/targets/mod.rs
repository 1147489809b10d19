//! Every kind of target, one file each. A new kind is a file and a line in [`KINDS`].

mod moogsoft;

use super::TargetKind;

/// The kinds there are, as `kind` names them in the configuration.
pub const KINDS: &[TargetKind] =
    &[TargetKind::of::<moogsoft::Options>("moogsoft", "Moogsoft on-premises, webhook LAM")];
