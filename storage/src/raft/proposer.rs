//! A group together with the epochs in which commands begin.

use std::sync::Arc;

use super::epochs::{EpochGuard, Epochs};
use super::group::Group;
use crate::meta::command::{Change, Command, Reply};
use drystone_store::env::Env;
use drystone_store::error::Result;

#[derive(Clone)]
pub struct Proposer {
    pub env: Arc<dyn Env>,
    pub group: Group,
    pub epochs: Arc<Epochs>,
}

impl Proposer {
    pub async fn propose(&self, change: Change) -> Result<Reply> {
        let epoch = self.epochs.begin();
        self.propose_in(&epoch, change).await
    }

    /// Proposes a change that has begun in `epoch` already.
    pub async fn propose_in(&self, epoch: &EpochGuard, change: Change) -> Result<Reply> {
        let command = Command {
            request: self.env.write_id(),
            epoch: epoch.epoch(),
            time: self.env.now(),
            change,
        };
        self.group.propose(command).await
    }
}
