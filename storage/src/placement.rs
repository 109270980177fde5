//! Which disks take the shards of a write: pure.
