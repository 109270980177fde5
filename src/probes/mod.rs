//! What operators' tools ask of a running server: is it well, and what does it count.

pub mod health;
pub mod metrics;
