//! The replicas of one group that live in this process, and who of them leads.
//!
//! A task watches them. A replica whose disk's database fails is taken out at once; when it was
//! the leader, the one with the longest log is made to stand for election by that event, without
//! waiting for a timeout.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::TransferLeaderRequest;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::network::{Connector, Handle, Router};
use super::raft_log::{LogMeter, RaftLog, run_blocking};
use super::raft_types::{ReplicaId, Seat, Types};
use super::replica::{Applier, GroupId, ReplicaRow, Shared};
use crate::db::{Db, DbError};
use crate::error::{Error, Result};
use crate::types::DiskId;

/// A leader says this often that it lives. Replicas of one process die loudly, so that this only
/// bounds what is lost by one that hangs.
const HEARTBEAT: Duration = Duration::from_millis(1000);
/// A follower that hears nothing for this long stands for election.
const ELECTION_TIMEOUT: (Duration, Duration) =
    (Duration::from_millis(2500), Duration::from_millis(4000));
/// How often, and after which pauses, replicas stand for election on account of an event.
const ELECTION_TRIES: u32 = 5;
const ELECTION_PAUSE: Duration = Duration::from_millis(250);
/// Entries in one message to a follower.
const MESSAGE_ENTRIES_MAX: u64 = 256;
/// Applied entries that stay in the log for followers that lag.
const LOG_KEPT_ENTRIES: u64 = 4096;
/// A whole state may take this long to a follower.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(3600);
/// How a replica that does not answer is asked again.
const BACKOFF: &str = "20ms 40ms ...5s";
/// Proposals that wait for a replica's attention.
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
        // A restarted leader's state may lag behind what it has answered from; an election tells.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().expect("the settings fit together")
}

/// A replica and what it runs on.
pub struct Seated {
    pub disk: DiskId,
    pub db: Arc<Db>,
    pub replica: ReplicaId,
    pub row: ReplicaRow,
    pub meter: Arc<LogMeter>,
}

/// A running replica.
pub struct Member {
    pub replica: ReplicaId,
    pub disk: DiskId,
    pub raft: Handle,
    pub shared: Arc<Shared>,
    log: RaftLog,
    meter: Arc<LogMeter>,
}

impl Member {
    async fn start(seated: Seated, router: &Arc<Router>) -> Result<Arc<Member>> {
        let Seated {
            disk,
            db,
            replica,
            row,
            meter,
        } = seated;
        let opened = {
            let (db, for_log) = (db.clone(), meter.clone());
            run_blocking(move || {
                let log = RaftLog::open(db.clone(), replica, for_log)?;
                let shared = Arc::new(Shared::new(db, replica, row));
                let applier = Applier::open(shared.clone(), log.clone())?;
                Ok::<_, DbError>((log, shared, applier))
            })
        };
        let (log, shared, applier) = opened.await?;
        let connector = Connector(Arc::downgrade(router));
        let config = Arc::new(config(row.group));
        let raft = Handle::new(replica, config, connector, log.clone(), applier).await;
        let raft = raft.map_err(|e| Error::Unavailable(format!("replica {replica}: {e}")))?;
        router.add(replica, raft.clone(), db);
        Ok(Arc::new(Member {
            replica,
            disk,
            raft,
            shared,
            log,
            meter,
        }))
    }

    fn leads(&self) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .state
            .is_leader()
            .then_some(metrics.vote.leader_id.term)
    }

    /// Flushes the state and drops log whenever the disk's logs have grown enough.
    pub async fn keep_log_short(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        let mut full = self.meter.full();
        loop {
            tokio::select! {
                _ = closing.changed() => return,
                _ = full.changed() => {}
            }
            if self.raft.trigger().snapshot().await.is_err() {
                // This replica is no more, which its group has noticed.
                return;
            }
        }
    }
}

/// A replica, and what would be news of it since this was made.
struct Watched {
    member: Arc<Member>,
    metrics: WatchReceiverOf<Types, RaftServerMetrics<Types>>,
    failure: watch::Receiver<Option<DbError>>,
}

impl Watched {
    fn new(member: Arc<Member>) -> Watched {
        let mut metrics = member.raft.server_metrics();
        metrics.borrow_and_update();
        let mut failure = member.shared.db.failure();
        failure.borrow_and_update();
        Watched {
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
        // An error is news, too: the replica has ended.
        tokio::select! {
            _ = self.metrics.changed() => {}
            _ = self.failure.changed() => {}
        }
    }
}

/// Standing for election on account of an event, until there is a leader. Entries of the old
/// leader may still arrive while the longest log is looked for, so that one may not be enough;
/// after the last, openraft's own timeouts go on.
struct Election {
    tries_left: u32,
    next: Instant,
}

impl Election {
    fn due(next: Instant) -> Election {
        Election {
            tries_left: ELECTION_TRIES,
            next,
        }
    }
}

/// Who leads, as far as this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub replica: ReplicaId,
    pub term: u64,
}

pub struct Members {
    pub group: GroupId,
    pub(super) router: Arc<Router>,
    alive: RwLock<Vec<Arc<Member>>>,
    leader: watch::Sender<Option<Leader>>,
    /// How often another one came to lead, since the process began.
    changes: AtomicU64,
}

