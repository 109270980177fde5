//! Runs real processes: the server as it is shipped, and the clients that people use.
//!
//! `tests/run.sh` builds the binary, installs the clients and runs this.
#![allow(clippy::unwrap_used)]

mod bench;
mod births;
mod clients;
mod command_line;
mod crash;
mod crash_points;
mod crowds;
mod damage;
mod damaged_metadata;
mod failing_disks;
mod fsck;
mod full_disks;
mod https;
mod lost_disks;
mod metrics;
mod new_mounts;
mod prefix;
mod quotas;
mod redundancy;
mod replaced_disks;
mod server;
mod signing;
mod small_disks;
mod starting;
mod upkeep_points;

use drystone_examiner::s3;
