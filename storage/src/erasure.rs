//! Stripes, chunks and shards as arithmetic: pure.
