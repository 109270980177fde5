//! Upkeep: the epochs that say what may still be in use, and the removal of what is not.
//! (Heal, scrub and rebalance take their places here.)

pub mod epochs;
pub mod gc;
