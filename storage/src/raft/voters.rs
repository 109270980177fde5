//! Keeps a group's voters on disks that work.
//!
//! One task for each group looks whenever a replica or leader comes or goes, or a disk joins: a
//! voter on a lost disk is replaced as soon as another disk can bear one, and a store that has
//! become larger gets the voters it may have. A new voter is first a learner under a replica id
//! never used before, catches up (by snapshot, where the log is dropped), and comes in by one
//! joint change together with the going of the one it replaces. Where no disk is left to bear
//! another, a dead voter stays in the count: a majority of a smaller number would outlive less.
//!
//! [`next_step`] decides each step alone, from the membership as a linearizable look shows it and
//! from what lives here. So a cut anywhere needs no memory: a replica that was made but not yet
//! told to the leader is a stray and is dropped; a learner is promoted or, if it is not here,
//! removed; a joint membership is flattened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{ChangeMembers, LogIdOptionExt as _, ReadPolicy};
use tokio::sync::watch;
use tokio::time::timeout;

use super::group::Group;
use super::log::run_blocking;
use super::members::{Member, Members, Seated};
use super::place::Place;
use super::replica::delete_replica;
use super::replica_row::{ReplicaRow, put_replica_row};
use super::types::{ReplicaId, Seat};
use crate::meta::states::unused_state;
use crate::raft::recovery::roster;
use drystone_store::crash::DiskPoint;
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// What the leader proves or commits for a change takes no longer, or is tried again.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// A step that failed is tried again after this, when no news came before.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A leader that does not say by then who votes is taken for none.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Entries that a learner may lack of the leader's log when it is promoted.
const PROMOTE_LAG_MAX: u64 = 1024;

/// What there is to decide from.
#[derive(Clone, Debug, Default)]
pub struct Seating {
    /// One set of voters, or two while they change.
    pub configs: Vec<BTreeSet<ReplicaId>>,
    /// Voters and learners.
    pub seats: BTreeMap<ReplicaId, DiskId>,
    /// The replicas that live.
    pub here: BTreeMap<ReplicaId, DiskId>,
    /// Disks that can bear one.
    pub usable: Vec<DiskId>,
    pub voters_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// A change was cut between its two halves.
    Flatten,
    /// A replica that is no member (any more) ends, with all it has.
    Drop(ReplicaId),
    /// Learners that are of no use.
    Remove(BTreeSet<ReplicaId>),
    /// A replica is made on this disk, and becomes a learner.
    Add(DiskId),
    /// These are the voters, as soon as the new ones have caught up.
    Promote(BTreeSet<ReplicaId>),
}

pub fn next_step(seating: &Seating) -> Step {
    let Seating {
        configs,
        seats,
        here,
        usable,
        voters_max,
    } = seating;
    let voters = match &configs[..] {
        [voters] => voters,
        [] => return Step::Nothing,
        _ => return Step::Flatten,
    };
    if let Some(stray) = here.keys().find(|id| !seats.contains_key(id)) {
        return Step::Drop(*stray);
    }
    let learners: BTreeSet<_> = seats
        .keys()
        .filter(|id| !voters.contains(id))
        .copied()
        .collect();
    let (mut fit, mut useless): (BTreeSet<_>, BTreeSet<_>) =
        learners.into_iter().partition(|id| here.contains_key(id));
    let (living, mut dead): (Vec<_>, Vec<_>) = voters.iter().partition(|id| here.contains_key(id));
    // What a disk that works does not have never comes back; what is away may.
    dead.sort_by_key(|id: &&ReplicaId| seats.get(*id).is_some_and(|disk| usable.contains(disk)));
    let size = voters.len().max(usable.len().min(*voters_max));
    let lacking = size - living.len();
    while fit.len() > lacking {
        useless.extend(fit.pop_last());
    }
    if !useless.is_empty() {
        return Step::Remove(useless);
    }
    let taken: BTreeSet<_> = here.values().collect();
    if fit.len() < lacking
        && let Some(free) = usable.iter().find(|disk| !taken.contains(disk))
    {
        return Step::Add(*free);
    }
    if fit.is_empty() {
        return Step::Nothing;
    }
    let kept = dead.into_iter().take(lacking - fit.len());
    Step::Promote(
        living
            .into_iter()
            .chain(&fit)
            .chain(kept)
            .copied()
            .collect(),
    )
}

/// The voters that a group can count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voters {
    pub alive: usize,
    pub all: usize,
    /// So many must be alive.
    pub quorum: usize,
}

