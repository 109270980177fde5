//! The face of a store: the words, the errors and the traits that everything above it uses.
//!
//! The front end knows a store by this crate alone; the storage engine implements it. It also holds
//! the ground that both planes of the engine stand on: checksums, the environment, crash points,
//! locks, measures. `model` is the reference: a store in memory that shows what each call means.
//! Nothing here knows HTTP, and only `env`, which is the way to the machine, does I/O.
//!
//! One trait for each subject: [`accounts`], [`buckets`], [`objects`], [`listings`], [`uploads`],
//! and [`instance`] for the running store; [`ObjectStore`] is all of them. The erasure-coded engine
//! and the model implement each alike. Callers speak in buckets, keys, versions, parts and byte
//! ranges. They verify names and limits, authenticate and authorise before they call.
//!
//! # What an implementation must guarantee
//!
//! - **Durable**: `Ok` from a method that changes something means the change survives a crash
//!   and the loss of as many disks as the geometry says.
//! - **Linearizable**: a read or listing sees every change acknowledged before it began.
//! - **All or nothing**: a version appears in one step. An error leaves nothing visible, and the
//!   bytes written so far are collected later.
//! - **Decided once**: preconditions, versioning state and the bucket's existence are checked where
//!   the order is decided. Of racing conditional writers one wins.
//! - **Byte-exact or error**: a body is read as it was written, or the stream ends in an error; it
//!   never ends short.
//! - **Driven to the end**: once a change is proposed it is completed, even if the caller's future
//!   is dropped.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests look at the machine's files, wait and spawn past the environment"
    )
)]

pub mod accounts;
pub mod body;
pub mod buckets;
pub mod checksum;
pub mod crash;
pub mod env;
pub mod error;
pub mod instance;
pub mod listings;
pub mod lock;
pub mod measure;
pub mod model;
pub mod objects;
pub mod operator;
pub mod quota;
pub mod shard_set;
pub mod types;
pub mod uploads;
pub mod workers;

/// A whole store: every subject's trait. Implemented by whatever implements them all.
pub trait ObjectStore:
    accounts::Accounts
    + buckets::Buckets
    + objects::Objects
    + listings::Listings
    + uploads::Uploads
    + instance::Instance
{
}

impl<S> ObjectStore for S where
    S: accounts::Accounts
        + buckets::Buckets
        + objects::Objects
        + listings::Listings
        + uploads::Uploads
        + instance::Instance
{
}