impl Members {
    /// Starts the replicas of a group. One that cannot start is left out and logged.
    pub async fn start(group: GroupId, router: Arc<Router>, seats: Vec<Seated>) -> Arc<Members> {
        let started = seats.into_iter().map(|seated| {
            let (disk, router) = (seated.disk, router.clone());
            async move {
                let member = Member::start(seated, &router).await;
                member.inspect_err(|error| tracing::error!(%error, %disk, "replica does not start"))
            }
        });
        let started = futures_util::future::join_all(started).await;
        Arc::new(Members {
            group,
            router,
            alive: RwLock::new(started.into_iter().flatten().collect()),
            leader: watch::Sender::new(None),
            changes: AtomicU64::new(0),
        })
    }

    pub fn alive(&self) -> Vec<Arc<Member>> {
        self.alive
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes with each leader and each term.
    pub fn leader_changes(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.subscribe()
    }

    pub fn leader_changes_count(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub fn member(&self, replica: ReplicaId) -> Option<Arc<Member>> {
        let alive = self.alive.read().unwrap_or_else(PoisonError::into_inner);
        alive
            .iter()
            .find(|member| member.replica == replica)
            .cloned()
    }

    /// Makes the replica with the longest log stand for election, at once.
    ///
    /// The others grant their vote although they heard from the leader just now: as to a transfer
    /// of leadership, for the leader is known to be dead.
    async fn elect(&self) {
        let alive = self.alive();
        let Some(best) = alive.iter().max_by_key(|member| member.log.last_log_id()) else {
            return;
        };
        let vote = best.raft.server_metrics().borrow_watched().vote;
        let stands = if vote.committed {
            let last = best.log.last_log_id();
            let request = TransferLeaderRequest::<Types>::new(vote, best.replica, last);
            let asked = best.raft.handle_transfer_leader(request);
            match timeout(ELECTION_PAUSE, asked).await {
                Ok(Ok(answer)) => answer.map_err(|e| e.to_string()),
                Ok(Err(fatal)) => Err(fatal.to_string()),
                Err(_) => Err("its log is not synced in time".into()),
            }
        } else {
            let asked = best.raft.trigger().elect(false).await;
            asked.map_err(|e| e.to_string())
        };
        if let Err(error) = stands {
            tracing::warn!(error, replica = %best.replica, "replica does not stand for election");
        }
    }

    /// Gives a newborn group its voters; the first of them stands for election.
    pub async fn initialize(&self, voters: BTreeMap<ReplicaId, Seat>) -> Result<()> {
        let Some(first) = self.alive().into_iter().next() else {
            return Err(Error::Unavailable(format!(
                "group {} has no replica",
                self.group.0
            )));
        };
        let done = first.raft.initialize(voters).await;
        done.map_err(|e| Error::Unavailable(format!("group {}: {e}", self.group.0)))
    }

    /// The first election after a start: nobody has heard of a leader yet.
    pub async fn elect_at_start(&self) {
        let alive = self.alive();
        if let Some(best) = alive.iter().max_by_key(|member| member.log.last_log_id())
            && let Err(error) = best.raft.trigger().elect(false).await
        {
            tracing::warn!(%error, replica = %best.replica, "replica does not stand for election");
        }
    }

    /// Watches until `closing` changes or its sender is gone.
    pub async fn watch(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        // The start has made the first replica stand already.
        let mut election = Election::due(Instant::now() + ELECTION_PAUSE);
        loop {
            let mut watched: Vec<_> = self.alive().into_iter().map(Watched::new).collect();
            let buried = watched
                .iter_mut()
                .filter_map(|w| w.is_dead().then_some(&w.member));
            let buried: Vec<_> = buried.map(|member| self.bury(member)).collect();
            self.publish_leader();
            if buried.contains(&true) {
                election = Election::due(Instant::now());
            }
            if !buried.is_empty() {
                continue;
            }
            if watched.is_empty() {
                self.leader.send_replace(None);
                return;
            }
            let leads = self.leader.borrow().is_some();
            if leads {
                election.tries_left = 0;
            } else if election.tries_left > 0 && election.next <= Instant::now() {
                self.elect().await;
                election.tries_left -= 1;
                election.next = Instant::now() + ELECTION_PAUSE;
            }

            let changed = select_all(watched.iter_mut().map(|w| Box::pin(w.changed())));
            tokio::select! {
                _ = closing.changed() => return,
                _ = changed => {}
                () = sleep_until(election.next), if election.tries_left > 0 => {}
            }
        }
    }

    /// Takes a dead replica out; says whether it was the leader.
    fn bury(&self, member: &Arc<Member>) -> bool {
        tracing::error!(group = self.group.0, replica = %member.replica, disk = %member.disk,
            "replica is lost");
        self.router.remove(member.replica);
        let mut alive = self.alive.write().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|other| other.replica != member.replica);
        drop(alive);
        let raft = member.raft.clone();
        tokio::spawn(async move { raft.shutdown().await });
        self.leader
            .borrow()
            .is_some_and(|leader| leader.replica == member.replica)
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
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
            *current = leader;
            changed
        });
    }

    pub async fn shutdown(&self) {
        let alive =
            std::mem::take(&mut *self.alive.write().unwrap_or_else(PoisonError::into_inner));
        self.leader.send_replace(None);
        for member in alive {
            self.router.remove(member.replica);
            if let Err(error) = member.raft.shutdown().await {
                tracing::warn!(%error, replica = %member.replica, "replica ended badly");
            }
        }
    }
}
