//! Removes what no version names: garbage and orphans.
//!
//! *Garbage* lost its last name by a command, which wrote a row for it in the same batch.
//! *Orphans* were never named: their writer failed, or crashed before its command. Each disk lists
//! the shards that it accepted until they are confirmed, so orphans are found without walking
//! disks.
//!
//! A round, for one group:
//!
//! 1. gc raises the epoch, and then the floor, to the oldest epoch that is still held.
//! 2. gc drops the answers to commands that nobody can repeat any more. They have a limit of their
//!    own, so a slow reader keeps none of them.
//! 3. gc removes the garbage below the floor in bulk: shards first, then the rows. Power goes
//!    between: the rows are there, and the next round finds no shards and removes them. The rows of
//!    a disk that does not answer stay, and nobody waits for it; those of an offline one wait until
//!    a disk comes or goes. Of a part list it removes the parts, some with each command. The shards
//!    of the parts are garbage from then on, so after a list steps 1 and 3 are done again.
//! 4. For the unconfirmed shards below the floor, a linearizable read says whether a row names them
//!    on that disk. gc confirms those that are named and removes the others, shard first. A writer
//!    that is still in progress with such a shard is refused at its commit, as its epoch is below
//!    the floor.

mod garbage;
mod orphans;
mod part_lists;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::meta::command::{Change, Reply};
use crate::raft::proposer::Proposer;
use crate::shards::Shards;
use drystone_store::env::Instant;
use drystone_store::error::Result;
use drystone_store::lock::Mutex;
use drystone_store::measure::Measure;
use drystone_store::types::{Epoch, Timestamp};
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// The most outcomes of uploads that one command drops, and the most entries of a disk's list that
/// are looked at at once.
const STEP_LEN_MAX: usize = 1000;
/// The least time between two rounds that full disks ask for.
const PAUSE_MIN: Duration = Duration::from_secs(10);

/// How long the answer to a command is kept at least: much longer than a proposal is repeated.
const ANSWERS_KEPT: Duration = Duration::from_secs(120);
/// How long the outcome of an upload is kept, by the group's clock: as long as clients, and the
/// programs that use them, repeat a completion to which they got no answer.
const FINISHED_KEPT: Duration = Duration::from_secs(3600);
/// How far the group's clock may be ahead of this machine's before that is reported.
const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(600);

/// The results of gc since the process began.
#[derive(Default)]
struct Counts {
    garbage_removed: AtomicU64,
    /// Rows of garbage that were kept because the metadata still name their shards.
    garbage_named: AtomicU64,
    orphans_removed: AtomicU64,
    orphans_confirmed: AtomicU64,
}

/// The collector of one group.
pub struct Collector {
    name: &'static str,
    proposer: Proposer,
    /// Absent for a group that never names any.
    shards: Option<Arc<Shards>>,
    /// How often a round begins.
    every: Duration,
    /// Garbage below this epoch lies only on offline disks. None is added below the floor.
    swept: AtomicU64,
    /// The number of changes of the disks when `swept` was found.
    changes: AtomicU64,
    /// The last epochs, and since when each is this process's current one. Oldest first.
    raised: Mutex<VecDeque<(Instant, Epoch)>>,
    /// How far the group's clock was ahead of this machine's.
    clock_ahead_ms: AtomicU64,
    counts: Counts,
    wakeup: Wakeup,
}

impl Collector {
    pub fn new(
        name: &'static str,
        proposer: Proposer,
        shards: Option<Arc<Shards>>,
        every: Duration,
    ) -> Collector {
        Collector {
            name,
            proposer,
            shards,
            every,
            swept: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            raised: Mutex::default(),
            clock_ahead_ms: AtomicU64::new(0),
            counts: Counts::default(),
            wakeup: Wakeup::default(),
        }
    }

