//! The operator's API, and the few calls of MinIO's that do the same.

mod body;
mod buckets;
pub mod context;
mod document;
pub mod minio;
pub mod service;

#[cfg(test)]
mod tests;
