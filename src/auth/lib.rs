//! The caller of a request: keys, signatures of all versions, and identities.

pub mod authenticate;
pub mod claim;
pub mod credentials;
pub mod identity;
pub mod keys;
pub mod message;
mod post_form;
pub mod sign;
pub mod v2;
pub mod v4;

#[cfg(test)]
mod tests;
