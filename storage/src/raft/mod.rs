//! Agreement on the metadata: the groups, their logs and replicas on the disks, and their voters.
//!
//! The content of the metadata belongs to `meta`. openraft's types stay inside this module.

pub mod agreement;
pub mod disk;
mod election;
pub mod epochs;
pub mod group;
mod halt;
mod history;
pub mod inspect;
mod log;
mod log_length;
mod log_meter;
mod members;
mod network;
pub mod proposer;
pub mod recovery;
mod replica;
mod replica_row;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;
pub mod voters;
