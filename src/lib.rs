//! Drystone's front end: S3 over HTTP, and what runs it.
//!
//! `main → cli → app → services (s3, admin, probes) → iam → auth → http → protocol`: each names
//! what stands behind it alone, and no service another. All may name the public face of
//! `drystone_storage`. ARCHITECTURE.md has the map.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod probes;
pub mod product;
pub mod telemetry;
