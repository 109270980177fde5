//! The list of shards not yet confirmed.
