//! The handle on one Raft group. openraft's types end here.
//!
//! Each proposal runs in a task of its own until it is answered, across changes of leader and under
//! the same request id. The state machine gives a repeated request the same answer as the first.
//!
//! A read first needs a proof that nothing newer is committed: one round, shared by all readers
//! that wait. A reader that comes while a round is in progress joins the next one, so a round
//! always begins after all of its readers.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::agreement::{Disagreement, compare};
use super::disk::ReplicaDisk;
use super::members::{Leader, Member, Members};
use super::replica::SharedState;
use super::replica_row::GroupId;
use super::types::{Proposal, ReplicaId};
use crate::db::{Db, ReadAt};
use crate::meta::command::{Command, Reply};
use crate::meta::view::View;
use drystone_store::crash::{CommandPoint, Point};
use drystone_store::env::{Env, TaskError};
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// The time for a leader to answer a proposal. After it, the proposal may or may not be committed.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(10);
/// The time for a read to find a leader.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// The pause before a leader that refused is asked again, if there is no other leader before.
const RETRY_AFTER_MAX: Duration = Duration::from_millis(200);
/// How long a replica that leads no longer may take to answer.
const LEFT_AFTER: Duration = Duration::from_millis(500);
/// The most proposals in progress. Further ones queue.
const PROPOSALS_MAX: usize = 4096;
/// The most readers that wait for a round. Further ones queue.
const READERS_WAITING_MAX: usize = 4096;
/// The most reads of RocksDB at once, on blocking threads.
const READS_MAX: usize = 64;

type Waiter = oneshot::Sender<Option<Arc<Member>>>;

/// A handle on one group of this node. Cheap to clone. The group ends with its last handle, or in
/// an orderly way by [`Group::shutdown`].
#[derive(Clone)]
pub struct Group(Arc<GroupInner>);

struct GroupInner {
    members: Arc<Members>,
    rounds: mpsc::Sender<Waiter>,
    proposals: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

/// The state of a group.
#[derive(Clone, Debug)]
#[allow(
    dead_code,
    reason = "the quorum is shown now, the rest is for the operator's status"
)]
pub struct GroupStatus {
    pub group: GroupId,
    /// The disk whose replica leads, if a replica of this node does.
    pub leader: Option<DiskId>,
    pub voters: Vec<VoterStatus>,
    /// The number of voters that must be alive.
    pub quorum: usize,
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "for the operator's status")]
pub struct VoterStatus {
    pub disk: DiskId,
    pub alive: bool,
}

impl Group {
    /// `closing` must be the sender of the receiver that the members have.
    pub(super) fn new(members: Arc<Members>, closing: watch::Sender<bool>) -> Group {
        let (rounds, waiting) = mpsc::channel(READERS_WAITING_MAX);
        members.spawn_tasks();
        members.env.spawn(run_rounds(members.clone(), waiting));
        Group(Arc::new(GroupInner {
            members,
            rounds,
            proposals: Arc::new(Semaphore::new(PROPOSALS_MAX)),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            closing,
        }))
    }

    /// Commits and applies `command`, and returns the state machine's answer.
    ///
    /// Continues if the caller is dropped. `Unavailable` means that the outcome is not known yet:
    /// the same command may be proposed again.
    pub async fn propose(&self, command: Command) -> Result<Reply> {
        let permit = self.0.proposals.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::Closing)?;
        let inner = self.0.clone();
        let task = self.0.members.env.spawn(async move {
            let result = inner.drive(Proposal::new(command)).await;
            drop(permit);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(TaskError::Panicked(panic)) => resume_unwind(panic),
            Err(TaskError::Dropped) => Err(Error::Closing),
        }
    }

