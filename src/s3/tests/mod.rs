//! Whole requests against a server over the reference store.

mod buckets;
mod checksums;
mod connections;
mod copies;
mod forms;
mod fuzz;
mod keys;
mod listings;
mod multipart;
mod objects;
mod pages;
mod paths;
mod requests;
mod versions;
