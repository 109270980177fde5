//! The network between replicas: memory, within one process.
//!
//! The [`Router`] belongs to a node and knows the node's replicas. A replica that it does not know
//! is unreachable; openraft repeats its requests, at growing intervals.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};

use futures_util::{Stream, StreamExt as _, future, stream};
use openraft::Raft;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, type_config::alias::VoteOf};
use tokio::sync::watch;

use super::log_meter::LogMeter;
use super::replica::Applier;
use super::snapshot::{self, SnapshotData};
use super::types::{ReplicaId, Seat, Snapshot, Types};
use crate::db::Db;
use drystone_store::lock::{Mutex, RwLock};
use drystone_store::types::DiskId;

/// The handle that runs one replica.
pub type Handle = Raft<Types, Applier>;

/// The replicas of one process, of all groups.
pub struct Router {
    replicas: RwLock<HashMap<ReplicaId, Peer>>,
    /// All replicas of a disk share one meter.
    meters: Mutex<HashMap<DiskId, Arc<LogMeter>>>,
    /// The pieces of states that replicas have received.
    transferred: watch::Sender<u64>,
    #[cfg(test)]
    pub unreachable: std::sync::atomic::AtomicU64,
}

#[derive(Clone)]
struct Peer {
    raft: Handle,
    db: Arc<Db>,
}

impl Router {
    pub fn new() -> Arc<Router> {
        Arc::new(Router {
            replicas: RwLock::default(),
            meters: Mutex::default(),
            transferred: watch::Sender::default(),
            #[cfg(test)]
            unreachable: Default::default(),
        })
    }

    pub fn add(&self, id: ReplicaId, raft: Handle, db: Arc<Db>) {
        let mut replicas = self.replicas.write();
        replicas.insert(id, Peer { raft, db });
    }

    pub fn remove(&self, id: ReplicaId) {
        self.replicas.write().remove(&id);
    }

    pub fn meter(&self, disk: DiskId) -> Arc<LogMeter> {
        let mut meters = self.meters.lock();
        meters.entry(disk).or_default().clone()
    }

    /// Returns a receiver that changes as long as a transfer of a state makes progress.
    pub fn transferred(&self) -> watch::Receiver<u64> {
        self.transferred.subscribe()
    }

    pub fn has(&self, id: ReplicaId) -> bool {
        self.get(id).is_some()
    }

    fn get(&self, id: ReplicaId) -> Option<Peer> {
        self.replicas.read().get(&id).cloned()
    }
}

/// Makes connections. Holds the router weakly, because the router holds the replicas that hold
/// this.
pub struct Connector(pub Weak<Router>);

impl RaftNetworkFactory<Types> for Connector {
    type Network = Connection;

    async fn new_client(&mut self, target: ReplicaId, _seat: &Seat) -> Connection {
        Connection {
            router: self.0.clone(),
            target,
        }
    }
}

pub struct Connection {
    router: Weak<Router>,
    target: ReplicaId,
}

impl Connection {
    fn target(&self) -> Result<Peer, Unreachable<Types>> {
        let router = self.router.upgrade();
        let target = router.as_ref().and_then(|router| router.get(self.target));
        #[cfg(test)]
        if let (None, Some(router)) = (&target, &router) {
            router
                .unreachable
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        target.ok_or_else(|| self.unreachable("not in this process"))
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> Unreachable<Types> {
        Unreachable::from_string(format!("replica {}: {why}", self.target))
    }
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let sent = self.target()?.raft.append_entries(rpc).await;
        Ok(sent.map_err(|e| self.unreachable(e))?)
    }

    /// Sends requests one after the other, without waiting for answers.
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let answers: BoxStream<'s, _> = match self.target() {
                Ok(target) => {
                    let answers = target.raft.stream_append(input);
                    Box::pin(answers.map(|answer| answer.map_err(|e| self.unreachable(e).into())))
                }
                // The stream of requests contains the pause before each retry. Without polling it,
                // openraft would retry forever without a pause.
                Err(unreachable) => Box::pin(stream::once(async move {
                    input.next().await;
                    Err(unreachable.into())
                })),
            };
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let sent = self.target()?.raft.vote(rpc).await;
        Ok(sent.map_err(|e| self.unreachable(e))?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let sent = self.target()?.raft.pre_vote(rpc).await;
        Ok(sent.map_err(|e| self.unreachable(e))?)
    }

    /// Copies all rows to the target's disk, and only then asks the target's replica to use them.
    /// So a sender that dies halfway does the target no harm.
    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: Snapshot<SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let target = self.target()?;
        let progress = self
            .router
            .upgrade()
            .map(|router| router.transferred.clone());
        let transfer = async {
            let data = match snapshot.snapshot {
                SnapshotData::Outgoing(outgoing) => {
                    let received =
                        snapshot::receive(target.db, outgoing, progress.unwrap_or_default()).await;
                    SnapshotData::Received(received.map_err(|e| self.unreachable(e))?)
                }
                received @ SnapshotData::Received(_) => received,
            };
            let snapshot = Snapshot {
                meta: snapshot.meta,
                snapshot: data,
            };
            let installed = target.raft.install_full_snapshot(vote, snapshot).await;
            Ok(installed.map_err(|e| self.unreachable(e))?)
        };
        tokio::pin!(transfer, cancel);
        match future::select(transfer, cancel).await {
            future::Either::Left((result, _)) => result,
            future::Either::Right((closed, _)) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let sent = self.target()?.raft.handle_transfer_leader(req).await;
        Ok(sent.map_err(|e| self.unreachable(e))?)
    }
}
