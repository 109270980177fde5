//! The replicas of one group in this process, and which of them leads.
//!
//! A task watches the replicas. A replica whose disk's database fails is removed at once. If it was
//! the leader, the replica with the longest log campaigns at once, without waiting for a timeout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::TransferLeaderRequest;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::{Mutex, watch};

use super::disk::ReplicaDisk;
use super::election::{ELECTION_PAUSE, Election};
use super::history::History;
use super::log::RaftLog;
use super::log_meter::LogMeter;
use super::network::{Connector, Handle, Router};
use super::replica::{Applier, SharedState};
use super::replica_row::{GroupId, ReplicaRow};
use super::types::{LogId, ReplicaId, Seat, Types};
use crate::db::DbError;
use drystone_store::env::Env;
use drystone_store::error::{Error, Result};
use drystone_store::lock::RwLock;
use drystone_store::types::DiskId;

/// The time between two heartbeats of a leader. A replica of this process reports its own end, so
/// heartbeats only bound the time that is lost to a replica that hangs.
const HEARTBEAT: Duration = Duration::from_millis(1000);
/// A follower that hears nothing from a leader for this long campaigns.
const ELECTION_TIMEOUT: (Duration, Duration) =
    (Duration::from_millis(2500), Duration::from_millis(4000));
/// The most entries in one message to a follower.
const MESSAGE_ENTRIES_MAX: u64 = 256;
/// The number of applied entries that stay in the log for followers that lag.
pub(super) const LOG_KEPT_ENTRIES: u64 = 4096;
/// The time that a snapshot may take to reach a follower.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(3600);
/// The pauses between requests to a replica that does not answer.
const BACKOFF: &str = "20ms 40ms ...5s";
/// The most proposals that wait in a replica's queue.
const PROPOSALS_WAITING_MAX: u64 = 4096;

fn config(group: GroupId) -> Config {
    let config = Config {
        cluster_name: format!("group {}", group.0),
        heartbeat_interval: HEARTBEAT.as_millis() as u64,
        election_timeout_min: ELECTION_TIMEOUT.0.as_millis() as u64,
        election_timeout_max: ELECTION_TIMEOUT.1.as_millis() as u64,
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        install_snapshot_timeout: SNAPSHOT_TIMEOUT.as_millis() as u64,
        // A follower gets a snapshot only when what it lacks is purged.
        replication_lag_threshold: u64::MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: LOG_KEPT_ENTRIES,
        api_channel_size: Some(PROPOSALS_WAITING_MAX),
        backoff: BACKOFF.into(),
        enable_pre_vote: Some(true),
        // A restarted leader's state may lag behind what it has answered from. An election makes
        // it catch up first.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().expect("the settings fit together")
}

/// A replica to start, and its disk.
pub struct MemberSetup {
    pub disk: ReplicaDisk,
    pub replica: ReplicaId,
    pub row: ReplicaRow,
}

/// A running replica.
pub struct Member {
    pub replica: ReplicaId,
    pub disk: DiskId,
    pub raft: Handle,
    pub shared: Arc<SharedState>,
    pub(super) log: RaftLog,
    pub(super) meter: Arc<LogMeter>,
    pub(super) router: Weak<Router>,
    /// Its sender is dropped together with the state machine.
    pub(super) applying: watch::Receiver<()>,
}

impl Member {
    async fn start(setup: MemberSetup, router: &Arc<Router>) -> Result<Arc<Member>> {
        let MemberSetup {
            disk: ReplicaDisk { id, db, meter },
            replica,
            row,
        } = setup;
        let opened = {
            let for_log = meter.clone();
            db.run_blocking(move |db| {
                let log = RaftLog::open(db.clone(), replica, for_log)?;
                let shared = Arc::new(SharedState::new(db.clone(), replica, row));
                let applier = Applier::open(shared.clone(), log.clone())?;
                Ok::<_, DbError>((log, shared, applier))
            })
        };
        let (log, shared, applier) = opened.await?;
        let applying = applier.running();
        let connector = Connector(Arc::downgrade(router));
        let config = Arc::new(config(row.group));
        let raft = Handle::new(replica, config, connector, log.clone(), applier).await;
        let raft = raft.map_err(|e| Error::Unavailable(format!("replica {replica}: {e}")))?;
        router.add(replica, raft.clone(), db);
        Ok(Arc::new(Member {
            replica,
            disk: id,
            raft,
            shared,
            log,
            meter,
            router: Arc::downgrade(router),
            applying,
        }))
    }

    /// Ends the replica. When this returns, only readers of its state may still read its rows; they
    /// check afterwards whether the replica was retired.
    pub async fn end(&self) {
        self.shared.retire();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, replica = %self.replica, "replica ended badly");
        }
        let mut applying = self.applying.clone();
        while applying.changed().await.is_ok() {}
    }

    pub fn last_log_id(&self) -> Option<LogId> {
        self.log.last_log_id()
    }

    /// Returns the voters that this replica knows of: one set, or two while they change.
    pub fn configs(&self) -> Vec<BTreeSet<ReplicaId>> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_joint_config().clone()
    }

    /// Returns the term in which this replica leads, if it does.
    fn leads(&self) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .state
            .is_leader()
            .then_some(metrics.vote.leader_id.term)
    }
}

