//! The examiner: loads a Drystone server, breaks something under it, and says whether it kept its
//! promises.
//!
//! It knows the server from outside alone: its command line, its ports, and the files on its
//! disks where it damages them. Of the product's crates it uses none, so that no mistake of theirs
//! can hide in it.
// An examiner that stumbles has not passed anyone: it may panic.
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