    /// Calls `read` on a blocking thread with a view of everything that was committed before this
    /// call. Calls it again on another replica if the replica fails during the read, or does not
    /// answer and leads no longer.
    pub async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&View<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let read = Arc::new(read);
        let env = &self.0.members.env;
        let due = env.after(READ_DEADLINE);
        let mut leaders = self.0.members.leader_changes();
        loop {
            let leader = *leaders.borrow_and_update();
            let member = self.round().await?;
            let replica = member.replica;
            let permit = self.0.reads.clone().acquire_owned().await;
            let permit = permit.map_err(|_| Error::Closing)?;
            let this_read = read.clone();
            let reading = env.spawn_blocking(move || {
                let _operation = member.shared.db.operations().begin();
                #[cfg(test)]
                member.shared.db.gate().pass();
                let result = read_on(&member.shared, &*this_read);
                drop(permit);
                result
            });
            let reading = tokio::select! {
                biased;
                reading = reading => reading,
                () = lost_lead_for_long(env.as_ref(), &self.0.members, replica) => {
                    Ok(ReadResult::Lost(None))
                }
            };
            let error = match reading {
                Ok(ReadResult::Answer(result)) => return result,
                Ok(ReadResult::Lost(error)) => error,
                Err(TaskError::Panicked(panic)) => resume_unwind(panic),
                Err(TaskError::Dropped) => return Err(Error::Closing),
            };
            if env.instant() >= due {
                return Err(
                    error.unwrap_or_else(|| self.0.unavailable("lost its leader during a read"))
                );
            }
            tracing::info!(?error, %replica, group = self.0.members.group.0, "repeating a read");
            if let Some(leader) = leader.filter(|leader| leader.replica == replica) {
                wait_for_another(env.as_ref(), &mut leaders, leader).await;
            }
        }
    }

    /// Waits until the group has a leader that can answer reads.
    pub async fn ready(&self) -> Result<()> {
        self.round().await.map(drop)
    }

    async fn round(&self) -> Result<Arc<Member>> {
        if *self.0.closing.borrow() {
            return Err(Error::Closing);
        }
        let (tx, rx) = oneshot::channel();
        self.0.rounds.send(tx).await.map_err(|_| Error::Closing)?;
        let member = rx.await.map_err(|_| Error::Closing)?;
        member.ok_or_else(|| {
            self.0
                .members
                .halt_error()
                .unwrap_or_else(|| self.0.unavailable("has no leader that a majority follows"))
        })
    }

    pub fn status(&self) -> GroupStatus {
        let members = &self.0.members;
        let alive = members.alive();
        let leader = *members.leader_changes().borrow();
        let leading = leader.and_then(|leader| members.member(leader.replica));
        let metrics = leading
            .as_ref()
            .or(alive.first())
            .map(|m| m.raft.server_metrics());
        let membership = metrics.map(|metrics| metrics.borrow_watched().membership_config.clone());
        let is_alive = |id: ReplicaId| alive.iter().any(|member| member.replica == id);
        let voters: Vec<_> = membership
            .iter()
            .flat_map(|m| {
                m.voter_ids()
                    .filter_map(|id| Some((id, m.get_node(&id)?.disk)))
            })
            .map(|(id, disk)| VoterStatus {
                disk,
                alive: is_alive(id),
            })
            .collect();
        GroupStatus {
            group: members.group,
            leader: leading.map(|member| member.disk),
            quorum: voters.len() / 2 + 1,
            voters,
        }
    }

    /// Returns the number of changes of leader since the process began.
    pub fn leader_changes(&self) -> u64 {
        self.0.members.leader_changes_count()
    }

    /// Returns the numbers of replicas that were lost and made since the process began.
    pub fn replica_changes(&self) -> (u64, u64) {
        let counts = &self.0.members.counts;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&counts.lost), count(&counts.made))
    }

    /// Returns the number of recoveries of the group.
    pub fn incarnation(&self) -> u64 {
        self.0.members.history().incarnation()
    }

    /// Compares the replicas of this process. Returns the newest entry at which any differ, and the
    /// disks of those that differ from most of the others.
    pub fn disagreement(&self) -> Option<(u64, BTreeSet<DiskId>)> {
        let alive = self.0.members.alive();
        let noted = alive
            .iter()
            .map(|member| (member.replica, member.shared.checkpoints().all()));
        let Disagreement { index, wrong } = compare(&noted.collect::<Vec<_>>())?;
        let is_wrong = |member: &&Arc<Member>| wrong.contains(&member.replica);
        let disks = alive.iter().filter(is_wrong).map(|member| member.disk);
        Some((index, disks.collect()))
    }

    /// Ends the use of a disk's database, because its replica of this group differs from the
    /// others: it is rebuilt.
    pub fn refuse_disk(&self, disk: DiskId, why: &str) {
        let alive = self.0.members.alive();
        if let Some(member) = alive.iter().find(|member| member.disk == disk) {
            member.shared.db.corrupt(why);
        }
    }

    /// Reads a part of the disk's database again from its files, starting at `at`. Returns the
    /// number of bytes and where to continue. Damage ends the use of the database: its replicas are
    /// lost, and it is rebuilt.
    pub async fn read_again(
        &self,
        disk: DiskId,
        at: Option<ReadAt>,
        bytes: u64,
    ) -> Result<(u64, Option<ReadAt>)> {
        let disks = self.0.members.disks();
        let Some(open) = disks.into_iter().find(|open| open.id == disk) else {
            return Ok((0, None));
        };
        Ok(open
            .db
            .run_blocking(move |db| db.read_again(at, bytes))
            .await?)
    }

    /// Sets the disks that do not answer in time: none of their replicas leads for long.
    pub async fn set_slow(&self, slow: &BTreeSet<DiskId>) {
        self.0.members.set_slow(slow).await;
    }

    /// Returns whether a majority of the voters is alive on disks that are not among `without`.
    pub fn has_majority_without(&self, without: &BTreeSet<DiskId>) -> bool {
        let status = self.status();
        let voters = status.voters.iter();
        let left = voters.filter(|voter| voter.alive && !without.contains(&voter.disk));
        left.count() >= status.quorum
    }

    /// Ends the group's replica on a disk that has failed. If it led, another replica campaigns.
    pub fn replica_lost(&self, disk: DiskId) {
        for member in self
            .0
            .members
            .alive()
            .iter()
            .filter(|member| member.disk == disk)
        {
            // This ends the other groups' replicas on it, too.
            member.shared.db.give_up("the disk has failed");
        }
    }

    /// Adds a disk that can hold replicas from now on: it joined, came back with another database,
    /// or replaced a lost disk. If the group lacks a voter, it gets one there.
    pub fn add_disk(&self, disk: DiskId, db: Arc<Db>) {
        let meter = self.0.members.router.meter(disk);
        self.0.members.add_disk(ReplicaDisk {
            id: disk,
            db,
            meter,
        });
    }

    pub(super) fn members(&self) -> &Arc<Members> {
        &self.0.members
    }

    /// Removes a disk that never comes back: the group closes its database and has no replica on
    /// it.
    pub fn remove_disk(&self, disk: DiskId) {
        self.0.members.remove_disk(disk);
    }

    /// Ends the group's replicas. Their databases stay open.
    pub async fn shutdown(&self) {
        self.0.closing.send_replace(true);
        self.0.proposals.close();
        self.0.reads.close();
        self.0.members.shutdown().await;
    }
}

