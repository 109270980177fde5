//! Bounded thread pools for disk I/O.
