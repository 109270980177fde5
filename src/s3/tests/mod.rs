//! Whole requests against a server over the reference store.

mod copies;
mod objects;
mod requests;