impl GroupInner {
    fn unavailable(&self, what: &str) -> Error {
        Error::Unavailable(format!("group {} {what}", self.members.group.0))
    }

    async fn drive(&self, proposal: Proposal) -> Result<Reply> {
        let kind = proposal.command().change.kind();
        let env = self.members.env.as_ref();
        let driven = env.timeout(PROPOSE_DEADLINE, async {
            let mut leaders = self.members.leader_changes();
            loop {
                let (leader, member) = wait_for_leader(&self.members, &mut leaders).await?;
                let crash = member.shared.db.crash();
                crash.pass(Point::Command(kind, CommandPoint::Proposing));
                // A leader whose disk hangs does not answer even when another one leads.
                let write = tokio::select! {
                    biased;
                    write = member.raft.client_write(proposal.clone()) => write,
                    () = lost_lead_for_long(env, &self.members, member.replica) => continue,
                };
                match write {
                    Ok(written) => match written.data.0 {
                        Some(outcome) => {
                            crash.pass(Point::Command(kind, CommandPoint::Answered));
                            return Ok(outcome?);
                        }
                        None => unreachable!("a command's entry answers with its outcome"),
                    },
                    Err(error) => {
                        let group = self.members.group.0;
                        tracing::info!(%error, group, "repeating a proposal");
                        wait_for_another(env, &mut leaders, leader).await;
                    }
                }
                if *self.closing.borrow() {
                    return Err(Error::Closing);
                }
            }
        });
        match driven.await {
            Ok(result) => result,
            Err(_) => Err(self.unavailable("did not answer in time")),
        }
    }
}

/// The result of a read on one replica.
enum ReadResult<T> {
    Answer(Result<T>),
    /// The replica was lost during the read, so the result is not valid.
    Lost(Option<Error>),
}

