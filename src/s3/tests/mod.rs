//! Whole requests against a server over the reference store.

mod buckets;
mod copies;
mod listings;
mod multipart;
mod objects;
mod requests;
