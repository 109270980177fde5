//! The examiner: loads a Drystone server, breaks something under it, and says whether it kept its
//! promises.
//!
//! It knows the server from outside alone: its command line, its ports, and the files on its
//! disks where it damages them. Of the product's crates it uses none, so that no mistake of theirs
//! can hide in it.
// An examiner that stumbles has not passed anyone: it may panic.
#![allow(clippy::unwrap_used)]

pub mod s3;
