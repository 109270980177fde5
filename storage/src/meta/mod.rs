//! The metadata plane: what exists. openraft's types stay inside this module.

pub mod command;
pub mod group;
#[allow(dead_code)] // until the replica and the store call it
mod keys;
mod network;
mod raft_log;
#[allow(dead_code)] // until the replica and the store call it
mod record;
mod replica;
mod snapshot;
#[allow(dead_code)] // until the replica and the store call it
mod state_machine;
#[allow(dead_code)] // until the replica and the store call it
mod txn;
#[allow(dead_code)] // until the replica and the store call it
pub mod view;
