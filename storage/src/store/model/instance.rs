//! The model as a running store: it has neither disks nor upkeep.

use async_trait::async_trait;

use super::state::MemoryStore;
use crate::instance::{Health, Instance};
use crate::measure::Measure;

#[async_trait]
impl Instance for MemoryStore {
    async fn health(&self) -> Health {
        Health {
            disks_online: 1,
            disks_offline: 0,
            can_read: true,
            can_write: true,
            metadata_quorum: 1,
            data_shards: 1,
            parity_shards: 0,
        }
    }

    async fn measures(&self) -> Vec<Measure> {
        Vec::new()
    }

    async fn close(&self) {}
}
