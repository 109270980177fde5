//! Starts a node's groups: at the store's birth, and at every start after it.
//!
//! A start first surveys the disks and decides (`decision`) which of them it trusts, whether a
//! majority is here, and whether the metadata must be recovered. A start that is refused has
//! changed nothing. Disks that are here but must not count, because they are older copies of
//! themselves or of a lower incarnation, are *left over*: they are admitted only when the groups
//! answer without them, and lose their replicas then ([`StartOutcome::admit_leftovers`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::watch;

use super::decision::{Leftover, StartError, divide, survey_and_decide};
use super::recover;
use super::roster;
use crate::meta::states::{delete_unused_states, unused_state};
use crate::raft::disk::{OpenDisk, ReplicaDisk};
use crate::raft::group::Group;
use crate::raft::history::History;
use crate::raft::log::delete_log;
use crate::raft::members::{GroupSetup, MemberSetup, Members};
use crate::raft::network::Router;
use crate::raft::replica::delete_replica;
use crate::raft::replica_row::{
    GROUPS, GroupId, OBJECT_GROUP, ReplicaRow, ReplicaRows, SYSTEM_GROUP, delete_replica_row,
    put_replica_row, replica_rows,
};
use crate::raft::types::{ReplicaId, Seat};
use drystone_store::crash::DiskPoint;
use drystone_store::env::Env;
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// The most voters of a group.
const VOTERS_MAX: usize = 9;

/// The kind of a start: whether the groups are new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupStart {
    /// The groups are new: the disks are, or their birth was interrupted before group 0 had
    /// committed its record.
    Birth,
    /// The groups have the replicas that are on the disks.
    Restart {
        /// The metadata may be recovered if a majority is missing: the start has waited for the
        /// missing disks.
        may_recover: bool,
    },
}

/// A node's groups.
#[derive(Clone)]
pub struct Groups {
    pub system: Group,
    pub objects: Group,
}

/// The outcome of a start: the running groups, and the disks that take no part yet.
pub struct StartOutcome {
    pub groups: Groups,
    history: History,
    leftovers: Vec<Leftover>,
    /// Disks whose databases are damaged, with the reason. They must get new databases.
    pub damaged: Vec<(DiskId, String)>,
}

/// Starts the replicas that are on `disks` and makes each group elect a leader at once. Returns
/// before there is one ([`Group::ready`] waits for it). Metadata must survive the loss of `losses`
/// disks. `damaged`: disks that are here, but whose databases do not open.
///
/// A voter on a disk that is not here stays unreachable until `voters` replaces it.
pub async fn start_groups(
    disks: &[OpenDisk],
    mut damaged: Vec<(DiskId, String)>,
    start: GroupStart,
    losses: usize,
) -> Result<StartOutcome, StartError> {
    if disks.is_empty() {
        return Err(Error::Unavailable("no disk holds metadata".into()).into());
    }
    let voters_max = (2 * losses + 1).min(VOTERS_MAX);
    let (history, rows, newborn, leftovers): (_, Vec<(OpenDisk, ReplicaRows)>, _, _) = match start {
        GroupStart::Birth => {
            let mut found = try_join_all(disks.iter().map(find_replicas)).await?;
            let newborn = without_log(disks).await?;
            // If there is a single log, no replica is made again: one may have votes already.
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
            let history = History {
                start: before + 1,
                recoveries: Vec::new(),
            };
            prepare_disks(disks, history.start).await?;
            let rows = disks.iter().cloned().zip(found).collect();
            (history, rows, newborn, Vec::new())
        }
        GroupStart::Restart { may_recover } => loop {
            let (surveys, decision, trusted) =
                survey_and_decide(disks, &mut damaged, may_recover).await?;
            let (history, rows, leftovers) = divide(surveys, decision.agreed, &trusted);
            let used: Vec<_> = rows.iter().map(|(disk, _)| disk.clone()).collect();
            match prepare_disks(&used, history.start).await {
                Ok(()) => break (history, rows, Vec::new(), leftovers),
                // The next survey finds the failed disk, and the start continues without it.
                Err(error) if used.iter().any(OpenDisk::has_failed) => {
                    tracing::error!(%error, "a disk failed as the store started");
                }
                Err(error) => return Err(error.into()),
            }
        },
    };
    let env = disks[0].db.env();
    let groups = run(env, &rows, &newborn, voters_max, &history).await?;
    Ok(StartOutcome {
        groups,
        history,
        leftovers,
        damaged,
    })
}

/// Prepares the databases of the disks that take part in a start: removes the states that
/// interrupted transfers and dropped replicas have left, and records the start.
async fn prepare_disks(disks: &[OpenDisk], start: u64) -> Result<()> {
    try_join_all(disks.iter().map(find_replicas)).await?;
    Ok(roster::stamp(disks, start).await?)
}

