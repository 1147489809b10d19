//! SNMP traps and informs, v1 and v2c, as events.
pub mod names;
