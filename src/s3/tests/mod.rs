//! Whole requests against a server over the reference store.

mod buckets;
mod checksums;
mod copies;
mod listings;
mod multipart;
mod objects;
mod requests;