fn read_on<T>(shared: &SharedState, read: impl Fn(&View<'_>) -> Result<T>) -> ReadResult<T> {
    let state = shared.row().state;
    let result = read(&shared.state().view());
    match result {
        // A replica that lost its leadership may have got another state, or have been dropped.
        _ if !shared.has(state) => ReadResult::Lost(None),
        Err(Error::Unavailable(why)) if shared.db.failure().borrow().is_some() => {
            ReadResult::Lost(Some(Error::Unavailable(why)))
        }
        result => ReadResult::Answer(result),
    }
}

/// Waits for a leader and returns it with its replica. Fails if the group has stopped.
async fn wait_for_leader(
    members: &Members,
    leaders: &mut watch::Receiver<Option<Leader>>,
) -> Result<(Leader, Arc<Member>)> {
    let mut halts = members.halts();
    loop {
        halts.borrow_and_update();
        if let Some(error) = members.halt_error() {
            return Err(error);
        }
        let leader = *leaders.borrow_and_update();
        if let Some(leader) = leader
            && let Some(member) = members.member(leader.replica)
        {
            return Ok((leader, member));
        }
        tokio::select! {
            changed = leaders.changed() => changed.map_err(|_| Error::Closing)?,
            changed = halts.changed() => changed.map_err(|_| Error::Closing)?,
        }
    }
}

/// Waits for a leader other than the one that refused, for at most [`RETRY_AFTER_MAX`].
async fn wait_for_another(
    env: &dyn Env,
    leaders: &mut watch::Receiver<Option<Leader>>,
    refused: Leader,
) {
    let another = leaders.wait_for(|leader| leader.is_some_and(|leader| leader != refused));
    env.timeout(RETRY_AFTER_MAX, another).await.ok();
}

/// Waits until a replica has not led for [`LEFT_AFTER`]: one on a disk that hangs may never
/// answer.
async fn lost_lead_for_long(env: &dyn Env, members: &Members, replica: ReplicaId) {
    let mut leaders = members.leader_changes();
    let others = leaders.wait_for(|leader| leader.is_some_and(|leader| leader.replica != replica));
    if others.await.is_err() {
        return std::future::pending().await;
    }
    env.sleep(LEFT_AFTER).await;
}

/// Runs one round after the other. In each, the leader proves once, for all readers that wait, that
/// it still leads and has applied everything that was committed. Then they read from it.
async fn run_rounds(members: Arc<Members>, mut waiting: mpsc::Receiver<Waiter>) {
    let mut leaders = members.leader_changes();
    while let Some(first) = waiting.recv().await {
        let mut readers = vec![first];
        while let Ok(reader) = waiting.try_recv() {
            readers.push(reader);
        }
        let proof = members.env.timeout(READ_DEADLINE, async {
            loop {
                let (leader, member) = wait_for_leader(&members, &mut leaders).await.ok()?;
                let env = members.env.as_ref();
                let proof = tokio::select! {
                    biased;
                    proof = member.raft.ensure_linearizable(ReadPolicy::ReadIndex) => proof,
                    () = lost_lead_for_long(env, &members, member.replica) => continue,
                };
                match proof {
                    Ok(_) => return Some(member),
                    Err(error) => {
                        tracing::info!(%error, group = members.group.0, "repeating a read round");
                        wait_for_another(members.env.as_ref(), &mut leaders, leader).await;
                    }
                }
            }
        });
        let member = proof.await.ok().flatten();
        for reader in readers {
            // A reader that was dropped needs no answer.
            reader.send(member.clone()).ok();
        }
    }
}

#[cfg(test)]
impl Group {
    /// Makes all replicas flush, and drop as much of their logs as they may.
    pub async fn compact(&self) {
        for member in self.0.members.alive() {
            member.raft.trigger().snapshot().await.ok();
        }
    }

    /// Returns the index up to which all replicas have dropped their logs.
    pub fn purged(&self) -> u64 {
        let alive = self.0.members.alive();
        let purged = alive
            .iter()
            .map(|m| m.raft.metrics().borrow_watched().purged);
        purged
            .map(|id| id.map_or(0, |id| id.index))
            .min()
            .unwrap_or(0)
    }

    /// Returns whether all voters are alive and have applied the same entries.
    pub fn all_applied(&self) -> bool {
        let alive = self.0.members.alive();
        let applied: BTreeSet<_> = alive
            .iter()
            .map(|m| m.raft.metrics().borrow_watched().last_applied)
            .collect();
        applied.len() == 1 && alive.len() == self.status().voters.len()
    }

    /// Returns the number of requests to replicas that are not in this process.
    pub fn unreachable(&self) -> u64 {
        self.0
            .members
            .router
            .unreachable
            .load(std::sync::atomic::Ordering::Relaxed)
    }
}
