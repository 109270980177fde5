//! Brings a node's groups to life: at its birth, and at every start after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::group::Group;
use super::members::{Members, Place, Roster, Seated};
use super::network::Router;
use super::raft_log::{RaftLog, delete_log, run_blocking};
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

impl OpenDisk {
    fn place(&self, router: &Router) -> Place {
        Place {
            disk: self.id,
            db: self.db.clone(),
            meter: router.meter(self.id),
        }
    }
}

/// Whether replicas may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The disks are new, or their birth was cut before group 0 had committed its record.
    Birth,
    /// The replicas that the disks name.
    Again,
}

/// A node's groups.
pub struct Groups {
    pub system: Group,
    pub objects: Group,
}

/// Starts the replicas that are on `disks` and has each group elect a leader at once. Returns
/// before it leads ([`Group::ready`] waits for that), also when a majority is missing. Metadata is
/// to survive the loss of `losses` disks.
///
/// A voter on a disk that is not here stays unreachable, until `voters` gives another its place.
pub async fn start_groups(disks: &[OpenDisk], start: Start, losses: usize) -> Result<Groups> {
    if disks.is_empty() {
        return Err(Error::Unavailable("no disk holds metadata".into()));
    }
    let mut found = try_join_all(disks.iter().map(find_replicas)).await?;
    let mut newborn = Vec::new();
    let voters_max = (2 * losses + 1).min(VOTERS_MAX);
    if start == Start::Birth {
        newborn = without_log(disks, &found).await?;
        // One log is enough: its replica may have been promised votes, and none is made anew.
        if newborn.len() == GROUPS.len() {
            found = make_replicas(disks, &found, voters_max).await?;
        }
    }

    let router = Router::new();
    let places: Vec<Place> = disks.iter().map(|disk| disk.place(&router)).collect();
    let start_group = async |group| {
        let mut seats = Vec::new();
        for (place, rows) in places.iter().zip(&found) {
            for (replica, row) in rows.iter().filter(|(_, row)| row.group == group) {
                seats.push(Seated {
                    place: place.clone(),
                    replica: *replica,
                    row: *row,
                });
            }
        }
        let seat = |s: &Seated| (s.replica, Seat { disk: s.place.disk });
        let voters: BTreeMap<_, _> = seats.iter().map(seat).collect();
        let roster = Roster {
            group,
            epoch: 0,
            voters_max,
            places: places.clone(),
            seats,
        };
        let members = Members::start(router.clone(), roster).await;
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
async fn make_replicas(disks: &[OpenDisk], found: &[Rows], voters_max: usize) -> Result<Vec<Rows>> {
    let voters = disks.len().min(voters_max);
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
                    rows.push((ReplicaId::random(), row));
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