/// While voters change, those of the side that has fewer of them here.
fn counted<'a>(
    configs: impl IntoIterator<Item = &'a BTreeSet<ReplicaId>>,
    is_here: impl Fn(&ReplicaId) -> bool,
) -> Option<Voters> {
    let count = |config: &BTreeSet<ReplicaId>| Voters {
        alive: config.iter().filter(|id| is_here(id)).count(),
        all: config.len(),
        quorum: config.len() / 2 + 1,
    };
    let counts = configs.into_iter().map(count);
    counts.min_by_key(|voters| voters.alive)
}

impl Group {
    /// By what is committed: new voters whose coming in is only under way are none yet, as a cut
    /// and the loss of disks may leave only such that do not know that they are.
    pub async fn voters(&self) -> Result<Voters> {
        let members = self.members();
        let leader = *members.leader_changes().borrow();
        let leader = leader.and_then(|leader| members.member(leader.replica));
        let leader = leader.ok_or_else(|| members.trouble("no leader says who votes"))?;
        let raft = &leader.raft;
        let asked = raft.with_raft_state(|state| state.membership_state.committed().clone());
        let committed = timeout(ASK_MAX, asked).await;
        let committed = committed
            .map_err(|_| members.trouble("its leader does not say who votes"))?
            .map_err(|e| members.trouble(e))?;
        let alive = members.alive();
        let is_here = |id: &ReplicaId| alive.iter().any(|member| member.replica == *id);
        let counted = counted(committed.get_joint_config(), is_here);
        counted.ok_or_else(|| members.trouble("nobody votes"))
    }
}

impl Members {
    /// Takes one step after the other until `closing` changes or its sender is gone.
    pub async fn keep_voters(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        let mut changes = self.changes();
        let mut leaders = self.leader_changes();
        let mut paused = self.paused.subscribe();
        loop {
            tokio::select! {
                _ = closing.changed() => return,
                unpaused = paused.wait_for(|paused| !paused) => {
                    drop(unpaused);
                }
            }
            changes.borrow_and_update();
            leaders.borrow_and_update();
            let seated = tokio::select! {
                _ = closing.changed() => return,
                seated = self.seat_voters() => seated,
                _ = paused.changed() => continue,
            };
            if let Err(error) = &seated {
                tracing::warn!(%error, group = self.group.0, "voters are not as they should be");
            }
            tokio::select! {
                _ = closing.changed() => return,
                _ = changes.changed() => {}
                _ = leaders.changed() => {}
                () = tokio::time::sleep(RETRY_AFTER), if seated.is_err() => {}
            }
        }
    }

    /// Ends when all is as it should be, or no replica here leads.
    async fn seat_voters(&self) -> Result<()> {
        let _only_one = self.change.lock().await;
        loop {
            let leader = *self.leader_changes().borrow();
            let Some(leader) = leader.and_then(|leader| self.member(leader.replica)) else {
                return Ok(());
            };
            let seating = self.look(&leader).await?;
            let step = next_step(&seating);
            if step != Step::Nothing {
                tracing::info!(group = self.group.0, ?step, "a change of voters");
            }
            match step {
                Step::Nothing => return Ok(()),
                Step::Flatten => {
                    let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
                    self.change_seats(&leader, nothing).await?;
                }
                Step::Remove(learners) => {
                    let removed = ChangeMembers::RemoveNodes(learners);
                    self.change_seats(&leader, removed).await?;
                }
                Step::Drop(replica) => self.drop_replica(replica).await?,
                Step::Add(disk) => {
                    let made = self.make_replica(disk).await?;
                    let seats = BTreeMap::from([(made, Seat { disk })]);
                    self.change_seats(&leader, ChangeMembers::AddNodes(seats))
                        .await?;
                }
                Step::Promote(voters) => {
                    if self.caught_up(&leader, &voters).await {
                        let replaced = ChangeMembers::ReplaceAllVoters(voters);
                        self.change_seats(&leader, replaced).await?;
                    }
                }
            }
        }
    }

    /// The membership that a majority has, by a proof of now: only on its word a replica's data
    /// are dropped.
    async fn look(&self, leader: &Member) -> Result<Seating> {
        let proof = leader.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let proof = timeout(CHANGE_DEADLINE, proof).await;
        proof
            .map_err(|_| self.trouble("its leader has no majority"))?
            .map_err(|e| self.trouble(e))?;
        let memberships = leader.raft.with_raft_state(|state| {
            let state = &state.membership_state;
            (state.committed().clone(), state.effective().clone())
        });
        let (committed, effective) = memberships.await.map_err(|e| self.trouble(e))?;
        if committed.log_id() != effective.log_id() {
            return Err(self.trouble("a change of voters is not committed yet"));
        }
        let seats = committed.nodes().map(|(id, seat)| (*id, seat.disk));
        Ok(Seating {
            configs: committed.get_joint_config().clone(),
            seats: seats.collect(),
            here: self.alive().iter().map(|m| (m.replica, m.disk)).collect(),
            usable: self.usable().into_iter().map(|place| place.disk).collect(),
            voters_max: self.voters_max,
        })
    }

