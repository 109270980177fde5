//! What exists: the tables of each group's state and the commands that change them.
//!
//! Nothing here knows how commands are agreed on, nor where shards and disks are.

pub mod command;
pub mod keys;
pub mod record;
pub mod state_machine;
pub mod states;
mod txn;
pub mod view;