/// Starts both groups from these replicas.
async fn run(
    env: &Arc<dyn Env>,
    rows: &[(OpenDisk, ReplicaRows)],
    newborn: &[GroupId],
    voters_max: usize,
    history: &History,
) -> Result<Groups> {
    let router = Router::new();
    let disks: Vec<ReplicaDisk> = rows
        .iter()
        .map(|(disk, _)| disk.for_replicas(&router))
        .collect();
    let start_group = async |group| {
        let mut setups = Vec::new();
        for (disk, (_, rows)) in disks.iter().zip(rows) {
            for (replica, row) in rows.iter().filter(|(_, row)| row.group == group) {
                setups.push(MemberSetup {
                    disk: disk.clone(),
                    replica: *replica,
                    row: *row,
                });
            }
        }
        let seat = |s: &MemberSetup| (s.replica, Seat { disk: s.disk.id });
        let voters: BTreeMap<_, _> = setups.iter().map(seat).collect();
        let closing = watch::Sender::new(false);
        let setup = GroupSetup {
            env: env.clone(),
            group,
            history: history.clone(),
            closing: closing.subscribe(),
            voters_max,
            disks: disks.clone(),
            members: setups,
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

impl StartOutcome {
    pub(super) fn of(groups: Groups, history: History, leftovers: Vec<Leftover>) -> StartOutcome {
        StartOutcome {
            groups,
            history,
            leftovers,
            damaged: Vec::new(),
        }
    }

    /// Returns the disks that are older copies of themselves. Before they are admitted, lists of
    /// their shards must be made again.
    pub fn stale(&self) -> Vec<DiskId> {
        let stale = self.leftovers.iter().filter(|leftover| leftover.stale);
        stale.map(|leftover| leftover.disk.id).collect()
    }

    /// Excludes disks from being admitted. The next start finds them as they are.
    pub fn exclude(&mut self, disks: &[DiskId]) {
        self.leftovers
            .retain(|leftover| !disks.contains(&leftover.disk.id));
    }

    /// Admits the disks that were left over, now that both groups answer without them.
    ///
    /// Power goes after their replicas are removed and before the start is recorded on them: they
    /// are left over again, with nothing to lose.
    pub async fn admit_leftovers(&mut self) -> Result<()> {
        for leftover in std::mem::take(&mut self.leftovers) {
            let disk = leftover.disk.clone();
            unless_failed(&disk, self.admit(leftover).await)?;
        }
        Ok(())
    }

    async fn admit(&self, leftover: Leftover) -> Result<()> {
        let disk = &leftover.disk;
        for (replica, row) in leftover.replicas {
            tracing::warn!(disk = %disk.id, %replica, "dropping an old replica");
            delete_replica(&disk.db, replica, row).await?;
        }
        match leftover.in_use {
            true => Ok(()),
            false => self.groups.join(disk, &self.history).await,
        }
    }

    /// Admits a disk with a new database.
    pub async fn join(&self, disk: &OpenDisk) -> Result<()> {
        unless_failed(disk, self.groups.join(disk, &self.history).await)
    }
}

/// Logs an error of a disk that failed while it was admitted: the store goes on without that disk.
fn unless_failed(disk: &OpenDisk, admitted: Result<()>) -> Result<()> {
    match admitted {
        Err(error) if disk.has_failed() => {
            tracing::error!(%error, disk = %disk.id, "a disk failed as it was admitted");
            Ok(())
        }
        admitted => admitted,
    }
}

impl Groups {
    pub(super) async fn join(&self, disk: &OpenDisk, history: &History) -> Result<()> {
        find_replicas(disk).await?;
        roster::join(disk, history).await?;
        for group in [&self.system, &self.objects] {
            group.add_disk(disk.id, disk.db.clone());
        }
        self.stamp(history.start).await
    }

    /// Records on all disks that they take part in this start. Continues without a disk that fails.
    async fn stamp(&self, start: u64) -> Result<()> {
        loop {
            let disks = self.objects.members().healthy();
            let disks: Vec<_> = disks.iter().map(ReplicaDisk::open_disk).collect();
            match roster::stamp(&disks, start).await {
                Err(error) if disks.iter().any(OpenDisk::has_failed) => {
                    tracing::error!(%error, "a disk failed as the start was recorded");
                }
                stamped => return Ok(stamped?),
            }
        }
    }
}

/// Returns the replicas of a disk, and removes the states that no replica uses.
async fn find_replicas(disk: &OpenDisk) -> Result<ReplicaRows> {
    let found = disk.db.run_blocking(|db| {
        let rows = replica_rows(db)?;
        let used: Vec<_> = rows.iter().map(|(_, row)| row.state).collect();
        delete_unused_states(db, &used)?;
        Ok(rows)
    });
    Ok(found.await?)
}

/// Returns the groups of which no replica has a log yet.
///
/// Power may go when one group is initialized and the other is not, so each is judged alone.
async fn without_log(disks: &[OpenDisk]) -> Result<Vec<GroupId>> {
    let mut newborn = Vec::from(GROUPS);
    for disk in disks {
        for (_, replica, summary) in recover::summarize(disk).await? {
            if summary.last.is_some() {
                newborn.retain(|group| group.0 != replica.group());
            }
        }
    }
    Ok(newborn)
}

/// Makes a replica of each group on each of the first disks, in place of those in `found`.
///
/// Power goes before all disks have their replicas: no replica has a log yet, and the next start
/// makes all of them again. After that: `initialize` is repeated for each group that has no log.
async fn make_replicas(
    disks: &[OpenDisk],
    found: &[ReplicaRows],
    voters_max: usize,
) -> Result<Vec<ReplicaRows>> {
    let voters = disks.len().min(voters_max);
    let made = disks
        .iter()
        .zip(found)
        .enumerate()
        .map(|(n, (disk, old))| async move {
            let db = &disk.db;
            let mut rows = ReplicaRows::new();
            while n < voters && rows.len() < GROUPS.len() {
                let state = unused_state(db)?;
                if rows.iter().all(|(_, row)| row.state != state) {
                    let row = ReplicaRow {
                        group: GROUPS[rows.len()],
                        incarnation: 0,
                        state,
                    };
                    rows.push((ReplicaId::random(db.env().as_ref()), row));
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
