//! The check of a group's replicas: the newest log is applied to each, and all are compared.

use std::collections::{BTreeMap, HashMap};

use xxhash_rust::xxh3::Xxh3;

use super::disk::StoppedDisk;
use super::report::{GroupReport, ReplicaReport, ReplicaState};
use super::scan::Scan;
use crate::db::{Family, StateId};
use crate::raft::inspect::{Position, Replica, catch_up};
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// The table that says how far a replica has applied the log. It may differ between replicas.
const TABLE_APPLIED: u8 = 0x01;

/// A group, with the replica that all others are compared with.
pub struct CheckedGroup {
    pub reference: Replica,
    pub report: GroupReport,
    /// The differences between replicas that should be equal.
    pub differences: Vec<String>,
}

/// The checksum of each table.
type Digest = BTreeMap<(&'static str, u8), u64>;

struct ReplicaCheck {
    disk: String,
    replica: Replica,
    read: Result<Option<ReplicaContents>>,
}

struct ReplicaContents {
    applied: Position,
    digest: Digest,
}

/// Checks the replicas of `group` on all disks. Those on distrusted disks are reported, and say
/// nothing. Returns `None` if no replica can be read.
pub fn check(
    disks: &[StoppedDisk],
    distrusted: &HashMap<DiskId, &'static str>,
    group: u64,
) -> Result<Option<CheckedGroup>> {
    let (mut found, mut unused) = (Vec::new(), Vec::new());
    for disk in disks {
        let replicas = disk.database.iter().flat_map(|database| &database.replicas);
        let own = replicas.filter(|replica| replica.group() == group);
        let to = match distrusted.contains_key(&disk.id()) {
            true => &mut unused,
            false => &mut found,
        };
        to.extend(own.map(|replica| (disk.directory(), replica.clone())));
    }
    // Replicas from before a recovery of the group do not count any more.
    let incarnation = found.iter().map(|(_, replica)| replica.incarnation()).max();
    let (mut current, stale): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(_, replica)| Some(replica.incarnation()) == incarnation);
    // The other replicas will get what the newest log has.
    current.sort_by_key(|(_, replica)| std::cmp::Reverse(replica.log_end));
    let mut newest = None;
    for (_, replica) in &current {
        if newest.is_none() && catch_up(replica, replica).is_ok() {
            newest = Some(replica.clone());
        }
    }
    let Some(newest) = newest else {
        return Ok(None);
    };
    let checks: Vec<ReplicaCheck> = current
        .into_iter()
        .map(|(disk, replica)| ReplicaCheck {
            disk,
            read: read(&replica, &newest),
            replica,
        })
        .collect();
    let Some(reference) = reference(&checks) else {
        return Ok(None);
    };
    let mut group = report(group, reference, &checks)?;
    group.report.replicas.extend(
        stale
            .into_iter()
            .chain(unused)
            .map(|(disk, _)| ReplicaReport {
                disk,
                state: ReplicaState::Stale,
                applied: None,
                problem: None,
            }),
    );
    Ok(Some(group))
}

/// Returns the first of the replicas that could be read to the end and have applied most.
fn reference(checks: &[ReplicaCheck]) -> Option<(&ReplicaCheck, &ReplicaContents)> {
    let readable = checks.iter().rev().filter_map(|check| {
        let read = check.read.as_ref().ok()?.as_ref()?;
        Some((check, read))
    });
    readable.max_by_key(|(_, read)| read.applied)
}

fn report(
    group: u64,
    (reference, expected): (&ReplicaCheck, &ReplicaContents),
    all: &[ReplicaCheck],
) -> Result<CheckedGroup> {
    let voters = reference.replica.voters()?;
    let mut differences = Vec::new();
    let mut reports = Vec::new();
    for ReplicaCheck {
        disk,
        replica,
        read,
    } in all
    {
        let votes = voters.iter().any(|(voter, _)| *voter == replica.id());
        let (state, applied, problem) = match read {
            _ if !votes => (ReplicaState::Stale, None, None),
            Ok(Some(read)) if read.applied != expected.applied => {
                (ReplicaState::Behind, Some(read.applied.index), None)
            }
            Ok(Some(read)) if read.digest == expected.digest => {
                (ReplicaState::Equal, Some(read.applied.index), None)
            }
            Ok(Some(read)) => {
                let what = differing(&expected.digest, &read.digest);
                differences.push(format!("group {group} on {disk}: {what}"));
                (ReplicaState::Differs, Some(read.applied.index), Some(what))
            }
            Ok(None) => (ReplicaState::Behind, None, None),
            Err(error) => (ReplicaState::Unreadable, None, Some(error.to_string())),
        };
        reports.push(ReplicaReport {
            disk: disk.clone(),
            state,
            applied,
            problem,
        });
    }
    Ok(CheckedGroup {
        reference: reference.replica.clone(),
        report: GroupReport {
            group,
            voters: voters.len() as u64,
            applied: expected.applied.index,
            replicas: reports,
        },
        differences,
    })
}

/// Applies what the newest log has and reads the replica. Returns `None` if it has applied nothing
/// yet.
fn read(replica: &Replica, newest: &Replica) -> Result<Option<ReplicaContents>> {
    let Some(applied) = catch_up(replica, newest)? else {
        return Ok(None);
    };
    let digest = digest(replica)?;
    Ok(Some(ReplicaContents { applied, digest }))
}

/// Reads every row of the state, which also verifies RocksDB's checksums.
fn digest(replica: &Replica) -> Result<Digest> {
    let StateId(state) = replica.state();
    let mut sums: BTreeMap<(&'static str, u8), Xxh3> = BTreeMap::new();
    for (family, name) in [(Family::State, "state"), (Family::Values, "values")] {
        let mut rows = Scan::new(replica.db(), family, &state.to_be_bytes());
        while let Some((key, value)) = rows.next()? {
            let table = match family {
                Family::State => *key
                    .first()
                    .ok_or_else(|| Error::BadRow("a key of the metadata has no table".into()))?,
                _ => 0,
            };
            if (family, table) == (Family::State, TABLE_APPLIED) {
                continue;
            }
            let sum = sums.entry((name, table)).or_default();
            for part in [&key, &value] {
                sum.update(&(part.len() as u64).to_le_bytes());
                sum.update(part);
            }
        }
    }
    Ok(sums
        .into_iter()
        .map(|(table, sum)| (table, sum.digest()))
        .collect())
}

fn differing(one: &Digest, other: &Digest) -> String {
    let tables: Vec<String> = one
        .keys()
        .chain(other.keys().filter(|table| !one.contains_key(table)))
        .filter(|table| one.get(table) != other.get(table))
        .map(|(family, table)| format!("{family} {table:02x}"))
        .collect();
    format!(
        "rows differ from the other replicas in {}",
        tables.join(", ")
    )
}
