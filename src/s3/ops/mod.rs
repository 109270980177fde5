//! One file for each operation, named as in the AWS reference.

pub mod missing;
