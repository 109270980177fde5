//! Keeps a group's voters on disks that work.
//!
//! One task for each group acts whenever a replica, leader or disk is added or removed. A voter on
//! a lost disk is replaced as soon as another disk can hold a replica, and a store with more disks
//! than before gets the additional voters it may have. A new voter is first a learner under a new
//! replica id. It catches up, by snapshot if the log was dropped, and becomes a voter in the same
//! joint change that removes the voter it replaces. If no disk is left for a new replica, the dead
//! voter stays in the count: a majority of a smaller number would tolerate fewer losses.
//!
//! [`next_step`] decides each step alone, from the membership as a linearizable read shows it and
//! from the replicas that are alive. So a crash anywhere needs no memory: a replica that was made
//! but is not a member yet is a stray and is dropped; a learner is promoted, or removed if it is
//! not alive; a joint membership is flattened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{ChangeMembers, LogIdOptionExt as _, ReadPolicy};
use tokio::sync::watch;

use super::disk::ReplicaDisk;
use super::group::Group;
use super::members::{Member, MemberSetup, Members};
use super::replica::delete_replica;
use super::replica_row::{ReplicaRow, put_replica_row};
use super::types::{ReplicaId, Seat};
use crate::meta::states::unused_state;
use crate::raft::recovery::roster;
use drystone_store::crash::DiskPoint;
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// The time for the leader to prove its majority or to commit a change. Then the step is repeated.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// The pause before a step that failed is repeated, if nothing changes before.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The time for a leader to answer which replicas vote. After it, there counts as no leader.
const ASK_MAX: Duration = Duration::from_secs(5);
/// The most entries of the leader's log that a learner may lack when it is promoted.
const PROMOTE_LAG_MAX: u64 = 1024;

/// The facts from which a step is decided.
#[derive(Clone, Debug, Default)]
pub struct Seating {
    /// One set of voters, or two while they change.
    pub configs: Vec<BTreeSet<ReplicaId>>,
    /// Voters and learners.
    pub seats: BTreeMap<ReplicaId, DiskId>,
    /// The replicas of this process that are alive.
    pub alive: BTreeMap<ReplicaId, DiskId>,
    /// Disks that can hold a replica.
    pub usable: Vec<DiskId>,
    pub voters_max: usize,
}

/// One step towards the voters that a group should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterStep {
    Nothing,
    /// Complete a change that was interrupted between its two halves.
    Flatten,
    /// End a replica that is no member (any more), and remove its rows.
    Drop(ReplicaId),
    /// Remove learners that are of no use.
    Remove(BTreeSet<ReplicaId>),
    /// Make a replica on this disk, as a learner.
    Add(DiskId),
    /// Make these the voters as soon as the new ones have caught up.
    Promote(BTreeSet<ReplicaId>),
}

pub fn next_step(seating: &Seating) -> VoterStep {
    let Seating {
        configs,
        seats,
        alive,
        usable,
        voters_max,
    } = seating;
    let voters = match &configs[..] {
        [voters] => voters,
        [] => return VoterStep::Nothing,
        _ => return VoterStep::Flatten,
    };
    if let Some(stray) = alive.keys().find(|id| !seats.contains_key(id)) {
        return VoterStep::Drop(*stray);
    }
    let learners: BTreeSet<_> = seats
        .keys()
        .filter(|id| !voters.contains(id))
        .copied()
        .collect();
    let (mut fit, mut useless): (BTreeSet<_>, BTreeSet<_>) =
        learners.into_iter().partition(|id| alive.contains_key(id));
    let (living, mut dead): (Vec<_>, Vec<_>) = voters.iter().partition(|id| alive.contains_key(id));
    // A dead voter whose disk works never comes back, so it is replaced first. A voter on an
    // offline disk may come back.
    dead.sort_by_key(|id: &&ReplicaId| seats.get(*id).is_some_and(|disk| usable.contains(disk)));
    let size = voters.len().max(usable.len().min(*voters_max));
    let lacking = size - living.len();
    while fit.len() > lacking {
        useless.extend(fit.pop_last());
    }
    if !useless.is_empty() {
        return VoterStep::Remove(useless);
    }
    let used: BTreeSet<_> = alive.values().collect();
    if fit.len() < lacking
        && let Some(free) = usable.iter().find(|disk| !used.contains(disk))
    {
        return VoterStep::Add(*free);
    }
    if fit.is_empty() {
        return VoterStep::Nothing;
    }
    let kept = dead.into_iter().take(lacking - fit.len());
    VoterStep::Promote(
        living
            .into_iter()
            .chain(&fit)
            .chain(kept)
            .copied()
            .collect(),
    )
}

