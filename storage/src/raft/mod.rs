//! How metadata are agreed: the groups, their logs and replicas on the disks, and who votes.
//!
//! What metadata there are is `meta`'s. openraft's types stay inside this module.

pub mod epochs;
pub mod group;
mod history;
pub mod inspect;
mod log;
mod log_length;
mod members;
mod network;
pub mod place;
pub mod proposer;
pub mod recovery;
mod replica;
mod replica_row;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;
mod voters;