/// A replica, and receivers of everything that has happened to it since this was made.
struct ReplicaWatch {
    member: Arc<Member>,
    metrics: WatchReceiverOf<Types, RaftServerMetrics<Types>>,
    failure: watch::Receiver<Option<DbError>>,
}

impl ReplicaWatch {
    fn new(member: Arc<Member>) -> ReplicaWatch {
        let mut metrics = member.raft.server_metrics();
        metrics.borrow_and_update();
        let mut failure = member.shared.db.failure();
        failure.borrow_and_update();
        ReplicaWatch {
            member,
            metrics,
            failure,
        }
    }

    fn is_dead(&mut self) -> bool {
        let ended = matches!(self.metrics.changed().now_or_never(), Some(Err(_)));
        ended || self.failure.borrow().is_some()
    }

    async fn changed(&mut self) {
        // An error is a change, too: the replica has ended.
        tokio::select! {
            _ = self.metrics.changed() => {}
            _ = self.failure.changed() => {}
        }
    }
}

/// The leader, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub replica: ReplicaId,
    pub term: u64,
}

/// The replicas of one group in this process.
pub struct Members {
    pub(super) env: Arc<dyn Env>,
    pub group: GroupId,
    pub(super) router: Arc<Router>,
    /// The most voters of the group.
    pub voters_max: usize,
    /// Locked while the membership is changed.
    pub change: Mutex<()>,
    /// While true, voters are not replaced.
    pub paused: watch::Sender<bool>,
    history: RwLock<History>,
    closing: watch::Receiver<bool>,
    disks: RwLock<Vec<ReplicaDisk>>,
    /// The disks that do not answer in time. None of their replicas should lead, and no replica is
    /// made on them.
    slow: RwLock<BTreeSet<DiskId>>,
    alive: RwLock<Vec<Arc<Member>>>,
    /// The disks of replicas that cannot continue although their disks work. They get no others in
    /// their place.
    pub(super) unfit: RwLock<BTreeSet<DiskId>>,
    /// The reason why the group has stopped: replicas that cannot continue, and no majority without
    /// them.
    pub(super) halted: watch::Sender<Option<Arc<str>>>,
    /// The number of changes to `disks` and `alive`.
    changes: watch::Sender<u64>,
    leader: watch::Sender<Option<Leader>>,
    /// The number of changes of leader since the process began.
    leaders: AtomicU64,
    pub counts: ReplicaCounts,
}

