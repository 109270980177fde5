//! Upkeep: epochs and garbage.

mod epochs;
mod gc;
