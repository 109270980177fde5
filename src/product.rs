//! The product's name, once.
//!
//! Nothing kept on disk or sent over the wire contains it: renaming the product is a change of
//! this file, of the packages' names and of the documents.

/// The name of the program, in its help and its log.
pub const NAME: &str = "drystone";

/// The beginning of the names of its environment variables.
pub const ENVIRONMENT_PREFIX: &str = "DRYSTONE_";

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
