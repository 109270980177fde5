//! Who sent a request.

pub mod authenticate;
pub mod credentials;
pub mod presigned;
pub mod sigv4;
pub mod streaming;
