//! Disks as groups see them: with an open database, and as places for replicas.

use std::sync::Arc;

use super::log::LogMeter;
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

    pub(super) fn place(&self, router: &Router) -> Place {
        Place {
            disk: self.id,
            db: self.db.clone(),
            meter: router.meter(self.id),
        }
    }
}

/// A disk that can bear replicas.
#[derive(Clone)]
pub struct Place {
    pub disk: DiskId,
    pub db: Arc<Db>,
    pub meter: Arc<LogMeter>,
}

impl Place {
    pub fn open(&self) -> OpenDisk {
        OpenDisk {
            id: self.disk,
            db: self.db.clone(),
        }
    }
}
