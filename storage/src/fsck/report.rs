//! The report of a check.

use std::collections::BTreeMap;

use serde::Serialize;

/// The result of a check: the worst finding decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every promise is kept.
    Whole,
    /// Nothing is lost, but something must be rebuilt.
    Degraded,
    /// The metadata contradict themselves.
    Inconsistent,
    /// Acknowledged bytes can no longer be read from these disks.
    Lost,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    pub disks: Vec<DiskReport>,
    pub groups: Vec<GroupReport>,
    pub buckets: u64,
    /// Keys that have a current version.
    pub objects: StateCounts,
    /// All versions that are objects, current ones included.
    pub versions: StateCounts,
    pub delete_markers: u64,
    /// Uploads that are neither completed nor aborted, and their parts.
    pub uploads: u64,
    pub parts: StateCounts,
    /// The writes that the metadata name: the bytes of one object or of one part.
    pub writes: StateCounts,
    /// The writes that are stored in shards, by geometry.
    pub geometries: BTreeMap<String, u64>,
    pub shards: ShardCounts,
    pub files: FileCounts,
    /// The number of shards that are queued for heal.
    pub heal_queue: u64,
    /// The number of writes that are queued for re-encoding, as disks were missing or full when
    /// they were made.
    pub undersized: u64,
    /// The damaged keys, up to the limit. `damaged_count` counts all, as does `problem_count`.
    pub damaged: Vec<DamagedKey>,
    pub damaged_count: u64,
    pub problems: Vec<String>,
    pub problem_count: u64,
}

impl Report {
    /// Decides the verdict.
    pub(super) fn judge(&self) -> Verdict {
        let lost = self.versions.lost + self.parts.lost + self.writes.lost;
        let disks = self.disks.iter().any(|disk| disk.problem.is_some());
        let replicas = self.groups.iter().any(GroupReport::is_short);
        let degraded =
            self.writes.degraded + self.undersized + self.files.unknown + self.shards.not_whole();
        if lost > 0 {
            Verdict::Lost
        } else if self.problem_count > 0 {
            Verdict::Inconsistent
        } else if degraded > 0 || disks || replicas {
            Verdict::Degraded
        } else {
            Verdict::Whole
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct DiskReport {
    pub directory: String,
    pub id: Option<String>,
    /// The reason why the disk or its database cannot be used.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct GroupReport {
    pub group: u64,
    pub voters: u64,
    /// The log entry up to which the group was checked.
    pub applied: u64,
    pub replicas: Vec<ReplicaReport>,
}

impl GroupReport {
    fn is_short(&self) -> bool {
        let good = |replica: &&ReplicaReport| {
            matches!(replica.state, ReplicaState::Equal | ReplicaState::Behind)
        };
        (self.replicas.iter().filter(good).count() as u64) < self.voters
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct ReplicaReport {
    pub disk: String,
    pub state: ReplicaState,
    pub applied: Option<u64>,
    pub problem: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// All its rows are equal to those of the replica that was checked.
    Equal,
    /// Its log is shorter. The others bring it up to date at the next start.
    Behind,
    /// It has applied the same entries and has other rows.
    Differs,
    Unreadable,
    /// It belongs to an earlier incarnation or does not vote, so it is not used.
    Stale,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StateCounts {
    pub whole: u64,
    /// Readable, with fewer whole shards than promised.
    pub degraded: u64,
    pub lost: u64,
}

impl StateCounts {
    pub(super) fn add(&mut self, state: DataState) {
        match state {
            DataState::Whole => self.whole += 1,
            DataState::Degraded => self.degraded += 1,
            DataState::Lost => self.lost += 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataState {
    Whole,
    Degraded,
    Lost,
}

/// The shards that data rows name, by what was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShardCounts {
    pub whole: u64,
    /// Not on the disk where they should be.
    pub missing: u64,
    pub damaged: u64,
    /// On a disk that was not given, was removed, or cannot be read.
    pub offline: u64,
    /// Never written, as their disk failed during the write. The row says so.
    pub unwritten: u64,
}

impl ShardCounts {
    fn not_whole(&self) -> u64 {
        self.missing + self.damaged + self.offline + self.unwritten
    }
}

/// The files in the folders of shards that no data row names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileCounts {
    /// They are in their disk's list of unconfirmed shards. The next start removes them.
    pub unconfirmed: u64,
    /// Garbage rows name them. They are removed once no reader can need them.
    pub garbage: u64,
    /// Nothing names them. Scrub finds them.
    pub unknown: u64,
}

/// A version or an uploaded part that is not whole.
#[derive(Clone, Debug, Serialize)]
pub struct DamagedKey {
    pub state: DataState,
    pub bucket: String,
    pub key: String,
    /// The version's id, for a version.
    pub version: Option<String>,
    /// The upload's id, for a part of an unfinished upload.
    pub upload: Option<String>,
    pub part: Option<u16>,
    pub size: u64,
    pub reasons: Vec<String>,
}
