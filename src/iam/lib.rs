//! Decisions about rights: pure, without I/O and without errors of a protocol.
//!
//! A [`request::Request`] holds everything that a decision may depend on, and
//! [`authorize::authorize`] is the one call that decides.

pub mod action;
pub mod arn;
pub mod authorize;
pub mod facts;
pub mod request;
