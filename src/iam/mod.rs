//! May they.

pub mod authorize;
