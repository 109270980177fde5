//! The trait of a worker.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Pace, Wakeup};
use crate::env::Instant;
use crate::measure::Measure;

/// How long a worker waits after a step that failed, unless it says otherwise.
pub const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why a step failed. It is logged and shown, and the step is tried again.
pub type StepError = Box<dyn Error + Send + Sync>;

/// When a worker's next step is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Again,
    /// At this time, or as soon as the worker is woken.
    At(Instant),
    /// When the worker is woken.
    WhenWoken,
}

impl From<Option<Instant>> for Next {
    fn from(due: Option<Instant>) -> Next {
        due.map_or(Next::WhenWoken, Next::At)
    }
}

/// Work beside the requests, done in steps by a [`Runner`](super::Runner).
///
/// A step may be dropped at any of its waits, when the runner stops, or end in a panic. The next
/// one, here or after a restart of the process, has to continue from what is stored.
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// The name in lists, logs and metrics: lowercase words with hyphens, one of its kind.
    fn name(&self) -> &'static str;

    /// Does the work that there is, and says when there will be more.
    async fn step(&self) -> Result<Next, StepError>;

    /// The bell for those who have work for the worker.
    fn wakeup(&self) -> &Wakeup;

    /// Waits for a reason to begin a step before it is due. May be dropped and called again.
    async fn woken(&self) {
        self.wakeup().rung().await;
    }

    /// When the first step is due.
    fn first(&self) -> Next {
        Next::Again
    }

    /// How long the worker waits after a step that failed, if nothing wakes it.
    fn retry_after(&self) -> Duration {
        RETRY_AFTER
    }

    /// How long the worker rests after a step that took `took`, whatever is due or wakes it.
    fn rest(&self, took: Duration) -> Duration {
        let _ = took;
        Duration::ZERO
    }

    /// How fast the worker may go, and whether it may. Workers that share a pace pause together.
    fn pace(&self) -> Option<Arc<Pace>> {
        None
    }

    /// A few words about what the worker is doing or has left undone.
    fn status(&self) -> Option<String> {
        None
    }

    /// The worker's own metrics, beside those that the runner keeps of each worker.
    async fn measures(&self) -> Vec<Measure> {
        Vec::new()
    }
}
