//! Upkeep: the epochs that say what may still be in use, and the removal of what is not.
//! What is damaged or missing is made anew by heal, what is too narrow coded again by recode.

pub mod alarm;
pub mod disks;
pub mod epochs;
pub mod gc;
pub mod heal;
pub mod proposer;
pub mod recode;
mod retries;
pub mod scrub;
pub mod stock;
