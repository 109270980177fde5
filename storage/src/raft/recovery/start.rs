//! Brings a node's groups to life: at its birth, and at every start after it.
//!
//! A start first looks at what the disks have and decides (`decision`), touching nothing: which
//! disks are to be trusted, whether a majority is here, whether the metadata must be recovered.
//! What refuses to start is as it was. Disks that are here but must not count, for they are older
//! copies of themselves or of a past incarnation, are *left over*: they come in only when the
//! groups answer without them, and lose their replicas then ([`Started::take_in`]).

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tokio::sync::watch;

use super::decision::{Leftover, StartError, divide, look_and_decide};
use super::recover;
use super::roster;
use crate::meta::states::{delete_unused_states, unused_state};
use crate::raft::group::Group;
use crate::raft::history::Standing;
use crate::raft::log::{delete_log, run_blocking};
use crate::raft::members::{MemberSetup, Members, Seated};
use crate::raft::network::Router;
use crate::raft::place::{OpenDisk, Place};
use crate::raft::replica::delete_replica;
use crate::raft::replica_row::{
    GROUPS, GroupId, OBJECT_GROUP, ReplicaRow, Rows, SYSTEM_GROUP, delete_replica_row,
    put_replica_row, replica_rows,
};
use crate::raft::types::{ReplicaId, Seat};
use drystone_store::crash::DiskPoint;
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// Voters of a group at most.
const VOTERS_MAX: usize = 9;

/// Whether replicas may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The disks are new, or their birth was cut before group 0 had committed its record.
    Birth,
    /// The replicas that the disks name.
    Again {
        /// The metadata may be recovered where a majority is missing: the disks that are not
        /// here were waited for.
        may_recover: bool,
    },
}

/// A node's groups.
#[derive(Clone)]
pub struct Groups {
    pub system: Group,
    pub objects: Group,
}

/// What a start came to.
pub struct Started {
    pub groups: Groups,
    standing: Standing,
    leftovers: Vec<Leftover>,
    /// Disks whose databases are damaged, and how: they are to get new ones.
    pub damaged: Vec<(DiskId, String)>,
}

/// Starts the replicas that are on `disks` and has each group elect a leader at once. Returns
/// before it leads ([`Group::ready`] waits for that). Metadata is to survive the loss of `losses`
/// disks. `damaged`: disks that are here, but whose databases do not open.
///
/// A voter on a disk that is not here stays unreachable, until `voters` gives another its place.
pub async fn start_groups(
    disks: &[OpenDisk],
    mut damaged: Vec<(DiskId, String)>,
    start: Start,
    losses: usize,
) -> Result<Started, StartError> {
    if disks.is_empty() {
        return Err(Error::Unavailable("no disk holds metadata".into()).into());
    }
    let voters_max = (2 * losses + 1).min(VOTERS_MAX);
    let (standing, rows, newborn, leftovers): (_, Vec<(OpenDisk, Rows)>, _, _) = match start {
        Start::Birth => {
            let mut found = try_join_all(disks.iter().map(find_replicas)).await?;
            let newborn = without_log(disks).await?;
            // One log is enough: its replica may have been promised votes, and none is made anew.
            if newborn.len() == GROUPS.len() {
                found = make_replicas(disks, &found, voters_max).await?;
            }
            let mut before = 0;
            for disk in disks {
                let own = roster::read_own(&disk.db, disk.id)
                    .await
                    .map_err(Error::from)?;
                before = before.max(own.map_or(0, |own| own.start));
            }
            let standing = Standing {
                start: before + 1,
                recoveries: Vec::new(),
            };
            take_part(disks, standing.start).await?;
            let rows = disks.iter().cloned().zip(found).collect();
            (standing, rows, newborn, Vec::new())
        }
        Start::Again { may_recover } => loop {
            let (looks, decision, counts) =
                look_and_decide(disks, &mut damaged, may_recover).await?;
            let (standing, rows, leftovers) = divide(looks, decision.past, &counts);
            let used: Vec<_> = rows.iter().map(|(disk, _)| disk.clone()).collect();
            match take_part(&used, standing.start).await {
                Ok(()) => break (standing, rows, Vec::new(), leftovers),
                // The next look finds it, and the others go on.
                Err(error) if used.iter().any(OpenDisk::has_failed) => {
                    tracing::error!(%error, "a disk failed as the store started");
                }
                Err(error) => return Err(error.into()),
            }
        },
    };
    let groups = run(&rows, &newborn, voters_max, &standing).await?;
    Ok(Started {
        groups,
        standing,
        leftovers,
        damaged,
    })
}