/// Counts of a group's replicas since the process began.
#[derive(Default)]
pub struct ReplicaCounts {
    /// Replicas that ended because their disks failed.
    pub lost: AtomicU64,
    /// Replicas that were made on a disk, under a new id.
    pub made: AtomicU64,
}

/// A group to start: its replicas and the disks that can hold more.
pub struct GroupSetup {
    pub env: Arc<dyn Env>,
    pub group: GroupId,
    pub history: History,
    /// All tasks of the members end when it changes or its sender is dropped.
    pub closing: watch::Receiver<bool>,
    pub voters_max: usize,
    pub disks: Vec<ReplicaDisk>,
    pub members: Vec<MemberSetup>,
}

impl Members {
    /// Starts the replicas of a group. A replica that cannot start is left out and logged.
    pub async fn start(router: Arc<Router>, setup: GroupSetup) -> Arc<Members> {
        let started = setup.members.into_iter().map(|member| {
            let (disk, router) = (member.disk.id, router.clone());
            async move {
                let member = Member::start(member, &router).await;
                member.map_err(|error| {
                    tracing::error!(%error, %disk, "replica does not start");
                    (disk, error)
                })
            }
        });
        let started = futures_util::future::join_all(started).await;
        let (mut alive, mut unfit) = (Vec::new(), Vec::new());
        for started in started {
            match started {
                Ok(member) => alive.push(member),
                Err((disk, Error::Unfit(why))) => unfit.push((disk, why)),
                Err(_) => {}
            }
        }
        let members = Arc::new(Members {
            env: setup.env,
            group: setup.group,
            router,
            voters_max: setup.voters_max,
            change: Mutex::default(),
            paused: watch::Sender::new(false),
            history: RwLock::new(setup.history),
            closing: setup.closing,
            disks: RwLock::new(setup.disks),
            slow: RwLock::default(),
            alive: RwLock::new(alive),
            unfit: RwLock::default(),
            halted: watch::Sender::new(None),
            changes: watch::Sender::new(0),
            leader: watch::Sender::new(None),
            leaders: AtomicU64::new(0),
            counts: ReplicaCounts::default(),
        });
        for (disk, why) in unfit {
            members.note_unfit(disk, why.into());
        }
        members
    }

    /// Spawns the tasks that shorten the logs, watch the replicas and replace voters.
    pub fn spawn_tasks(self: &Arc<Self>) {
        let closing = &self.closing;
        for member in self.alive() {
            self.env.spawn(member.keep_log_short(closing.clone()));
        }
        self.env.spawn(self.clone().watch(closing.clone()));
        self.env.spawn(self.clone().keep_voters(closing.clone()));
    }

    /// Adds a disk that can hold replicas from now on. It replaces a disk with the same id.
    pub fn add_disk(&self, disk: ReplicaDisk) {
        let mut disks = self.disks.write();
        if let Some(old) = disks.iter().find(|old| old.id == disk.id)
            && !Arc::ptr_eq(&old.db, &disk.db)
        {
            old.db.give_up("the disk was replaced");
        }
        disks.retain(|old| old.id != disk.id);
        disks.push(disk);
        drop(disks);
        self.changed();
    }

    /// Removes a disk: it holds no replicas any more, and its database is released.
    pub fn remove_disk(&self, disk: DiskId) {
        let mut disks = self.disks.write();
        let removed = disks.iter().position(|old| old.id == disk);
        let removed = removed.map(|at| disks.swap_remove(at));
        drop(disks);
        if let Some(disk) = removed {
            disk.db.give_up("the disk was removed");
            self.changed();
        }
    }

    pub fn disks(&self) -> Vec<ReplicaDisk> {
        let disks = self.disks.read();
        disks.clone()
    }

    /// Returns the disks whose databases work.
    pub fn healthy(&self) -> Vec<ReplicaDisk> {
        let mut disks = self.disks();
        disks.retain(|disk| disk.db.failure().borrow().is_none());
        disks
    }

