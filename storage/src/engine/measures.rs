//! The metrics of an engine: those of its disks, its groups and its workers.

use super::Engine;
use crate::disk::{Disk, DiskState};
use crate::raft::group::Group;
use crate::workers::survey;
use drystone_store::measure::Measure;

impl Engine {
    pub(super) async fn measure_disks(&self) -> Vec<Measure> {
        let disks = self.shards.disks();
        let state = |wanted: fn(&DiskState) -> bool| {
            let found = disks.iter().filter(|disk| wanted(&disk.state().borrow()));
            found.count()
        };
        let failed = state(|state| matches!(state, DiskState::Failed(_)));
        let here = state(DiskState::is_up) + failed;
        let lost = self.expected_disks().await.saturating_sub(here);
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
        measures.extend(disks.iter().flat_map(|disk| {
            let is_suspect = self.shards.is_suspect(disk.id());
            measure_disk(disk.as_ref(), is_suspect)
        }));
        measures
    }
}

impl Engine {
    /// Returns how many losses are survived; without the metadata's answer, nothing.
    pub(super) async fn measure_redundancy(&self) -> Vec<Measure> {
        let Ok(standing) = self.standing().await else {
            return Vec::new();
        };
        let survey = self.workers.surveyor.last();
        let redundancy = survey::redundancy(survey.as_deref(), &standing);
        let mut measures = vec![Measure::gauge(
            "write_losses_survived",
            "Further disks that may be lost at once while writes are accepted.",
            redundancy.writes_survive as f64,
        )];
        if let Some(reads) = redundancy.reads_survive {
            let help = "Further disks that may be lost at once while all objects can be read.";
            measures.push(Measure::gauge("read_losses_survived", help, reads as f64));
        }
        if let Some(writes) = redundancy.unreadable_writes {
            let help = "Objects and parts with too few good shards on disks that are up.";
            measures.push(Measure::gauge("unreadable_objects", help, writes as f64));
        }
        measures
    }
}

fn measure_disk(disk: &dyn Disk, is_suspect: bool) -> Vec<Measure> {
    let id = disk.id();
    let up = disk.state().borrow().is_up();
    let mut measures = Vec::new();
    for (name, help, holds) in [
        ("disk_up", "1 while the disk accepts writes.", up),
        (
            "disk_suspect",
            "1 while the disk is avoided because it does not answer in time.",
            is_suspect,
        ),
    ] {
        measures.push(Measure::gauge(name, help, f64::from(u8::from(holds))));
    }
    // A disk that is down has no space to report.
    if let Ok(space) = disk.space() {
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

pub(super) async fn measure_group(name: &'static str, group: &Group, measures: &mut Vec<Measure>) {
    let status = group.status();
    let (lost, made) = group.replica_changes();
    let alive = match group.voters().await {
        Ok(voters) => voters.alive,
        // The last known number.
        Err(_) => status.voters.iter().filter(|voter| voter.alive).count(),
    };
    for measure in [
        Measure::counter(
            "metadata_leader_changes_total",
            "How often the metadata group got another leader.",
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
            "Metadata replicas that vote and are online.",
            alive as f64,
        ),
        Measure::gauge(
            "metadata_voters_needed",
            "Metadata replicas that must be online for a write.",
            status.quorum as f64,
        ),
    ] {
        measures.push(measure.label("group", name));
    }
}
