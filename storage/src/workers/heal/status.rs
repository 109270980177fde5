//! The healer as a worker, and what it says about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{Healer, RoundSummary};
use crate::workers::retries::RETRY_AFTER;
use drystone_store::error::Result;
use drystone_store::measure::Measure;
use drystone_store::operator::HealStatus;
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, Pace, StepError, Wakeup, Worker};

/// The most rows of a queue that are counted; past it there are "more".
const QUEUE_COUNTED_MAX: usize = 200_000;

#[async_trait]
impl Worker for Healer {
    fn name(&self) -> &'static str {
        "heal"
    }

    async fn step(&self) -> Result<Next, StepError> {
        let begun = self.objects.env.instant();
        let summary = self.round().await?;
        *self.summary.lock() = summary;
        Ok(self.retries.next_due(begun, summary.no_disk > 0).into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    fn retry_after(&self) -> Duration {
        RETRY_AFTER
    }

    /// A long queue that can only wait is not gone through without a rest.
    fn rest(&self, took: Duration) -> Duration {
        took
    }

    fn pace(&self) -> Option<Arc<Pace>> {
        Some(self.pace.clone())
    }

    fn status(&self) -> Option<String> {
        let RoundSummary {
            waiting,
            no_disk,
            lost,
            failed,
        } = self.summary();
        let parts: Vec<_> = [
            (waiting, "wait for offline disks"),
            (no_disk, "have no disk to be stored on"),
            (lost, "are lost"),
            (failed, "will be tried again"),
        ]
        .into_iter()
        .filter(|(shards, _)| *shards > 0)
        .map(|(shards, what)| format!("{shards} {what}"))
        .collect();
        (!parts.is_empty()).then(|| format!("shards: {}", parts.join(", ")))
    }

    async fn measures(&self) -> Vec<Measure> {
        let queue = self
            .objects
            .group
            .read(|view| view.heal_queue(QUEUE_COUNTED_MAX));
        let Ok(queue) = queue.await else {
            return Vec::new();
        };
        let mut measures = Vec::new();
        for (name, help, count) in [
            (
                "heal_shards_healed_total",
                "Shards that were rebuilt.",
                load(&self.counts.healed),
            ),
            (
                "heal_bytes_healed_total",
                "Bytes of shards that were rebuilt.",
                load(&self.counts.bytes),
            ),
            (
                "heal_failures_total",
                "Tries to rebuild a shard or to re-encode an object that failed.",
                self.failures(),
            ),
        ] {
            measures.push(Measure::counter(name, help, count));
        }
        let now = self.objects.env.now();
        let age = queue.oldest.map_or(0, |since| now.0 - since.0);
        for (name, help, value) in [
            (
                "heal_queue_shards",
                "Shards that may be damaged, missing, or on a disk that is offline.",
                queue.shards as f64,
            ),
            (
                "heal_below_redundancy_objects",
                "Objects and parts that have a shard in the heal queue.",
                queue.writes as f64,
            ),
            (
                "heal_oldest_unhealed_seconds",
                "How long the oldest shard has been in the heal queue.",
                age.max(0) as f64 / 1000.0,
            ),
            (
                "heal_lost_shards",
                "Queued shards of objects that have too few good ones left to be read.",
                self.summary().lost as f64,
            ),
        ] {
            measures.push(Measure::gauge(name, help, value));
        }
        measures
    }
}

impl Healer {
    /// The state of the heal queue and of undersized writes.
    ///
    /// `removed` are the disks that were removed, and `is_inventory_under_way` says whether some
    /// disk may lack shards that nobody knows of. Both are asked before the queue is: what is
    /// queued meanwhile is counted here.
    pub async fn heal_status(
        &self,
        removed: Vec<DiskId>,
        is_inventory_under_way: bool,
    ) -> Result<HealStatus> {
        // Before the queues: what is counted as done is in none of them any more.
        let done = HealStatus {
            paused: self.pace.is_paused(),
            bytes_per_second: self.pace.rate(),
            healed_shards: load(&self.counts.healed),
            healed_bytes: load(&self.counts.bytes),
            reencoded_writes: self.reencoder.reencoded(),
            failures: self.failures(),
            ..HealStatus::default()
        };
        let read = self.objects.group.read(move |view| {
            let recorded = view.removed_disks()?;
            // The shards of a removed disk may not be in the queue yet, and will be rebuilt all the
            // same.
            let queueing = removed
                .iter()
                .any(|disk| !recorded.contains(&(*disk, true)));
            let undersized = view.undersized_count(QUEUE_COUNTED_MAX)?;
            Ok((view.heal_queue(QUEUE_COUNTED_MAX)?, undersized, queueing))
        });
        let ((queue, undersized, queueing), summary) = (read.await?, self.summary());
        Ok(HealStatus {
            queued_shards: queue.shards,
            queued_writes: queue.writes,
            queued_more: queue.more,
            oldest_ms: queue.oldest.map(|oldest| oldest.0),
            waiting_shards: summary.waiting,
            no_disk_shards: summary.no_disk,
            lost_shards: summary.lost,
            queueing: queueing || is_inventory_under_way,
            undersized_writes: undersized,
            undersized_more: undersized >= QUEUE_COUNTED_MAX as u64,
            undersized_waiting: undersized > 0 && self.reencoder.summary().no_disk > 0,
            ..done
        })
    }

    fn failures(&self) -> u64 {
        load(&self.counts.failed) + self.reencoder.failures()
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
