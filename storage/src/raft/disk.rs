//! Disks as the groups see them: with an open database, and able to hold replicas.

use std::sync::Arc;

use super::log_meter::LogMeter;
use super::network::Router;
use crate::db::Db;
use drystone_store::types::DiskId;

/// A disk with its database open.
#[derive(Clone)]
pub struct OpenDisk {
    pub id: DiskId,
    pub db: Arc<Db>,
}

impl OpenDisk {
    pub(super) fn has_failed(&self) -> bool {
        self.db.failure().borrow().is_some()
    }

    pub(super) fn for_replicas(&self, router: &Router) -> ReplicaDisk {
        ReplicaDisk {
            id: self.id,
            db: self.db.clone(),
            meter: router.meter(self.id),
        }
    }
}

/// A disk that can hold replicas.
#[derive(Clone)]
pub struct ReplicaDisk {
    pub id: DiskId,
    pub db: Arc<Db>,
    pub meter: Arc<LogMeter>,
}

impl ReplicaDisk {
    pub fn open_disk(&self) -> OpenDisk {
        OpenDisk {
            id: self.id,
            db: self.db.clone(),
        }
    }
}
