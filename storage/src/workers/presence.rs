//! Presence: notes on all disks that they are here, so that an older copy of one is known as such.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::raft::recovery::start::Groups;
use drystone_store::env::Env;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// How often the disks note that they are all here. A copy of a disk that is older than this is
/// recognized.
const EVERY: Duration = Duration::from_secs(3600);

pub struct Presence {
    env: Arc<dyn Env>,
    groups: Groups,
    wakeup: Wakeup,
}

impl Presence {
    pub fn new(env: Arc<dyn Env>, groups: Groups) -> Presence {
        Presence {
            env,
            groups,
            wakeup: Wakeup::default(),
        }
    }
}

#[async_trait]
impl Worker for Presence {
    fn name(&self) -> &'static str {
        "presence"
    }

    /// The start has noted it.
    fn first(&self) -> Next {
        Next::At(self.env.after(EVERY))
    }

    async fn step(&self) -> Result<Next, StepError> {
        self.groups.note_presence().await?;
        Ok(Next::At(self.env.after(EVERY)))
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    fn retry_after(&self) -> Duration {
        EVERY
    }
}
