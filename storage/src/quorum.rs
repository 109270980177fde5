//! Writing and reading a shard set: what must succeed, who lagged.
