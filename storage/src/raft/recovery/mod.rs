//! How groups come to life: at each start, and after a majority of their voters is lost.

pub mod decision;
pub mod recover;
pub mod roster;
mod running;
pub mod start;
