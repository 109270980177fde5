//! Who may do what: decisions, without I/O and without errors of a protocol.

pub mod authorize;
