//! What a check found.

use std::collections::BTreeMap;

use serde::Serialize;

/// The worst of what was found decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every promise is kept.
    Whole,
    /// Nothing is lost, but something has to be made anew.
    Degraded,
    /// The metadata contradicts itself.
    Inconsistent,
    /// Bytes that were acknowledged can't be read any more from these disks.
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
    /// Uploads that are neither completed nor aborted, and the parts they have.
    pub uploads: u64,
    pub parts: StateCounts,
    /// Runs of bytes that the metadata names: of an object, of a part.
    pub writes: StateCounts,
    /// Those in shards, by geometry.
    pub geometries: BTreeMap<String, u64>,
    pub shards: ShardCounts,
    pub files: FileCounts,
    /// Rows that ask for a shard to be made anew.
    pub heal_queue: u64,
    /// Runs of bytes with fewer shards than their class, for want of disks when they were written.
    pub undersized: u64,
    /// Up to the limit, as `problems`; the counts are of all.
    pub damaged: Vec<DamagedKey>,
    pub damaged_count: u64,
    pub problems: Vec<String>,
    pub problem_count: u64,
}

impl Report {
    /// What it comes to.
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
    /// Why it, or its database, can't be used.
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
    /// Row by row the same as the one that was checked.
    Equal,
    /// Its log is shorter; the others bring it up to date at the next start.
    Behind,
    /// It has applied the same entries and come to other rows.
    Differs,
    Unreadable,
    /// Of the group as it was before this one's voters were chosen; it counts no more.
    Stale,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StateCounts {
    pub whole: u64,
    /// Readable, with fewer whole shards than were promised.
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

/// Shards that data rows name.
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

/// Files in the folders of shards that no data row names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileCounts {
    /// In their disk's list of unconfirmed shards: the next start removes them.
    pub unconfirmed: u64,
    /// Named by garbage rows: removed once no reader can need them.
    pub garbage: u64,
    /// Nothing will ever remove these.
    pub unknown: u64,
}

/// A version or an uploaded part that is not whole.
#[derive(Clone, Debug, Serialize)]
pub struct DamagedKey {
    pub state: DataState,
    pub bucket: String,
    pub key: String,
    /// Of a version.
    pub version: Option<String>,
    /// Of an upload that is not finished.
    pub upload: Option<String>,
    pub part: Option<u16>,
    pub size: u64,
    pub reasons: Vec<String>,
}
