//! S3's errors: one table, and the one place where a storage error becomes one of them.
