//! The handle on one Raft group. openraft's types end here.
//!
//! A proposal is driven to its end in a task of its own, over changes of leader, under the same
//! request id: the state machine answers a repeated one as it did the first. Readers share their
//! proof that nothing newer is committed: one that comes while a round is under way joins the
//! next, so that a round always begins after all its readers did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::log::run_blocking;
use super::members::{Leader, Member, Members};
use super::place::Place;
use super::replica::Shared;
use super::replica_row::GroupId;
use super::types::{Proposal, ReplicaId};
use crate::db::{Db, ReadAt};
use crate::meta::command::{Command, Reply};
use crate::meta::view::View;
use drystone_store::crash::{Point, Step};
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// A proposal that no leader has answered by then may or may not be committed.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(10);
/// A read finds a leader by then, or none.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// A leader that refused is asked again after this, when no news of another came.
const RETRY_AFTER_MAX: Duration = Duration::from_millis(200);
/// Proposals under way; more wait for their turn.
const PROPOSALS_MAX: usize = 4096;
/// Readers that wait for a round; more wait for their turn.
const READERS_WAITING_MAX: usize = 4096;
/// Reads of RocksDB at once, on blocking threads.
const READS_MAX: usize = 64;

type Waiter = oneshot::Sender<Option<Arc<Member>>>;

/// A handle on one group of this node. Cheap to clone. The group ends with its last handle, or
/// properly by [`Group::shutdown`].
#[derive(Clone)]
pub struct Group(Arc<Inner>);

struct Inner {
    members: Arc<Members>,
    rounds: mpsc::Sender<Waiter>,
    proposals: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    closing: watch::Sender<bool>,
}

/// How a group is.
#[derive(Clone, Debug)]
#[allow(
    dead_code,
    reason = "the quorum is shown now, the rest is for the operator's status"
)]
pub struct GroupStatus {
    pub group: GroupId,
    /// The disk whose replica leads, when one of this node does.
    pub leader: Option<DiskId>,
    pub voters: Vec<VoterStatus>,
    /// So many voters must be alive.
    pub quorum: usize,
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "for the operator's status")]
pub struct VoterStatus {
    pub disk: DiskId,
    pub alive: bool,
}

impl Group {
    /// `closing` is what the members look at.
    pub(super) fn new(members: Arc<Members>, closing: watch::Sender<bool>) -> Group {
        let (rounds, waiting) = mpsc::channel(READERS_WAITING_MAX);
        members.look_after();
        tokio::spawn(run_rounds(members.clone(), waiting));
        Group(Arc::new(Inner {
            members,
            rounds,
            proposals: Arc::new(Semaphore::new(PROPOSALS_MAX)),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            closing,
        }))
    }

