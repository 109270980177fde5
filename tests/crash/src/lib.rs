//! The examiner: loads a Drystone server, breaks something under it, and reports whether it kept
//! its promises.
//!
//! It knows the server from outside alone: its command line, its ports, and the files on its disks
//! where it damages them. It uses none of the product's crates, so a mistake in them cannot hide
//! here.
// An examiner that fails has passed nobody: it may panic.
#![allow(clippy::unwrap_used)]

pub mod audit;
mod cheap;
pub mod checker;
pub mod exam;
pub mod history;
pub mod linear;
pub mod model;
pub mod nemesis;
pub mod rig;
pub mod s3;
pub mod subject;
pub mod toy;
pub mod value;
mod whole;
pub mod workload;
