//! The metadata plane: what exists. openraft's types stay inside this module.

pub mod command;
pub mod group;
mod keys;
mod network;
mod raft_log;
mod record;
mod replica;
mod snapshot;
mod state_machine;
mod txn;
pub mod view;