    /// Commits and applies `command`, and gives the state machine's answer.
    ///
    /// Goes on when the caller is gone. `Unavailable` means that nobody can tell yet: the same
    /// command may be proposed again.
    pub async fn propose(&self, command: Command) -> Result<Reply> {
        let permit = self.0.proposals.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::Closing)?;
        let inner = self.0.clone();
        let task = tokio::spawn(async move {
            let result = inner.drive(Proposal::new(command)).await;
            drop(permit);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Closing),
        }
    }

    /// Calls `read` on a blocking thread with a view that holds all that was committed before
    /// this call; calls it again, on another replica, when the one that it reads fails under it.
    pub async fn read<T, F>(&self, mut read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&View<'_>) -> Result<T> + Send + 'static,
    {
        let due = Instant::now() + READ_DEADLINE;
        let mut leaders = self.0.members.leader_changes();
        loop {
            let leader = *leaders.borrow_and_update();
            let member = self.round().await?;
            let replica = member.replica;
            let permit = self.0.reads.clone().acquire_owned().await;
            let permit = permit.map_err(|_| Error::Closing)?;
            let found = tokio::task::spawn_blocking(move || {
                let found = read_on(&member.shared, &read);
                drop(permit);
                (found, read)
            });
            let error = match found.await {
                Ok((Found::Answer(result), _)) => return result,
                Ok((Found::Lost(error), again)) => {
                    read = again;
                    error
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return Err(Error::Closing),
            };
            if Instant::now() >= due {
                return Err(
                    error.unwrap_or_else(|| self.0.unavailable("lost its leader during a read"))
                );
            }
            tracing::info!(?error, %replica, group = self.0.members.group.0, "read goes on");
            if let Some(leader) = leader.filter(|leader| leader.replica == replica) {
                wait_for_another(&mut leaders, leader).await;
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
        member.ok_or_else(|| self.0.unavailable("has no leader that a majority follows"))
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

    /// How often the group got another leader since the process began.
    pub fn leader_changes(&self) -> u64 {
        self.0.members.leader_changes_count()
    }

    /// How many replicas were lost, and how many made on a disk, since the process began.
    pub fn replica_changes(&self) -> (u64, u64) {
        let counts = &self.0.members.counts;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&counts.lost), count(&counts.made))
    }

    /// The number of recoveries of the group.
    pub fn incarnation(&self) -> u64 {
        self.0.members.standing().incarnation()
    }

    /// Reads a piece of what the disk's database has from its files, from `at` on. Gives how much
    /// it was, and where to go on. Damage ends the database's use: its replicas are lost, and it
    /// is made anew.
    pub async fn read_again(
        &self,
        disk: DiskId,
        at: Option<ReadAt>,
        bytes: u64,
    ) -> Result<(u64, Option<ReadAt>)> {
        let places = self.0.members.places();
        let Some(place) = places.into_iter().find(|place| place.disk == disk) else {
            return Ok((0, None));
        };
        Ok(run_blocking(move || place.db.read_again(at, bytes)).await?)
    }

    /// The disk is gone: its replica ends at once, and if it led, another one stands.
    pub fn replica_lost(&self, disk: DiskId) {
        for member in self
            .0
            .members
            .alive()
            .iter()
            .filter(|member| member.disk == disk)
        {
            // The other groups' replicas on it hear of it, too.
            member.shared.db.give_up("the disk is gone");
        }
    }

    /// A disk that can bear replicas from now on: it joined, came back with another database, or
    /// took the place of a lost one. If the group lacks a voter, it gets one there.
    pub fn add_disk(&self, disk: DiskId, db: Arc<Db>) {
        let meter = self.0.members.router.meter(disk);
        self.0.members.add_place(Place { disk, db, meter });
    }

    pub(super) fn members(&self) -> &Arc<Members> {
        &self.0.members
    }

    /// The disk never comes back: the group lets go of its database and has no replica on it.
    pub fn remove_disk(&self, disk: DiskId) {
        self.0.members.remove_place(disk);
    }

    /// Ends the group's replicas. Their databases stay open.
    pub async fn shutdown(&self) {
        self.0.closing.send_replace(true);
        self.0.proposals.close();
        self.0.reads.close();
        self.0.members.shutdown().await;
    }
}

impl Inner {
    fn unavailable(&self, what: &str) -> Error {
        Error::Unavailable(format!("group {} {what}", self.members.group.0))
    }

    async fn drive(&self, proposal: Proposal) -> Result<Reply> {
        let kind = proposal.command().change.kind();
        let driven = tokio::time::timeout(PROPOSE_DEADLINE, async {
            let mut leaders = self.members.leader_changes();
            loop {
                let (leader, member) = wait_for_leader(&self.members, &mut leaders).await?;
                let crash = member.shared.db.crash();
                crash.pass(Point::Command(kind, Step::Proposing));
                match member.raft.client_write(proposal.clone()).await {
                    Ok(written) => match written.data.0 {
                        Some(outcome) => {
                            crash.pass(Point::Command(kind, Step::Answered));
                            return Ok(outcome?);
                        }
                        None => unreachable!("a command's entry answers with its outcome"),
                    },
                    Err(error) => {
                        tracing::info!(%error, group = self.members.group.0, "proposal goes on");
                        wait_for_another(&mut leaders, leader).await;
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

/// What a read finds on one replica.
enum Found<T> {
    Answer(Result<T>),
    /// Nothing that holds, as the replica was lost under the read.
    Lost(Option<Error>),
}

fn read_on<T>(shared: &Shared, read: impl Fn(&View<'_>) -> Result<T>) -> Found<T> {
    let state = shared.row().state;
    let result = read(&shared.state().view());
    match result {
        // One that lost its leadership may have been given another state, or have been dropped.
        _ if !shared.has(state) => Found::Lost(None),
        Err(Error::Unavailable(why)) if shared.db.failure().borrow().is_some() => {
            Found::Lost(Some(Error::Unavailable(why)))
        }
        result => Found::Answer(result),
    }
}

/// The leader and its replica, as soon as there is one. Ends with an error when there are no
/// replicas left.
async fn wait_for_leader(
    members: &Members,
    leaders: &mut watch::Receiver<Option<Leader>>,
) -> Result<(Leader, Arc<Member>)> {
    loop {
        let leader = *leaders.borrow_and_update();
        if let Some(leader) = leader
            && let Some(member) = members.member(leader.replica)
        {
            return Ok((leader, member));
        }
        leaders.changed().await.map_err(|_| Error::Closing)?;
    }
}

/// Waits for news of a leader other than the one that refused, but not for long.
async fn wait_for_another(leaders: &mut watch::Receiver<Option<Leader>>, refused: Leader) {
    let another = leaders.wait_for(|leader| leader.is_some_and(|leader| leader != refused));
    tokio::time::timeout(RETRY_AFTER_MAX, another).await.ok();
}

/// One round after the other: takes all readers that wait, has the leader prove once that it
/// still leads and has applied all that was committed, and lets them read at it.
async fn run_rounds(members: Arc<Members>, mut waiting: mpsc::Receiver<Waiter>) {
    let mut leaders = members.leader_changes();
    while let Some(first) = waiting.recv().await {
        let mut readers = vec![first];
        while let Ok(reader) = waiting.try_recv() {
            readers.push(reader);
        }
        let proof = tokio::time::timeout(READ_DEADLINE, async {
            loop {
                let (leader, member) = wait_for_leader(&members, &mut leaders).await.ok()?;
                match member.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
                    Ok(_) => return Some(member),
                    Err(error) => {
                        tracing::info!(%error, group = members.group.0, "read round goes on");
                        wait_for_another(&mut leaders, leader).await;
                    }
                }
            }
        });
        let member = proof.await.ok().flatten();
        for reader in readers {
            // A reader that is gone needs no answer.
            reader.send(member.clone()).ok();
        }
    }
}

#[cfg(test)]
impl Group {
    /// Has all replicas flush and drop what log they may.
    pub async fn compact(&self) {
        for member in self.0.members.alive() {
            member.raft.trigger().snapshot().await.ok();
        }
    }

    /// Up to where all replicas have dropped their logs.
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

    /// Whether all voters have applied the same, and are here.
    pub fn all_applied(&self) -> bool {
        let alive = self.0.members.alive();
        let applied: std::collections::BTreeSet<_> = alive
            .iter()
            .map(|m| m.raft.metrics().borrow_watched().last_applied)
            .collect();
        applied.len() == 1 && alive.len() == self.status().voters.len()
    }

    /// How often replicas were asked for that are not in this process.
    pub fn unreachable(&self) -> u64 {
        self.0
            .members
            .router
            .unreachable
            .load(std::sync::atomic::Ordering::Relaxed)
    }
}
