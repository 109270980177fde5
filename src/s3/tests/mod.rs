//! Whole requests against a server over the reference store.

mod objects;
mod requests;
