//! The node as its operator sees it.

use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::Node;
use crate::error::Result;
use crate::operator::{HealStatus, Operator, Status};

/// Rows of the heal queue that are counted; past it there are "more".
const QUEUE_COUNTED_MAX: usize = 1_000_000;

#[async_trait]
impl Operator for Node {
    async fn status(&self) -> Result<Status> {
        Ok(Status {
            heal: self.heal_status().await?,
        })
    }
}

impl Node {
    async fn heal_status(&self) -> Result<HealStatus> {
        let queue = self.objects.read(|view| view.queue(QUEUE_COUNTED_MAX));
        let (queue, left) = (queue.await?, self.healer.left());
        let counts = &self.healer.counts;
        Ok(HealStatus {
            paused: self.healer.is_paused(),
            queued_shards: queue.shards,
            queued_writes: queue.writes,
            queued_more: queue.more,
            oldest_ms: queue.oldest.map(|oldest| oldest.0),
            waiting_shards: left.waiting,
            no_disk_shards: left.no_disk,
            lost_shards: left.lost,
            healed_shards: counts.healed.load(Ordering::Relaxed),
            healed_bytes: counts.bytes.load(Ordering::Relaxed),
            failures: counts.failed.load(Ordering::Relaxed),
        })
    }
}
