//! S3's errors: one table of code, status and message, and the one place where a storage error
//! becomes one of them.
