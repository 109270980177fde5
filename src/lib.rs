//! Drystone's front end: S3 over HTTP, and what runs it.
//!
//! `main → cli → node → admin → s3`; handlers in `s3::ops` use `s3`, `auth`, `iam` and the public
//! face of `drystone_storage`, nothing else. ARCHITECTURE.md has the map.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod iam;
pub mod node;
pub mod product;
pub mod s3;
pub mod telemetry;
pub mod tls;