    /// Returns the disks whose databases work and answer in time.
    pub fn responsive(&self) -> Vec<ReplicaDisk> {
        let mut disks = self.healthy();
        disks.retain(|disk| !self.is_slow(disk.id));
        disks
    }

    pub fn is_slow(&self, disk: DiskId) -> bool {
        let slow = self.slow.read();
        slow.contains(&disk)
    }

    /// Sets the disks that do not answer in time. If one of their replicas leads, another replica
    /// campaigns.
    pub async fn set_slow(&self, slow: &BTreeSet<DiskId>) {
        {
            let mut known = self.slow.write();
            if *known != *slow {
                known.clone_from(slow);
                self.changed();
            }
        }
        let leader = *self.leader.borrow();
        let leader = leader.and_then(|leader| self.member(leader.replica));
        let is_led_slowly = leader.is_some_and(|leader| slow.contains(&leader.disk));
        let others = self.alive().into_iter();
        if is_led_slowly && others.filter(|member| !slow.contains(&member.disk)).count() > 0 {
            tracing::warn!(
                group = self.group.0,
                "the leader's disk does not answer in time"
            );
            self.elect().await;
        }
    }

    pub fn history(&self) -> History {
        let history = self.history.read();
        history.clone()
    }

    pub fn set_history(&self, history: History) {
        *self.history.write() = history;
    }

    /// Starts another replica.
    pub async fn admit(&self, setup: MemberSetup) -> Result<()> {
        let member = Member::start(setup, &self.router).await?;
        let mut alive = self.alive.write();
        alive.push(member.clone());
        drop(alive);
        self.env.spawn(member.keep_log_short(self.closing.clone()));
        self.changed();
        Ok(())
    }

