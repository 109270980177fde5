//! A group together with the epochs in which commands begin.

use std::sync::Arc;

use super::epochs::{EpochGuard, Epochs};
use super::group::Group;
use crate::meta::command::{Change, Command, Reply};
use drystone_store::env::Env;
use drystone_store::error::Result;
use drystone_store::types::Epoch;

#[derive(Clone)]
pub struct Proposer {
    pub env: Arc<dyn Env>,
    pub group: Group,
    pub epochs: Arc<Epochs>,
}

impl Proposer {
    /// Returns a proposer for a group that answers. Commands begin in the group's present epoch.
    pub async fn new(env: Arc<dyn Env>, group: Group) -> Result<Proposer> {
        let now = group.read(|view| view.epochs()).await?;
        let epochs = Arc::new(Epochs::new(now.epoch));
        Ok(Proposer { env, group, epochs })
    }

    /// Proposes a change that begins now.
    pub async fn propose(&self, change: Change) -> Result<Reply> {
        let epoch = self.epochs.begin();
        self.propose_in(&epoch, change).await
    }

    /// Proposes a change that began before, in `epoch`.
    pub async fn propose_in(&self, epoch: &EpochGuard, change: Change) -> Result<Reply> {
        self.propose_as_of(epoch.epoch(), change).await
    }

    /// Proposes a change that began in an epoch that nobody has to hold.
    pub async fn propose_as_of(&self, epoch: Epoch, change: Change) -> Result<Reply> {
        let command = Command {
            request: self.env.write_id(),
            epoch,
            issued: self.epochs.current(),
            time: self.env.now(),
            change,
        };
        self.group.propose(command).await
    }
}
