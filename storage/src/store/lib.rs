//! The face of a store: the words, the errors and the traits that everything above it uses.
//!
//! The front end knows a store by this crate alone; the storage engine implements it. It holds the
//! ground as well that both planes of the engine stand on: checksums, the environment, crash
//! points, measures. `model` is the reference: a store in memory that shows what each call means.
//! Nothing here knows HTTP, and but for `env`, which is the way to the machine, nothing does I/O.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests look at the machine's files, wait and spawn past the environment"
    )
)]

pub mod checksum;
pub mod crash;
pub mod env;
pub mod error;
pub mod measure;
pub mod model;
pub mod operator;
pub mod quota;
pub mod shard_set;
pub mod store;
pub mod types;
pub mod workers;
