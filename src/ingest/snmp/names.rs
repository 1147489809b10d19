//! names
use crate::model::Oid;
/// n
pub fn name_of(oid: &Oid) -> Option<String> {
    let _ = oid;
    None
}
