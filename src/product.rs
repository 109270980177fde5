//! The product's name, once.
//!
//! Nothing kept on disk or sent over the wire contains it: renaming the product is a change of
//! this file, of the packages' names and of the documents.

/// What the program is called, in its help and its log.
pub const NAME: &str = "drystone";

/// What the names of its environment variables begin with.
pub const ENVIRONMENT_PREFIX: &str = "DRYSTONE_";

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
