//! The options of a store, and the storage classes that they give.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::open_error::OpenError;
use crate::db::Resources;
use crate::shards::Classes;
use crate::shards::erasure::Geometry;
use drystone_store::crash::Crash;
use drystone_store::env::{Env, SystemEnv};

const DEFAULT_CLASS: &str = "STANDARD";
/// Epochs are raised and garbage is removed this often.
const GC_EVERY: Duration = Duration::from_secs(600);
/// As a machine starts, its disks may come online one after the other.
const RECOVER_AFTER: Duration = Duration::from_secs(10);
/// The time before the first attempt to renew a disk that failed.
const RENEW_AFTER: Duration = Duration::from_secs(5);

/// The pause between two looks at the disks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The options of a store.
#[derive(Clone)]
pub struct Options {
    pub directories: Vec<PathBuf>,
    /// The file outside the disks that has the store's directories, so that no new store is born
    /// while all of them are missing. `None`: none is kept.
    pub state_file: Option<PathBuf>,
    /// A new store is created on empty disks, whatever the state file says.
    pub new_store: bool,
    /// An empty disk that is mounted in the place of a lost one is its replacement. It takes a
    /// state file to know it.
    pub replace_by_mounts: bool,
    /// Data and parity shards by storage class. A class that is missing here is stored as STANDARD
    /// is, and STANDARD, if it is missing, by the number of disks.
    pub classes: BTreeMap<String, (u8, u8)>,
    pub env: Arc<dyn Env>,
    /// The memory that the databases of all disks may use together, for their caches and memtables.
    pub metadata_memory_bytes: u64,
    /// The number of cores, of which the databases use a part for compactions.
    pub cores: usize,
    /// The number of descriptors of the process, of which the databases use a part for tables.
    pub descriptors: u64,
    pub gc_every: Duration,
    /// How long a start waits for disks that are missing before it recovers the metadata without
    /// them.
    pub recover_after: Duration,
    /// The time before the first attempt to renew a disk that failed; each further attempt waits
    /// four times as long.
    pub renew_after: Duration,
    /// The pause between two looks of the watchdog: a disk that hangs is suspect after four looks
    /// and given up after sixty.
    pub look_every: Duration,
    /// The points at which a test stops this engine.
    pub crash: Crash,
}

impl Options {
    pub fn new(directories: Vec<PathBuf>) -> Options {
        Options {
            directories,
            state_file: None,
            new_store: false,
            replace_by_mounts: true,
            classes: BTreeMap::new(),
            env: Arc::new(SystemEnv),
            metadata_memory_bytes: Resources::SMALL.memory_bytes,
            cores: Resources::SMALL.cores,
            descriptors: Resources::SMALL.descriptors,
            gc_every: GC_EVERY,
            recover_after: RECOVER_AFTER,
            renew_after: RENEW_AFTER,
            look_every: LOOK_EVERY,
            crash: Crash::default(),
        }
    }

    /// Returns what the databases may use.
    pub(super) fn resources(&self) -> Resources {
        Resources {
            memory_bytes: self.metadata_memory_bytes,
            cores: self.cores,
            descriptors: self.descriptors,
            databases: self.directories.len(),
            disk_bytes: u64::MAX,
        }
    }

    /// Returns the geometry of each class, checked against the number of disks.
    pub(super) fn geometries(&self) -> Result<Classes, OpenError> {
        let disks = self.directories.len();
        let mut by_name = HashMap::new();
        for (class, &(data, parity)) in &self.classes {
            let geometry = Geometry::new(data, parity).filter(|g| g.total() <= disks);
            let geometry = geometry.ok_or_else(|| OpenError::Geometry {
                class: class.clone(),
                data,
                parity,
                disks,
            })?;
            by_name.insert(class.clone(), geometry);
        }
        let default = by_name.get(DEFAULT_CLASS).copied();
        Ok(Classes {
            default: default.unwrap_or_else(|| Geometry::default_for(disks)),
            by_name,
        })
    }
}
