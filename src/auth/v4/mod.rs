//! Signature Version 4.

pub mod canonical;
pub mod chunks;
pub mod header;
pub mod link;
pub mod signed_headers;
