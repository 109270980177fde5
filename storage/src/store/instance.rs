//! A store as a running thing: its health, its measures and its end.

use async_trait::async_trait;

use crate::measure::Measure;

/// The state of a store that the health endpoints and the start banner show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub disks_online: usize,
    pub disks_offline: usize,
    /// Every metadata group answers a linearizable read.
    pub can_read: bool,
    /// The store can read, and enough disks are up for a write.
    pub can_write: bool,
    /// The number of the metadata group's voters that must agree.
    pub metadata_quorum: usize,
    /// The geometry of the default class.
    pub data_shards: usize,
    pub parity_shards: usize,
}

/// One running store.
///
/// # What an implementation must guarantee
///
/// - **Health is of now**: disks and groups are asked at the call; no answer is remembered.
/// - **Closing is orderly**: what was acknowledged is on the disks before `close` returns, and all
///   locks and files are released soon after, so that another process can open the store.
#[async_trait]
pub trait Instance: Send + Sync + 'static {
    async fn health(&self) -> Health;

    /// Returns all counters and gauges as of now.
    async fn measures(&self) -> Vec<Measure>;

    /// Ends background work and closes the disks. Called once, after the last request.
    async fn close(&self);
}