    /// Power goes between the two halves of a joint change, or the wait is given up: the next
    /// look finds the joint membership and flattens it.
    async fn change_seats(
        &self,
        leader: &Member,
        change: ChangeMembers<ReplicaId, Seat>,
    ) -> Result<()> {
        let changed = leader.raft.change_membership(change, false);
        let changed = timeout(CHANGE_DEADLINE, changed).await;
        changed
            .map_err(|_| self.trouble("a change of voters takes long"))?
            .map_err(|e| self.trouble(e))?;
        leader.shared.db.crash().pass_disk(DiskPoint::SeatsChanged);
        Ok(())
    }

    /// Power goes after the row is written: a replica without a log, which the next start finds
    /// to be no member and drops.
    async fn make_replica(&self, disk: DiskId) -> Result<ReplicaId> {
        let place = self.usable().into_iter().find(|place| place.disk == disk);
        let place = place.ok_or_else(|| self.trouble("a disk went away"))?;
        let standing = self.standing();
        // It takes part from now on, and all know it, before it may vote.
        roster::join(&place.open(), &standing).await?;
        let others: Vec<_> = self.usable().iter().map(Place::open).collect();
        roster::stamp(&others, standing.start).await?;
        let db = place.db.clone();
        let state = run_blocking(move || unused_state(&db)).await?;
        let replica = ReplicaId::random();
        let row = ReplicaRow {
            group: self.group,
            incarnation: standing.incarnation(),
            state,
        };
        let db = &place.db;
        db.synced(|batch| put_replica_row(db, batch, replica, &row))
            .await?;
        db.crash().pass_disk(DiskPoint::ReplicaMade);
        let seated = Seated {
            place,
            replica,
            row,
        };
        self.admit(seated).await?;
        self.counts.made.fetch_add(1, Ordering::Relaxed);
        Ok(replica)
    }

    /// Ends a replica that is no member, and takes its rows away.
    ///
    /// Power goes before the batch: the next start finds the stray again. After it: its state is
    /// named by no row, and the next start removes it.
    async fn drop_replica(&self, replica: ReplicaId) -> Result<()> {
        if let Some(member) = self.take_out(replica) {
            member.end().await;
            delete_replica(&member.shared.db, replica, member.shared.row()).await?;
        }
        Ok(())
    }

