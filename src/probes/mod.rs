//! Probes: the answers to operators' tools about a running server's health and its counts.

pub mod health;
pub mod metrics;