/// Readies the databases of the disks that take part in a start: what transfers and dropped
/// replicas have left in them goes, and they are stamped.
async fn take_part(disks: &[OpenDisk], start: u64) -> Result<()> {
    try_join_all(disks.iter().map(find_replicas)).await?;
    Ok(roster::stamp(disks, start).await?)
}

/// Starts both groups from the replicas given.
async fn run(
    rows: &[(OpenDisk, Rows)],
    newborn: &[GroupId],
    voters_max: usize,
    standing: &Standing,
) -> Result<Groups> {
    let router = Router::new();
    let places: Vec<Place> = rows.iter().map(|(disk, _)| disk.place(&router)).collect();
    let start_group = async |group| {
        let mut seats = Vec::new();
        for (place, (_, rows)) in places.iter().zip(rows) {
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
        let closing = watch::Sender::new(false);
        let setup = MemberSetup {
            group,
            standing: standing.clone(),
            closing: closing.subscribe(),
            voters_max,
            places: places.clone(),
            seats,
        };
        let members = Members::start(router.clone(), setup).await;
        let handle = Group::new(members.clone(), closing);
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

impl Started {
    pub(super) fn of(groups: Groups, standing: Standing, leftovers: Vec<Leftover>) -> Started {
        Started {
            groups,
            standing,
            leftovers,
            damaged: Vec::new(),
        }
    }

    /// Disks that are older copies of themselves. Before they are taken in, whoever keeps lists of
    /// what is on them must make these anew.
    pub fn stale(&self) -> Vec<DiskId> {
        let stale = self.leftovers.iter().filter(|leftover| leftover.stale);
        stale.map(|leftover| leftover.disk.id).collect()
    }

    /// These are not taken in. The next start finds them as they are.
    pub fn leave_out(&mut self, disks: &[DiskId]) {
        self.leftovers
            .retain(|leftover| !disks.contains(&leftover.disk.id));
    }

    /// Takes in the disks that were left over, now that both groups answer without them.
    ///
    /// Power goes after their replicas are gone and before they are stamped: they are left over
    /// once more, with nothing to lose.
    pub async fn take_in(&mut self) -> Result<()> {
        for leftover in std::mem::take(&mut self.leftovers) {
            let disk = leftover.disk.clone();
            unless_failed(&disk, self.take_in_one(leftover).await)?;
        }
        Ok(())
    }

    async fn take_in_one(&self, leftover: Leftover) -> Result<()> {
        let disk = &leftover.disk;
        for (replica, row) in leftover.replicas {
            tracing::warn!(disk = %disk.id, %replica, "dropping a replica of the past");
            delete_replica(&disk.db, replica, row).await?;
        }
        match leftover.in_use {
            true => Ok(()),
            false => self.groups.join(disk, &self.standing).await,
        }
    }

    /// Takes in a disk with a new database.
    pub async fn join(&self, disk: &OpenDisk) -> Result<()> {
        unless_failed(disk, self.groups.join(disk, &self.standing).await)
    }
}

/// A disk that fails on the way takes no part; the store goes on without it.
fn unless_failed(disk: &OpenDisk, taken: Result<()>) -> Result<()> {
    match taken {
        Err(error) if disk.has_failed() => {
            tracing::error!(%error, disk = %disk.id, "a disk failed as it was taken in");
            Ok(())
        }
        taken => taken,
    }
}

impl Groups {
    pub(super) async fn join(&self, disk: &OpenDisk, standing: &Standing) -> Result<()> {
        find_replicas(disk).await?;
        roster::join(disk, standing).await?;
        for group in [&self.system, &self.objects] {
            group.add_disk(disk.id, disk.db.clone());
        }
        self.stamp(standing.start).await
    }

    /// Notes on all disks that they are here. One that fails on the way keeps nobody from it.
    async fn stamp(&self, start: u64) -> Result<()> {
        loop {
            let disks = self.objects.members().healthy();
            let disks: Vec<_> = disks.iter().map(Place::open).collect();
            match roster::stamp(&disks, start).await {
                Err(error) if disks.iter().any(OpenDisk::has_failed) => {
                    tracing::error!(%error, "a disk failed as all noted that they are here");
                }
                stamped => return Ok(stamped?),
            }
        }
    }
}

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
async fn without_log(disks: &[OpenDisk]) -> Result<Vec<GroupId>> {
    let mut newborn = Vec::from(GROUPS);
    for disk in disks {
        for (_, replica, end) in recover::ends(disk).await? {
            if end.last.is_some() {
                newborn.retain(|group| group.0 != replica.group());
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
                        incarnation: 0,
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
            db.crash().pass_disk(DiskPoint::ReplicaMade);
            Ok::<_, Error>(rows)
        });
    try_join_all(made).await
}