    /// Waits until the leader knows that all of `voters` that live here have its log. False: a
    /// replica, a disk or the lead went, and all must be thought over.
    async fn caught_up(&self, leader: &Member, voters: &BTreeSet<ReplicaId>) -> bool {
        let mut metrics = leader.raft.metrics();
        let mut changes = self.changes();
        let here: BTreeSet<_> = self.alive().iter().map(|m| m.replica).collect();
        let awaited = || voters.iter().filter(|id| here.contains(id));
        loop {
            let lags = {
                let metrics = metrics.borrow_and_update();
                let Some(matched) = &metrics.replication else {
                    return false;
                };
                let enough = metrics
                    .last_log_index
                    .unwrap_or(0)
                    .saturating_sub(PROMOTE_LAG_MAX);
                let reached = |id: &ReplicaId| {
                    let matched = matched.get(id).cloned().flatten();
                    matched.is_some() && matched.next_index() > enough
                };
                awaited().any(|id| *id != leader.replica && !reached(id))
            };
            if !lags {
                return true;
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return false },
                _ = changes.changed() => return false,
            }
        }
    }

    fn trouble(&self, what: impl std::fmt::Display) -> Error {
        Error::Unavailable(format!("group {}: {what}", self.group.0))
    }

    /// The disks whose databases work.
    fn usable(&self) -> Vec<Place> {
        let mut places = self.places();
        places.retain(|place| place.db.failure().borrow().is_none());
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(n: u8) -> DiskId {
        DiskId([n; 16])
    }

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId).collect()
    }

    /// Replica n sits on disk n, but from 10 on on disk n - 10.
    fn at(ids: &[u64]) -> BTreeMap<ReplicaId, DiskId> {
        let seat = |id: &u64| (ReplicaId(*id), disk((*id % 10) as u8));
        ids.iter().map(seat).collect()
    }

    fn seating(voters: &[u64], learners: &[u64], here: &[u64], usable: &[u8]) -> Seating {
        Seating {
            configs: vec![ids(voters)],
            seats: at(&[voters, learners].concat()),
            here: at(here),
            usable: usable.iter().copied().map(disk).collect(),
            voters_max: 5,
        }
    }

    /// Once a store was told to be well with new voters that did not know yet that they were: cut
    /// then, and without the others, it did not start.
    #[test]
    fn f_16_voters_that_are_only_coming_in_do_not_count() {
        let is_here = |id: &ReplicaId| id.0 != 4;
        let of = |configs: &[&[u64]]| {
            let configs: Vec<_> = configs.iter().map(|config| ids(config)).collect();
            let counted = counted(&configs, is_here).unwrap();
            (counted.alive, counted.all, counted.quorum)
        };
        assert_eq!(of(&[&[1, 2]]), (2, 2, 2));
        assert_eq!(of(&[&[1, 2], &[1, 2, 3, 5]]), (2, 2, 2));
        assert_eq!(of(&[&[1, 2, 3, 5]]), (4, 4, 3));
        assert_eq!(of(&[&[1, 2, 3, 5], &[1, 2, 4]]), (2, 3, 2));
    }

    #[test]
    fn f_22_a_lost_voter_is_replaced_learner_first_and_once() {
        let mut now = seating(&[1, 2, 3, 4, 5], &[], &[1, 2, 3, 4], &[1, 2, 3, 4, 6]);
        assert_eq!(next_step(&now), Step::Add(disk(6)));
        now.seats.extend(at(&[6]));
        now.here.extend(at(&[6]));
        assert_eq!(next_step(&now), Step::Promote(ids(&[1, 2, 3, 4, 6])));
        now.configs.push(ids(&[1, 2, 3, 4, 6]));
        assert_eq!(next_step(&now), Step::Flatten);
        now.configs.remove(0);
        now.seats.remove(&ReplicaId(5));
        assert_eq!(next_step(&now), Step::Nothing);
        // The disk comes back with what it had.
        now.usable.push(disk(5));
        now.here.extend(at(&[5]));
        assert_eq!(next_step(&now), Step::Drop(ReplicaId(5)));
    }

    #[test]
    fn a_dead_voter_stays_in_the_count_where_no_disk_is_left() {
        let mut now = seating(&[1, 2, 3, 4], &[], &[1, 2, 3], &[1, 2, 3]);
        assert_eq!(next_step(&now), Step::Nothing);
        // Its own disk again, with a new database.
        now.usable.push(disk(4));
        assert_eq!(next_step(&now), Step::Add(disk(4)));
        now.seats.extend(at(&[14]));
        now.here.extend(at(&[14]));
        assert_eq!(next_step(&now), Step::Promote(ids(&[1, 2, 3, 14])));
    }

    /// Found by reading: which of two lost voters gave way was left to chance.
    #[test]
    fn f_14_a_voter_whose_disk_may_come_back_gives_way_last() {
        for away in [1, 2] {
            // The disk of the other one has a new database.
            let usable: Vec<_> = (1..=5).filter(|n| u64::from(*n) != away).collect();
            let fresh = 13 - away;
            let now = seating(&[1, 2, 3, 4, 5], &[fresh], &[3, 4, 5, fresh], &usable);
            let kept = ids(&[away, 3, 4, 5, fresh]);
            assert_eq!(next_step(&now), Step::Promote(kept));
        }
    }

    #[test]
    fn what_a_cut_left_is_finished_or_taken_away() {
        // A learner that is here, one that is not, one too many, a replica nobody knows.
        let now = seating(&[1, 2, 3], &[4], &[1, 2, 3, 4], &[1, 2, 3, 4]);
        assert_eq!(next_step(&now), Step::Promote(ids(&[1, 2, 3, 4])));
        let now = seating(&[1, 2, 3], &[9], &[1, 2, 3], &[1, 2, 3]);
        assert_eq!(next_step(&now), Step::Remove(ids(&[9])));
        let now = seating(&[1, 2, 3], &[11], &[1, 2, 3, 11], &[1, 2, 3]);
        assert_eq!(next_step(&now), Step::Remove(ids(&[11])));
        let now = seating(&[1, 2, 3], &[], &[1, 2, 3, 7], &[1, 2, 3, 7]);
        assert_eq!(next_step(&now), Step::Drop(ReplicaId(7)));
    }

    #[test]
    fn a_group_grows_with_its_disks_up_to_its_bound() {
        let mut now = seating(&[1], &[], &[1], &[1, 2, 3, 4, 5, 6, 7]);
        for n in 2..=5 {
            assert_eq!(next_step(&now), Step::Add(disk(n)));
            now.seats.extend(at(&[u64::from(n)]));
            now.here.extend(at(&[u64::from(n)]));
        }
        let all = ids(&[1, 2, 3, 4, 5]);
        assert_eq!(next_step(&now), Step::Promote(all.clone()));
        now.configs = vec![all];
        assert_eq!(next_step(&now), Step::Nothing);
    }
}
