//! THE TABLE: one row for each S3 operation.
