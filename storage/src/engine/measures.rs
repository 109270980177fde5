//! What an engine tells of itself: its disks, its groups, its gc.
//!
//! Whoever adds a background task adds its counts here, so that an operator finds all in one
//! place.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Engine;
use crate::disk::{Disk, DiskState};
use crate::raft::group::Group;
use drystone_store::measure::Measure;

/// A disk that takes longer tells the rest without its space.
const SPACE_MAX: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) async fn measure(&self) -> Vec<Measure> {
        let mut measures = self.measure_disks().await;
        for (name, group) in [("system", &self.system), ("objects", &self.objects)] {
            measure_group(name, group, &mut measures).await;
        }
        self.measure_gc(&mut measures);
        self.measure_renewals(&mut measures);
        self.measure_heal(&mut measures).await;
        if let Ok(over) = self.over_quota().await {
            let help = "Buckets that hold more than their soft quotas; no more than 1000 are told.";
            let name = "buckets_over_soft_quota";
            measures.push(Measure::gauge(name, help, over.len() as f64));
        }
        measures
    }

    async fn measure_disks(&self) -> Vec<Measure> {
        let disks = self.shards.disks();
        let state = |wanted: fn(&DiskState) -> bool| {
            let found = disks.iter().filter(|disk| wanted(&disk.state().borrow()));
            found.count()
        };
        let failed = state(|state| matches!(state, DiskState::Failed(_)));
        let here = state(DiskState::is_up) + failed;
        let lost = self.disks_known().await.saturating_sub(here);
        let states = [
            ("online", state(DiskState::is_up)),
            ("poisoned", failed),
            ("offline", lost),
        ];
        let mut measures: Vec<_> = states
            .into_iter()
            .map(|(state, count)| {
                let help = "Disks by state. Poisoned: a write failed, none is tried any more.";
                Measure::gauge("disks", help, count as f64).label("state", state)
            })
            .collect();
        let each = disks.iter().map(|disk| {
            let is_suspect = self.shards.is_suspect(disk.id());
            measure_disk(disk.as_ref(), is_suspect)
        });
        measures.extend(join_all(each).await.into_iter().flatten());
        measures
    }

    async fn measure_heal(&self, measures: &mut Vec<Measure>) {
        let Ok(heal) = self.heal_status().await else {
            return;
        };
        for (name, help, count) in [
            (
                "heal_shards_healed_total",
                "Shards that were made anew.",
                heal.healed_shards,
            ),
            (
                "heal_bytes_healed_total",
                "Bytes of shards that were made anew.",
                heal.healed_bytes,
            ),
            (
                "heal_failures_total",
                "Tries to make a shard anew that failed.",
                heal.failures,
            ),
            (
                "heal_recoded_objects_total",
                "Narrow objects and parts that were coded again with all their shards.",
                heal.recoded_writes,
            ),
        ] {
            measures.push(Measure::counter(name, help, count));
        }
        let counts = &self.scrubber.counts;
        for (name, help, count) in [
            (
                "scrub_shards_read_total",
                "Shards that scrub has read.",
                &counts.shards,
            ),
            (
                "scrub_findings_total",
                "Shards that scrub found damaged or missing.",
                &counts.findings,
            ),
        ] {
            measures.push(Measure::counter(name, help, count.load(Ordering::Relaxed)));
        }
        if let Ok(scrub) = self.scrub_status().await {
            let help = "How far the pass of scrub is; 1 when the last one has ended.";
            let ratio = f64::from(scrub.percent) / 100.0;
            measures.push(Measure::gauge("scrub_pass_ratio", help, ratio));
        }
        let age = heal.oldest_ms.map_or(0, |since| self.env.now().0 - since);
        for (name, help, value) in [
            (
                "heal_queue_shards",
                "Shards that may be damaged, missing, or on a disk that is away.",
                heal.queued_shards as f64,
            ),
            (
                "heal_below_redundancy_objects",
                "Objects and parts that have a shard in the heal queue.",
                heal.queued_writes as f64,
            ),
            (
                "heal_narrow_objects",
                "Objects and parts with fewer shards than their class, for want of disks.",
                heal.narrow_writes as f64,
            ),
            (
                "heal_oldest_unhealed_seconds",
                "How long the shard that waits longest is in the heal queue.",
                age.max(0) as f64 / 1000.0,
            ),
            (
                "heal_lost_shards",
                "Queued shards of objects that have too few good ones left to be read.",
                heal.lost_shards as f64,
            ),
        ] {
            measures.push(Measure::gauge(name, help, value));
        }
    }

    fn measure_renewals(&self, measures: &mut Vec<Measure>) {
        let counts = &self.renewals;
        for (name, help, count) in [
            (
                "disk_renewals_total",
                "Disks that failed and were taken back with a new database.",
                &counts.renewed,
            ),
            (
                "disk_renewal_failures_total",
                "Tries to take a failed disk back that failed.",
                &counts.failed,
            ),
        ] {
            let count = count.load(Ordering::Relaxed);
            measures.push(Measure::counter(name, help, count));
        }
    }

    fn measure_gc(&self, measures: &mut Vec<Measure>) {
        let counts = &self.collected;
        for (name, help, count) in [
            (
                "gc_garbage_removed_total",
                "Data rows without a reference whose shards were removed.",
                &counts.garbage_removed,
            ),
            (
                "gc_orphans_removed_total",
                "Shards of writes that never ended, removed.",
                &counts.orphans_removed,
            ),
            (
                "gc_shards_confirmed_total",
                "Shards that gc found named and took off a disk's list.",
                &counts.orphans_confirmed,
            ),
        ] {
            let count = count.load(Ordering::Relaxed);
            measures.push(Measure::counter(name, help, count));
        }
        measures.push(Measure::gauge(
            "gc_epochs_lag",
            "How far the oldest reader or writer holds back the floor, in rounds of gc.",
            self.epochs.lag() as f64,
        ));
    }
}

