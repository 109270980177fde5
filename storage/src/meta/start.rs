//! Brings a node's groups to life: at its birth, and at every start after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::group::Group;
use super::members::{Members, Seated};
use super::network::Router;
use super::raft_log::{LogMeter, RaftLog, delete_log, run_blocking};
use super::raft_types::{ReplicaId, Seat};
use super::replica::{
    GroupId, OBJECT_GROUP, ReplicaRow, SYSTEM_GROUP, delete_replica_row, put_replica_row,
    replica_rows,
};
use super::snapshot::{delete_unused_states, unused_state};
use crate::db::Db;
use crate::error::{Error, Result};
use crate::types::DiskId;

/// Voters of a group at most.
const VOTERS_MAX: usize = 9;
const GROUPS: [GroupId; 2] = [SYSTEM_GROUP, OBJECT_GROUP];

/// A disk with its database open.
#[derive(Clone)]
pub struct OpenDisk {
    pub id: DiskId,
    pub db: Arc<Db>,
}

/// Whether replicas may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The disks are new, or their birth was cut before group 0 had committed its record.
    /// Metadata is to survive the loss of `losses` disks.
    Birth { losses: usize },
    /// The replicas that the disks name, and no others.
    Again,
}

/// A node's groups.
pub struct Groups {
    pub system: Group,
    pub objects: Group,
}

/// Starts the replicas that are on `disks` and has each group elect a leader at once. Returns
/// before it leads ([`Group::ready`] waits for that), also when a majority is missing.
///
/// A voter on a disk that is not here stays unreachable; replacing it is the membership's part.
pub async fn start_groups(disks: &[OpenDisk], start: Start) -> Result<Groups> {
    if disks.is_empty() {
        return Err(Error::Unavailable("no disk holds metadata".into()));
    }
    let mut found = try_join_all(disks.iter().map(find_replicas)).await?;
    let mut newborn = Vec::new();
    if let Start::Birth { losses } = start {
        newborn = without_log(disks, &found).await?;
        // One log is enough: its replica may have been promised votes, and none is made anew.
        if newborn.len() == GROUPS.len() {
            found = make_replicas(disks, &found, losses).await?;
        }
    }

    let router = Router::new();
    let meters: Vec<Arc<LogMeter>> = disks.iter().map(|_| Arc::default()).collect();
    let start_group = async |group| {
        let mut seats = Vec::new();
        for ((disk, rows), meter) in disks.iter().zip(&found).zip(&meters) {
            for (replica, row) in rows.iter().filter(|(_, row)| row.group == group) {
                let (db, meter) = (disk.db.clone(), meter.clone());
                seats.push(Seated {
                    disk: disk.id,
                    db,
                    replica: *replica,
                    row: *row,
                    meter,
                });
            }
        }
        let voters: BTreeMap<_, _> = seats
            .iter()
            .map(|s| (s.replica, Seat { disk: s.disk }))
            .collect();
        let members = Members::start(group, router.clone(), seats).await;
        let handle = Group::new(members.clone());
        if newborn.contains(&group) {
            members.initialize(voters).await?;
        } else {
            members.elect_at_start().await;
        }
        Ok::<_, Error>(handle)
    };
    let (system, objects) =
        futures_util::try_join!(start_group(SYSTEM_GROUP), start_group(OBJECT_GROUP))?;
    Ok(Groups { system, objects })
}

type Rows = Vec<(ReplicaId, ReplicaRow)>;

async fn find_replicas(disk: &OpenDisk) -> Result<Rows> {
    let db = disk.db.clone();
    let found = run_blocking(move || {
        let rows = replica_rows(&db)?;
        let used: Vec<_> = rows.iter().map(|(_, row)| row.state).collect();
        delete_unused_states(&db, &used)?;
        Ok(rows)
    });
    Ok(found.await?)
}

/// The groups of which no replica has a log yet.
///
/// Power may go when the one group is initialized and the other is not: each is looked at alone.
async fn without_log(disks: &[OpenDisk], found: &[Rows]) -> Result<Vec<GroupId>> {
    let mut newborn = Vec::from(GROUPS);
    for (disk, rows) in disks.iter().zip(found) {
        for (replica, row) in rows {
            let (db, replica) = (disk.db.clone(), *replica);
            let log = run_blocking(move || RaftLog::open(db, replica, Arc::default())).await?;
            if log.last_log_id().is_some() {
                newborn.retain(|group| *group != row.group);
            }
        }
    }
    Ok(newborn)
}

/// Makes a replica of each group on each of the first disks, in place of the ones in `found`.
///
/// Power goes before all disks have theirs: none has a log yet, and the next start makes all of
/// them anew. After that: `initialize` is repeated for each group that has no log.
async fn make_replicas(disks: &[OpenDisk], found: &[Rows], losses: usize) -> Result<Vec<Rows>> {
    let voters = disks.len().min(2 * losses + 1).min(VOTERS_MAX);
    let made = disks
        .iter()
        .zip(found)
        .enumerate()
        .map(|(n, (disk, old))| async move {
            let db = &disk.db;
            let mut rows = Rows::new();
            while n < voters && rows.len() < GROUPS.len() {
                let state = unused_state(db)?;
                if rows.iter().all(|(_, row)| row.state != state) {
                    let row = ReplicaRow {
                        group: GROUPS[rows.len()],
                        epoch: 0,
                        state,
                    };
                    rows.push((ReplicaId(rand::random_range(1..u64::MAX)), row));
                }
            }
            db.synced(|batch| {
                for (replica, _) in old {
                    delete_replica_row(db, batch, *replica);
                    delete_log(db, batch, *replica);
                }
                for (replica, row) in &rows {
                    put_replica_row(db, batch, *replica, row);
                }
            })
            .await?;
            Ok::<_, Error>(rows)
        });
    try_join_all(made).await
}
