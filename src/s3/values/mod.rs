//! The values in headers, parameters and documents of S3, each in its own module.

pub mod acl;
pub mod attributes;
pub mod checksum;
pub mod copy_source;
pub mod paging;
pub mod precondition;
pub mod range;
pub mod tags;
