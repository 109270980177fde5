//! Who sent a request.

pub mod authenticate;
pub mod credentials;
mod form;
pub mod presigned;
pub mod sign;
pub mod sigv2;
pub mod sigv4;
pub mod streaming;

#[cfg(test)]
mod tests;
