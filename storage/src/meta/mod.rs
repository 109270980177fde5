//! The content of the metadata: the tables of each group's state and the commands that change them.
//!
//! Nothing here knows how commands are agreed on, or how shards and disks are reached.

pub mod command;
pub mod keys;
pub mod record;
pub mod state_machine;
pub mod states;
mod txn;
pub mod view;