    /// Returns when a write finds no room on the disks; never for a group without shards.
    async fn starved(&self) {
        match &self.shards {
            Some(shards) => {
                self.proposer.env.sleep(PAUSE_MIN).await;
                shards.starved().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Does one round. Interrupted anywhere, the next one continues with what is left.
    pub async fn round(&self) -> Result<()> {
        let floor = self.raise().await?;
        self.drop_answers().await?;
        let Some(shards) = &self.shards else {
            return Ok(());
        };
        if self.remove_garbage(shards, floor).await? {
            let floor = self.raise().await?;
            self.remove_garbage(shards, floor).await?;
        }
        self.settle_unconfirmed(shards, floor).await
    }

    async fn raise(&self) -> Result<Epoch> {
        let epochs_row = self.proposer.group.read(|view| view.epochs()).await?;
        self.compare_clocks(epochs_row.clock);
        let epoch = epochs_row.epoch;
        let raised = self
            .propose(
                epoch,
                Change::RaiseEpoch {
                    to: Epoch(epoch.0 + 1),
                },
            )
            .await?;
        let (epoch, _) = epochs(raised);
        self.proposer.epochs.raise(epoch);
        self.note_raised(epoch);
        let to = self.proposer.epochs.oldest();
        let (_, floor) = epochs(self.propose(epoch, Change::RaiseFloor { to }).await?);
        Ok(floor)
    }

    /// Reports a clock that was ahead once: every later change carries that time, until this
    /// machine's clock has reached it.
    fn compare_clocks(&self, clock: Timestamp) {
        let ahead = clock.0.saturating_sub(self.proposer.env.now().0);
        self.clock_ahead_ms
            .store(ahead.max(0) as u64, Ordering::Relaxed);
        if ahead > CLOCK_AHEAD_MAX.as_millis() as i64 {
            tracing::error!(
                seconds = ahead / 1000,
                "the metadata's clock is ahead of this machine's: a clock was wrong, or is"
            );
        }
    }

    fn note_raised(&self, epoch: Epoch) {
        let now = self.proposer.env.instant();
        let mut raised = self.raised.lock();
        raised.push_back((now, epoch));
    }

    /// Returns the newest epoch that has been the current one for at least [`ANSWERS_KEPT`]: what
    /// was issued below it was issued before.
    fn answers_end(&self) -> Epoch {
        let env = &self.proposer.env;
        let mut raised = self.raised.lock();
        let is_old = |entry: Option<&(Instant, Epoch)>| {
            entry.is_some_and(|(since, _)| env.elapsed(*since) >= ANSWERS_KEPT)
        };
        while is_old(raised.get(1)) {
            raised.pop_front();
        }
        match raised.front() {
            first @ Some((_, epoch)) if is_old(first) => *epoch,
            _ => Epoch(0),
        }
    }

    async fn drop_answers(&self) -> Result<()> {
        let issued_below = self.answers_end();
        loop {
            let change = Change::DropAnswers {
                issued_below,
                finished_ms: FINISHED_KEPT.as_millis() as u64,
                max: STEP_LEN_MAX as u32,
            };
            match self.propose(issued_below, change).await? {
                Reply::Dropped { more: true } => {}
                _ => return Ok(()),
            }
        }
    }

    /// Proposes one of gc's own commands, which are accepted in any epoch.
    async fn propose(&self, epoch: Epoch, change: Change) -> Result<Reply> {
        self.proposer.propose_as_of(epoch, change).await
    }
}

#[async_trait]
impl Worker for Collector {
    fn name(&self) -> &'static str {
        self.name
    }

    /// The first round, at the start, is for what the last process left.
    async fn step(&self) -> Result<Next, StepError> {
        let next = Next::At(self.proposer.env.after(self.every));
        self.round().await?;
        Ok(next)
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    /// Sooner than due when disks are full, as what was deleted may make room.
    async fn woken(&self) {
        tokio::select! {
            () = self.wakeup.rung() => {}
            () = self.starved() => {}
        }
    }

    fn retry_after(&self) -> Duration {
        self.every
    }

    async fn measures(&self) -> Vec<Measure> {
        if self.shards.is_none() {
            return Vec::new();
        }
        let counts = &self.counts;
        let mut measures = Vec::new();
        for (name, help, count) in [
            (
                "gc_garbage_removed_total",
                "Data rows without a reference whose shards were removed.",
                &counts.garbage_removed,
            ),
            (
                "gc_garbage_named_total",
                "Times that garbage was kept because metadata still name it: a fault of the store.",
                &counts.garbage_named,
            ),
            (
                "gc_orphans_removed_total",
                "Shards of writes that never ended, removed.",
                &counts.orphans_removed,
            ),
            (
                "gc_shards_confirmed_total",
                "Shards that gc found referenced and removed from a disk's list.",
                &counts.orphans_confirmed,
            ),
        ] {
            let count = count.load(Ordering::Relaxed);
            measures.push(Measure::counter(name, help, count));
        }
        measures.push(Measure::gauge(
            "gc_epochs_lag",
            "How far the oldest reader or writer holds back the floor, in rounds of gc.",
            self.proposer.epochs.lag() as f64,
        ));
        measures.push(Measure::gauge(
            "metadata_clock_ahead_seconds",
            "How far the time of the newest change is ahead of this machine's clock.",
            self.clock_ahead_ms.load(Ordering::Relaxed) as f64 / 1000.0,
        ));
        measures
    }
}

fn epochs(reply: Reply) -> (Epoch, Epoch) {
    match reply {
        Reply::Epochs { epoch, floor } => (epoch, floor),
        other => unreachable!("a raise is answered by the epochs, not {other:?}"),
    }
}

#[cfg(test)]
mod tests;