async fn measure_disk(disk: &dyn Disk, is_suspect: bool) -> Vec<Measure> {
    let id = disk.id();
    let up = disk.state().borrow().is_up();
    let mut measures = Vec::new();
    for (name, help, holds) in [
        ("disk_up", "1 while the disk takes writes.", up),
        (
            "disk_suspect",
            "1 while the disk is passed over, as it did not answer in time.",
            is_suspect,
        ),
    ] {
        measures.push(Measure::gauge(name, help, f64::from(u8::from(holds))));
    }
    // A disk that is down has no space to tell of, and one that hangs doesn't tell it.
    if let Ok(Ok(space)) = timeout(SPACE_MAX, disk.space()).await {
        for (name, help, bytes) in [
            ("disk_total_bytes", "Size of the file system.", space.total),
            (
                "disk_free_bytes",
                "Free space of the file system.",
                space.free,
            ),
            (
                "disk_writable_bytes",
                "Free space without the reserve for metadata and deletes.",
                space.above_reserve,
            ),
        ] {
            measures.push(Measure::gauge(name, help, bytes as f64));
        }
    }
    measures.extend(disk.measures());
    let labelled = measures
        .into_iter()
        .map(|measure| measure.label("disk", id));
    labelled.collect()
}

async fn measure_group(name: &'static str, group: &Group, measures: &mut Vec<Measure>) {
    let status = group.status();
    let (lost, made) = group.replica_changes();
    let alive = match group.voters().await {
        Ok(voters) => voters.alive,
        // What was known last.
        Err(_) => status.voters.iter().filter(|voter| voter.alive).count(),
    };
    for measure in [
        Measure::counter(
            "metadata_leader_changes_total",
            "How often a metadata group got another leader.",
            group.leader_changes(),
        ),
        Measure::counter(
            "metadata_replicas_lost_total",
            "Metadata replicas that ended with their disk or its database.",
            lost,
        ),
        Measure::counter(
            "metadata_replicas_made_total",
            "Metadata replicas made on a disk in place of a lost one, or for a disk that joined.",
            made,
        ),
        Measure::gauge(
            "metadata_incarnation",
            "The number of recoveries of the metadata after most of its copies were lost.",
            group.incarnation() as f64,
        ),
        Measure::gauge(
            "metadata_voters_alive",
            "Metadata replicas that vote and are here.",
            alive as f64,
        ),
        Measure::gauge(
            "metadata_voters_needed",
            "Metadata replicas that must be here for a write.",
            status.quorum as f64,
        ),
    ] {
        measures.push(measure.label("group", name));
    }
}
