//! Bucket names, keys and their rules: pure.