    /// Returns a receiver that changes with each replica or disk that is added or removed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub fn alive(&self) -> Vec<Arc<Member>> {
        self.alive.read().clone()
    }

    /// Returns a receiver that changes with each new leader and each term.
    pub fn leader_changes(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.subscribe()
    }

    pub fn leader_changes_count(&self) -> u64 {
        self.leaders.load(Ordering::Relaxed)
    }

    pub fn member(&self, replica: ReplicaId) -> Option<Arc<Member>> {
        let alive = self.alive.read();
        alive
            .iter()
            .find(|member| member.replica == replica)
            .cloned()
    }

    /// Makes the replica with the longest log, on a disk that answers in time if there is one,
    /// campaign at once, as in a transfer of leadership.
    ///
    /// A plain election would be rejected until the dead leader's lease expires, as the others
    /// have heard from that leader just now.
    async fn elect(&self) {
        let alive = self.alive();
        let rank = |member: &&Arc<Member>| (!self.is_slow(member.disk), member.last_log_id());
        let Some(best) = alive.iter().max_by_key(rank) else {
            return;
        };
        let vote = best.raft.server_metrics().borrow_watched().vote;
        let campaign = if vote.committed {
            let last = best.log.last_log_id();
            let request = TransferLeaderRequest::<Types>::new(vote, best.replica, last);
            let transfer = best.raft.handle_transfer_leader(request);
            match self.env.timeout(ELECTION_PAUSE, transfer).await {
                Ok(Ok(answer)) => answer.map_err(|e| e.to_string()),
                Ok(Err(fatal)) => Err(fatal.to_string()),
                Err(_) => Err("its log was not synced in time".into()),
            }
        } else {
            let triggered = best.raft.trigger().elect(false).await;
            triggered.map_err(|e| e.to_string())
        };
        if let Err(error) = campaign {
            tracing::warn!(error, replica = %best.replica, "replica does not campaign");
        }
    }

    /// Gives a newborn group its voters. The first of them campaigns.
    pub async fn initialize(&self, voters: BTreeMap<ReplicaId, Seat>) -> Result<()> {
        let Some(first) = self.alive().into_iter().next() else {
            return Err(Error::Unavailable(format!(
                "group {} has no replica",
                self.group.0
            )));
        };
        let initialized = first.raft.initialize(voters).await;
        initialized.map_err(|e| Error::Unavailable(format!("group {}: {e}", self.group.0)))
    }

    /// Makes the replica with the longest log campaign after a start, when there has been no leader
    /// yet.
    pub async fn elect_at_start(&self) {
        let alive = self.alive();
        if let Some(best) = alive.iter().max_by_key(|member| member.log.last_log_id())
            && let Err(error) = best.raft.trigger().elect(false).await
        {
            tracing::warn!(%error, replica = %best.replica, "replica does not campaign");
        }
    }

    /// Watches the replicas until `closing` changes or its sender is dropped.
    pub async fn watch(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        // The start has made the first replica campaign already.
        let mut election = Election::due(self.env.after(ELECTION_PAUSE));
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            let mut watched: Vec<_> = self.alive().into_iter().map(ReplicaWatch::new).collect();
            let dead = watched
                .iter_mut()
                .filter_map(|w| w.is_dead().then_some(&w.member));
            let were_leaders: Vec<_> = dead.map(|member| self.remove_dead(member)).collect();
            self.publish_leader();
            if were_leaders.contains(&true) {
                election = Election::due(self.env.instant());
            }
            if !were_leaders.is_empty() {
                continue;
            }
            if watched.is_empty() {
                tokio::select! {
                    _ = closing.changed() => return,
                    _ = changes.changed() => continue,
                }
            }
            let leads = self.leader.borrow().is_some();
            if leads {
                election.tries_left = 0;
            } else if election.tries_left > 0 && election.next <= self.env.instant() {
                self.elect().await;
                election.tries_left -= 1;
                election.next = self.env.after(ELECTION_PAUSE);
            }

            let changed = select_all(watched.iter_mut().map(|w| Box::pin(w.changed())));
            tokio::select! {
                _ = closing.changed() => return,
                _ = changed => {}
                _ = changes.changed() => {}
                () = self.env.sleep_until(election.next), if election.tries_left > 0 => {}
            }
        }
    }

    /// Removes a dead replica and ends it. Returns whether it was the leader.
    fn remove_dead(&self, member: &Arc<Member>) -> bool {
        tracing::error!(group = self.group.0, replica = %member.replica, disk = %member.disk,
            "replica is lost");
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
        if let Some(member) = self.remove(member.replica) {
            if let Some(why) = member.log.unfit() {
                self.note_unfit(member.disk, why);
            }
            self.env.spawn(async move { member.end().await });
        }
        self.leader
            .borrow()
            .is_some_and(|leader| leader.replica == member.replica)
    }

    /// Removes a replica from the group. The caller must end it.
    pub fn remove(&self, replica: ReplicaId) -> Option<Arc<Member>> {
        self.router.remove(replica);
        let mut alive = self.alive.write();
        let at = alive.iter().position(|member| member.replica == replica);
        let member = at.map(|at| alive.swap_remove(at));
        drop(alive);
        self.changed();
        member
    }

    fn publish_leader(&self) {
        let alive = self.alive();
        let leaders = alive.iter().filter_map(|member| {
            member.leads().map(|term| Leader {
                replica: member.replica,
                term,
            })
        });
        // An old leader may not have heard of the new one yet.
        let leader = leaders.max_by_key(|leader| leader.term);
        self.leader.send_if_modified(|current| {
            let changed = *current != leader;
            if changed && leader.is_some() {
                self.leaders.fetch_add(1, Ordering::Relaxed);
            }
            *current = leader;
            changed
        });
    }

    pub async fn shutdown(&self) {
        let alive = std::mem::take(&mut *self.alive.write());
        self.leader.send_replace(None);
        for member in alive {
            self.router.remove(member.replica);
            member.end().await;
        }
    }
}
