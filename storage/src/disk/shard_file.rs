//! A shard as a file.
