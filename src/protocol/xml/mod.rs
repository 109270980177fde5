//! Reading and writing AWS's XML, within bounds.

pub mod read;
pub mod write;
