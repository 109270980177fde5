//! The metadata plane: what exists. openraft's types stay inside this module.

pub mod command;
pub mod group;
pub mod inspect;
mod keys;
mod log_length;
mod members;
mod network;
mod raft_log;
#[cfg(test)]
mod raft_tests;
mod raft_types;
pub mod record;
pub mod reform;
mod replica;
mod running;
mod snapshot;
pub mod start;
mod state_machine;
mod txn;
pub mod view;
mod voters;
pub mod witness;
