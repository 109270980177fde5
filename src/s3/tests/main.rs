//! Whole requests against a server over the reference store.
#![allow(clippy::unwrap_used)]

mod buckets;
mod checksums;
mod conditions;
mod connections;
mod copies;
mod crowds;
mod forms;
mod fuzz;
mod keys;
mod listings;
mod metadata;
mod multipart;
mod objects;
mod pages;
mod prefix;
mod quotas;
mod requests;
mod tls;
mod versions;
