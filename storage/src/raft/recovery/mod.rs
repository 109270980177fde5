//! The start of groups, and their recovery after a majority of voters is lost.

pub mod decision;
pub mod recover;
pub mod roster;
mod running;
pub mod start;
