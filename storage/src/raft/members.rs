//! The replicas of one group that live in this process, and who of them leads.
//!
//! A task watches them. A replica whose disk's database fails is taken out at once; when it was
//! the leader, the one with the longest log is made to stand for election by that event, without
//! waiting for a timeout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::TransferLeaderRequest;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::history::Standing;
use super::log::{LogMeter, RaftLog, run_blocking};
use super::network::{Connector, Handle, Router};
use super::place::Place;
use super::replica::{Applier, Shared};
use super::replica_row::{GroupId, ReplicaRow};
use super::types::{LogId, ReplicaId, Seat, Types};
use crate::db::DbError;
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

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
pub(super) const LOG_KEPT_ENTRIES: u64 = 4096;
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
    pub place: Place,
    pub replica: ReplicaId,
    pub row: ReplicaRow,
}

/// A running replica.
pub struct Member {
    pub replica: ReplicaId,
    pub disk: DiskId,
    pub raft: Handle,
    pub shared: Arc<Shared>,
    log: RaftLog,
    pub(super) meter: Arc<LogMeter>,
    pub(super) router: Weak<Router>,
    /// Its sender is gone once the state machine is.
    pub(super) applying: watch::Receiver<()>,
}

impl Member {
    async fn start(seated: Seated, router: &Arc<Router>) -> Result<Arc<Member>> {
        let Seated {
            place: Place { disk, db, meter },
            replica,
            row,
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
        let applying = applier.running();
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
            router: Arc::downgrade(router),
            applying,
        }))
    }

    /// Ends it. Nothing of it reads or writes its rows any more when this returns, but readers
    /// of its state, who look afterwards whether it was retired.
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

    /// The voters that it knows of: one set, or two while they change.
    pub fn configs(&self) -> Vec<BTreeSet<ReplicaId>> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_joint_config().clone()
    }

    fn leads(&self) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .state
            .is_leader()
            .then_some(metrics.vote.leader_id.term)
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
    /// Voters at most.
    pub voters_max: usize,
    /// Held by who changes the membership.
    pub change: Mutex<()>,
    /// Its receivers stop looking after the voters while it is true.
    pub paused: watch::Sender<bool>,
    standing: RwLock<Standing>,
    closing: watch::Receiver<bool>,
    places: RwLock<Vec<Place>>,
    alive: RwLock<Vec<Arc<Member>>>,
    /// Counts what came and went of `places` and `alive`.
    changes: watch::Sender<u64>,
    leader: watch::Sender<Option<Leader>>,
    /// How often another one came to lead, since the process began.
    leaders: AtomicU64,
    pub counts: Counts,
}

/// What became of a group's replicas since the process began.
#[derive(Default)]
pub struct Counts {
    /// Ended by their disk's failure.
    pub lost: AtomicU64,
    /// Made on a disk, under a new id.
    pub made: AtomicU64,
}

/// What a group is started with.
pub struct MemberSetup {
    pub group: GroupId,
    pub standing: Standing,
    /// All that looks after the members ends when it changes or its sender is gone.
    pub closing: watch::Receiver<bool>,
    pub voters_max: usize,
    pub places: Vec<Place>,
    pub seats: Vec<Seated>,
}

impl Members {
    /// Starts the replicas of a group. One that cannot start is left out and logged.
    pub async fn start(router: Arc<Router>, setup: MemberSetup) -> Arc<Members> {
        let started = setup.seats.into_iter().map(|seated| {
            let (disk, router) = (seated.place.disk, router.clone());
            async move {
                let member = Member::start(seated, &router).await;
                member.inspect_err(|error| tracing::error!(%error, %disk, "replica does not start"))
            }
        });
        let started = futures_util::future::join_all(started).await;
        Arc::new(Members {
            group: setup.group,
            router,
            voters_max: setup.voters_max,
            change: Mutex::default(),
            paused: watch::Sender::new(false),
            standing: RwLock::new(setup.standing),
            closing: setup.closing,
            places: RwLock::new(setup.places),
            alive: RwLock::new(started.into_iter().flatten().collect()),
            changes: watch::Sender::new(0),
            leader: watch::Sender::new(None),
            leaders: AtomicU64::new(0),
            counts: Counts::default(),
        })
    }

    /// Starts all that looks after the members.
    pub fn look_after(self: &Arc<Self>) {
        let closing = &self.closing;
        for member in self.alive() {
            tokio::spawn(member.keep_log_short(closing.clone()));
        }
        tokio::spawn(self.clone().watch(closing.clone()));
        tokio::spawn(self.clone().keep_voters(closing.clone()));
    }

    /// A disk that can bear replicas from now on, also one that takes the place of one of its id.
    pub fn add_place(&self, place: Place) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = places.iter().find(|old| old.disk == place.disk)
            && !Arc::ptr_eq(&old.db, &place.db)
        {
            old.db.give_up("the disk was replaced");
        }
        places.retain(|old| old.disk != place.disk);
        places.push(place);
        drop(places);
        self.changed();
    }

    /// The disk bears none any more. Its database, if this holds it, has failed or is to be given
    /// up.
    pub fn remove_place(&self, disk: DiskId) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let removed = places.iter().position(|place| place.disk == disk);
        let removed = removed.map(|at| places.swap_remove(at));
        drop(places);
        if let Some(place) = removed {
            place.db.give_up("the disk is gone");
            self.changed();
        }
    }

    pub fn places(&self) -> Vec<Place> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.clone()
    }

    pub fn standing(&self) -> Standing {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        standing.clone()
    }

    pub fn stands(&self, standing: Standing) {
        *self
            .standing
            .write()
            .unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// Starts a replica beside the others.
    pub async fn admit(&self, seated: Seated) -> Result<()> {
        let member = Member::start(seated, &self.router).await?;
        let mut alive = self.alive.write().unwrap_or_else(PoisonError::into_inner);
        alive.push(member.clone());
        drop(alive);
        tokio::spawn(member.keep_log_short(self.closing.clone()));
        self.changed();
        Ok(())
    }

    /// Changes with each replica and disk that comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
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
        self.leaders.load(Ordering::Relaxed)
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
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
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
                tokio::select! {
                    _ = closing.changed() => return,
                    _ = changes.changed() => continue,
                }
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
                _ = changes.changed() => {}
                () = sleep_until(election.next), if election.tries_left > 0 => {}
            }
        }
    }

    /// Takes a dead replica out; says whether it was the leader.
    fn bury(&self, member: &Arc<Member>) -> bool {
        tracing::error!(group = self.group.0, replica = %member.replica, disk = %member.disk,
            "replica is lost");
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
        if let Some(member) = self.take_out(member.replica) {
            tokio::spawn(async move { member.end().await });
        }
        self.leader
            .borrow()
            .is_some_and(|leader| leader.replica == member.replica)
    }

    /// Whoever takes it out ends it.
    pub fn take_out(&self, replica: ReplicaId) -> Option<Arc<Member>> {
        self.router.remove(replica);
        let mut alive = self.alive.write().unwrap_or_else(PoisonError::into_inner);
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
        let alive =
            std::mem::take(&mut *self.alive.write().unwrap_or_else(PoisonError::into_inner));
        self.leader.send_replace(None);
        for member in alive {
            self.router.remove(member.replica);
            member.end().await;
        }
    }
}
