//! The S3 protocol over HTTP.

pub mod acl;
pub mod admission;
pub mod attributes;
pub mod beside;
pub mod body;
pub mod checksum;
pub mod connection;
pub mod copy_source;
pub mod digest;
pub mod encoded_word;
pub mod error;
pub mod foreign;
pub mod form;
pub mod gate;
pub mod head;
pub mod health;
pub mod late;
pub mod limits;
pub mod metrics;
pub mod names;
pub mod operation;
pub mod ops;
pub mod pace;
pub mod paging;
pub mod post_policy;
pub mod precondition;
pub mod prefix;
pub mod range;
pub mod request;
pub mod response;
pub mod route;
pub mod scheme;
pub mod server;
pub mod tags;
pub mod traffic;
pub mod wire;
pub mod xml;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
