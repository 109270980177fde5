//! The damage queue: puts the shards that readers found damaged or missing into the heal queue.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::heal::Healer;
use crate::meta::command::Change;
use crate::raft::proposer::Proposer;
use drystone_store::lock::Mutex;
use drystone_store::shard_set::ShardId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// The most reports that one command puts into the heal queue.
const BATCH_LEN_MAX: usize = 256;

pub struct DamageQueue {
    objects: Proposer,
    healer: Arc<Healer>,
    reports: tokio::sync::Mutex<mpsc::Receiver<ShardId>>,
    /// Reports for the next command.
    received: Mutex<Vec<ShardId>>,
    wakeup: Wakeup,
}

impl DamageQueue {
    pub fn new(
        objects: Proposer,
        healer: Arc<Healer>,
        reports: mpsc::Receiver<ShardId>,
    ) -> DamageQueue {
        DamageQueue {
            objects,
            healer,
            reports: tokio::sync::Mutex::new(reports),
            received: Mutex::default(),
            wakeup: Wakeup::default(),
        }
    }

    async fn receive(&self) {
        match self.reports.lock().await.recv().await {
            Some(report) => self.received.lock().push(report),
            // No reporter is left.
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Worker for DamageQueue {
    fn name(&self) -> &'static str {
        "damage"
    }

    /// Reports are lost if the command fails: a reader that meets the damage again reports it, too.
    async fn step(&self) -> Result<Next, StepError> {
        let mut batch = std::mem::take(&mut *self.received.lock());
        {
            let mut reports = self.reports.lock().await;
            while batch.len() < BATCH_LEN_MAX
                && let Ok(report) = reports.try_recv()
            {
                batch.push(report);
            }
        }
        if batch.is_empty() {
            return Ok(Next::WhenWoken);
        }
        let queue = Change::QueueHeal { entries: batch };
        self.objects.propose(queue).await?;
        self.healer.wake();
        Ok(Next::Again)
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    async fn woken(&self) {
        tokio::select! {
            () = self.wakeup.rung() => {}
            () = self.receive() => {}
        }
    }
}
