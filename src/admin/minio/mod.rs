//! Paths of MinIO's own, which its tools ask for.

pub mod absent;
pub mod quotas;