/// The numbers of a group's voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterCount {
    pub alive: usize,
    pub all: usize,
    /// The number of voters that must be alive.
    pub quorum: usize,
}

/// Counts the voters. While they change, counts the set with fewer voters alive.
fn count_voters<'a>(
    configs: impl IntoIterator<Item = &'a BTreeSet<ReplicaId>>,
    is_alive: impl Fn(&ReplicaId) -> bool,
) -> Option<VoterCount> {
    let count = |config: &BTreeSet<ReplicaId>| VoterCount {
        alive: config.iter().filter(|id| is_alive(id)).count(),
        all: config.len(),
        quorum: config.len() / 2 + 1,
    };
    let counts = configs.into_iter().map(count);
    counts.min_by_key(|voters| voters.alive)
}

impl Group {
    /// Counts the voters of the committed membership. Replicas that are only about to become voters
    /// do not count: after a crash and the loss of disks, those left may not know that they were
    /// made voters.
    pub async fn voters(&self) -> Result<VoterCount> {
        let members = self.members();
        let leader = *members.leader_changes().borrow();
        let leader = leader.and_then(|leader| members.member(leader.replica));
        let leader = leader.ok_or_else(|| members.unavailable("no leader to count voters"))?;
        let raft = &leader.raft;
        let answer = raft.with_raft_state(|state| state.membership_state.committed().clone());
        let committed = members.env.timeout(ASK_MAX, answer).await;
        let committed = committed
            .map_err(|_| members.unavailable("its leader does not answer which replicas vote"))?
            .map_err(|e| members.unavailable(e))?;
        let alive = members.alive();
        let is_alive = |id: &ReplicaId| alive.iter().any(|member| member.replica == *id);
        let count = count_voters(committed.get_joint_config(), is_alive);
        count.ok_or_else(|| members.unavailable("no replica votes"))
    }
}

