//! A disk's RocksDB: families, options, and the log thread that shares one fsync.
