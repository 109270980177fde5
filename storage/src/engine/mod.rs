//! The engine: one process's store.
//!
//! `open` makes it from directories, `workers` keep it whole, and one file for each subject of the
//! store's face answers requests: `accounts`, `buckets`, `objects`, `listings`, `uploads`,
//! `instance`; `operate` answers the operator.

mod accounts;
mod buckets;
mod databases;
mod disk_set;
mod disks;
#[cfg(test)]
mod hung;
mod instance;
mod listings;
pub mod marks;
mod measures;
mod names;
mod objects;
mod open;
mod open_error;
mod operate;
mod options;
mod renew;
#[cfg(test)]
pub(crate) mod testing;
mod uploads;
mod workers;

use std::sync::Arc;

use self::disk_set::DiskSet;
use self::names::Names;
pub use self::open_error::OpenError;
pub use self::options::Options;
use self::workers::Workers;
use crate::raft::proposer::Proposer;
use crate::shards::Shards;
use drystone_store::env::Env;

/// One process's store: its disks, the metadata groups on them, and the workers that keep both
/// whole.
pub struct Engine {
    pub(crate) env: Arc<dyn Env>,
    /// Group 0: names, accounts, disks.
    pub(crate) system: Proposer,
    /// Group 1: buckets and their objects.
    pub(crate) objects: Proposer,
    pub(crate) shards: Arc<Shards>,
    names: Names,
    disks: DiskSet,
    pub(crate) workers: Workers,
}