impl Members {
    /// Performs one step after the other until `closing` changes or its sender is dropped.
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
            let result = tokio::select! {
                _ = closing.changed() => return,
                result = self.seat_voters() => result,
                _ = paused.changed() => continue,
            };
            if let Err(error) = &result {
                tracing::warn!(%error, group = self.group.0, "voters are not as they should be");
            }
            tokio::select! {
                _ = closing.changed() => return,
                _ = changes.changed() => {}
                _ = leaders.changed() => {}
                () = self.env.sleep(RETRY_AFTER), if result.is_err() => {}
            }
        }
    }

    /// Performs steps until none is needed, or no replica of this process leads.
    async fn seat_voters(&self) -> Result<()> {
        let _only_one = self.change.lock().await;
        loop {
            let leader = *self.leader_changes().borrow();
            let Some(leader) = leader.and_then(|leader| self.member(leader.replica)) else {
                return Ok(());
            };
            let seating = self.seating(&leader).await?;
            let step = next_step(&seating);
            if step != VoterStep::Nothing {
                tracing::info!(group = self.group.0, ?step, "changing voters");
            }
            match step {
                VoterStep::Nothing => return Ok(()),
                VoterStep::Flatten => {
                    let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
                    self.change_seats(&leader, nothing).await?;
                }
                VoterStep::Remove(learners) => {
                    let removed = ChangeMembers::RemoveNodes(learners);
                    self.change_seats(&leader, removed).await?;
                }
                VoterStep::Drop(replica) => self.drop_replica(replica).await?,
                VoterStep::Add(disk) => {
                    let made = self.make_replica(disk).await?;
                    let seats = BTreeMap::from([(made, Seat { disk })]);
                    self.change_seats(&leader, ChangeMembers::AddNodes(seats))
                        .await?;
                }
                VoterStep::Promote(voters) => {
                    if self.caught_up(&leader, &voters).await {
                        let replaced = ChangeMembers::ReplaceAllVoters(voters);
                        self.change_seats(&leader, replaced).await?;
                    }
                }
            }
        }
    }

    /// Reads the membership linearizably: a replica's data are dropped only if a majority has the
    /// membership without it.
    async fn seating(&self, leader: &Member) -> Result<Seating> {
        let proof = leader.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let proof = self.env.timeout(CHANGE_DEADLINE, proof).await;
        proof
            .map_err(|_| self.unavailable("its leader has no majority"))?
            .map_err(|e| self.unavailable(e))?;
        let memberships = leader.raft.with_raft_state(|state| {
            let state = &state.membership_state;
            (state.committed().clone(), state.effective().clone())
        });
        let (committed, effective) = memberships.await.map_err(|e| self.unavailable(e))?;
        if committed.log_id() != effective.log_id() {
            return Err(self.unavailable("a change of voters is not committed yet"));
        }
        let seats = committed.nodes().map(|(id, seat)| (*id, seat.disk));
        Ok(Seating {
            configs: committed.get_joint_config().clone(),
            seats: seats.collect(),
            alive: self.alive().iter().map(|m| (m.replica, m.disk)).collect(),
            usable: self.seatable(),
            voters_max: self.voters_max,
        })
    }

    /// Commits a change of members.
    ///
    /// Power goes between the two halves of a joint change, or the wait ends early: the next step
    /// finds the joint membership and flattens it.
    async fn change_seats(
        &self,
        leader: &Member,
        change: ChangeMembers<ReplicaId, Seat>,
    ) -> Result<()> {
        let changed = leader.raft.change_membership(change, false);
        let changed = self.env.timeout(CHANGE_DEADLINE, changed).await;
        changed
            .map_err(|_| self.unavailable("a change of voters was not committed in time"))?
            .map_err(|e| self.unavailable(e))?;
        leader.shared.db.crash().pass_disk(DiskPoint::SeatsChanged);
        Ok(())
    }

    /// Makes a replica on a disk.
    ///
    /// Power goes after the row is written: the replica has no log. The next start finds that it
    /// is no member, and drops it.
    async fn make_replica(&self, id: DiskId) -> Result<ReplicaId> {
        let disk = self.responsive().into_iter().find(|disk| disk.id == id);
        let disk = disk.ok_or_else(|| self.unavailable("the disk for a new replica is offline"))?;
        let history = self.history();
        // Before it may vote, it takes part in this start, and all other disks know that.
        roster::join(&disk.open_disk(), &history).await?;
        let others: Vec<_> = self.healthy().iter().map(ReplicaDisk::open_disk).collect();
        roster::stamp(&others, history.start).await?;
        let state = disk.db.run_blocking(|db| unused_state(db)).await?;
        let replica = ReplicaId::random(self.env.as_ref());
        let row = ReplicaRow {
            group: self.group,
            incarnation: history.incarnation(),
            state,
        };
        let db = &disk.db;
        db.synced(|batch| put_replica_row(db, batch, replica, &row))
            .await?;
        db.crash().pass_disk(DiskPoint::ReplicaMade);
        let db = db.clone();
        if let Err(error) = self.admit(MemberSetup { disk, replica, row }).await {
            // Otherwise each attempt would leave a row and a state until the next start.
            delete_replica(&db, replica, row).await?;
            return Err(error);
        }
        self.counts.made.fetch_add(1, Ordering::Relaxed);
        Ok(replica)
    }

    /// Ends a replica that is no member, and removes its rows.
    ///
    /// Power goes before the batch: the next start finds the stray again. After it: no row names
    /// its state, and the next start removes the state.
    async fn drop_replica(&self, replica: ReplicaId) -> Result<()> {
        if let Some(member) = self.remove(replica) {
            member.end().await;
            delete_replica(&member.shared.db, replica, member.shared.row()).await?;
        }
        Ok(())
    }

    /// Waits until the leader knows that all of `voters` that are alive have its log. Returns false
    /// if a replica, a disk or the leadership changed, so that the step must be decided again.
    async fn caught_up(&self, leader: &Member, voters: &BTreeSet<ReplicaId>) -> bool {
        let mut metrics = leader.raft.metrics();
        let mut changes = self.changes();
        let alive: BTreeSet<_> = self.alive().iter().map(|m| m.replica).collect();
        let awaited = || voters.iter().filter(|id| alive.contains(id));
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

    fn unavailable(&self, what: impl std::fmt::Display) -> Error {
        Error::Unavailable(format!("group {}: {what}", self.group.0))
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

    /// Seats replica n on disk n, and from 10 on on disk n - 10.
    fn at(ids: &[u64]) -> BTreeMap<ReplicaId, DiskId> {
        let seat = |id: &u64| (ReplicaId(*id), disk((*id % 10) as u8));
        ids.iter().map(seat).collect()
    }

    fn seating(voters: &[u64], learners: &[u64], alive: &[u64], usable: &[u8]) -> Seating {
        Seating {
            configs: vec![ids(voters)],
            seats: at(&[voters, learners].concat()),
            alive: at(alive),
            usable: usable.iter().copied().map(disk).collect(),
            voters_max: 5,
        }
    }

    /// Once a store was reported as healthy while new voters did not know yet that they were
    /// voters. After a crash at that moment it did not start without the other disks.
    #[test]
    fn f_16_voters_that_are_only_coming_in_do_not_count() {
        let is_alive = |id: &ReplicaId| id.0 != 4;
        let of = |configs: &[&[u64]]| {
            let configs: Vec<_> = configs.iter().map(|config| ids(config)).collect();
            let count = count_voters(&configs, is_alive).unwrap();
            (count.alive, count.all, count.quorum)
        };
        assert_eq!(of(&[&[1, 2]]), (2, 2, 2));
        assert_eq!(of(&[&[1, 2], &[1, 2, 3, 5]]), (2, 2, 2));
        assert_eq!(of(&[&[1, 2, 3, 5]]), (4, 4, 3));
        assert_eq!(of(&[&[1, 2, 3, 5], &[1, 2, 4]]), (2, 3, 2));
    }

    #[test]
    fn f_22_a_lost_voter_is_replaced_learner_first_and_once() {
        let mut now = seating(&[1, 2, 3, 4, 5], &[], &[1, 2, 3, 4], &[1, 2, 3, 4, 6]);
        assert_eq!(next_step(&now), VoterStep::Add(disk(6)));
        now.seats.extend(at(&[6]));
        now.alive.extend(at(&[6]));
        assert_eq!(next_step(&now), VoterStep::Promote(ids(&[1, 2, 3, 4, 6])));
        now.configs.push(ids(&[1, 2, 3, 4, 6]));
        assert_eq!(next_step(&now), VoterStep::Flatten);
        now.configs.remove(0);
        now.seats.remove(&ReplicaId(5));
        assert_eq!(next_step(&now), VoterStep::Nothing);
        // The disk comes back with its old replica.
        now.usable.push(disk(5));
        now.alive.extend(at(&[5]));
        assert_eq!(next_step(&now), VoterStep::Drop(ReplicaId(5)));
    }

    #[test]
    fn a_dead_voter_stays_in_the_count_where_no_disk_is_left() {
        let mut now = seating(&[1, 2, 3, 4], &[], &[1, 2, 3], &[1, 2, 3]);
        assert_eq!(next_step(&now), VoterStep::Nothing);
        // Its own disk again, with a new database.
        now.usable.push(disk(4));
        assert_eq!(next_step(&now), VoterStep::Add(disk(4)));
        now.seats.extend(at(&[14]));
        now.alive.extend(at(&[14]));
        assert_eq!(next_step(&now), VoterStep::Promote(ids(&[1, 2, 3, 14])));
    }

    /// Found by reading: it was random which of two lost voters was replaced first.
    #[test]
    fn f_14_a_voter_whose_disk_may_come_back_gives_way_last() {
        for offline in [1, 2] {
            // The other disk has a new database.
            let usable: Vec<_> = (1..=5).filter(|n| u64::from(*n) != offline).collect();
            let fresh = 13 - offline;
            let now = seating(&[1, 2, 3, 4, 5], &[fresh], &[3, 4, 5, fresh], &usable);
            let kept = ids(&[offline, 3, 4, 5, fresh]);
            assert_eq!(next_step(&now), VoterStep::Promote(kept));
        }
    }

    #[test]
    fn what_a_crash_left_is_finished_or_removed() {
        // A learner that is alive, one that is not, one too many, and a replica that is no member.
        let now = seating(&[1, 2, 3], &[4], &[1, 2, 3, 4], &[1, 2, 3, 4]);
        assert_eq!(next_step(&now), VoterStep::Promote(ids(&[1, 2, 3, 4])));
        let now = seating(&[1, 2, 3], &[9], &[1, 2, 3], &[1, 2, 3]);
        assert_eq!(next_step(&now), VoterStep::Remove(ids(&[9])));
        let now = seating(&[1, 2, 3], &[11], &[1, 2, 3, 11], &[1, 2, 3]);
        assert_eq!(next_step(&now), VoterStep::Remove(ids(&[11])));
        let now = seating(&[1, 2, 3], &[], &[1, 2, 3, 7], &[1, 2, 3, 7]);
        assert_eq!(next_step(&now), VoterStep::Drop(ReplicaId(7)));
    }

    #[test]
    fn a_group_grows_with_its_disks_up_to_its_bound() {
        let mut now = seating(&[1], &[], &[1], &[1, 2, 3, 4, 5, 6, 7]);
        for n in 2..=5 {
            assert_eq!(next_step(&now), VoterStep::Add(disk(n)));
            now.seats.extend(at(&[u64::from(n)]));
            now.alive.extend(at(&[u64::from(n)]));
        }
        let all = ids(&[1, 2, 3, 4, 5]);
        assert_eq!(next_step(&now), VoterStep::Promote(all.clone()));
        now.configs = vec![all];
        assert_eq!(next_step(&now), VoterStep::Nothing);
    }
}
