//! The metadata plane: what exists. openraft's types stay inside this module.

pub mod command;
#[allow(dead_code)] // until the node calls it
pub mod group;
#[allow(dead_code)] // until the store calls all of it
mod keys;
mod members;
mod network;
mod raft_log;
#[cfg(test)]
mod raft_tests;
mod raft_types;
#[allow(dead_code)] // until the store calls all of it
mod record;
mod replica;
mod snapshot;
#[allow(dead_code)] // until the node calls it
pub mod start;
#[allow(dead_code)] // until the store calls all of it
mod state_machine;
#[allow(dead_code)] // until the store calls all of it
mod txn;
#[allow(dead_code)] // until the store calls all of it
pub mod view;
