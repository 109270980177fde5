//! Re-encode: gives undersized writes all the shards of their class.
//!
//! A write that comes while disks are offline or full is as wide as the others allow; the command
//! that names it also puts it into the queue of undersized writes. Once as many disks with room are
//! up as its class has shards:
//!
//! 1. An epoch is held, and then the data row is read, so that gc leaves both sets alone.
//! 2. A whole new set is written, synced and read back ([`Shards::recode`]). Power goes here: the
//!    new shards are on their disks' lists and nothing names them; gc removes them, and the queue
//!    still has the write.
//! 3. One command names the new set, if the row still has the old one. The old shards become
//!    garbage and the queue's row goes, in the same batch. Refused, the new shards are orphans.
//!    Power goes here: as with a PUT, gc confirms what is named.
//!
//! Rows are named by write id, so all that refer to the bytes (versions, parts, part lists) still
//! do. A reader that opened them before reads the old shards, which stay while it holds its epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};

use super::retries::{RETRY_AFTER, Retries};
use crate::meta::command::{Change, Reencoding};
use crate::raft::epochs::EpochGuard;
use crate::raft::proposer::Proposer;
use crate::shards::{HealError, Shards, WriteRef};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::lock::Mutex;
use drystone_store::measure::Measure;
use drystone_store::shard_set::{ShardId, ShardSet};
use drystone_store::types::WriteId;
use drystone_store::workers::{Next, Pace, Pause, StepError, Wakeup, Worker};

/// The number of queue rows that are read at once.
const PAGE_LEN: usize = 256;
/// The number of writes that are re-encoded at once; the disks' places for rebuilds bound it
/// further.
const WRITES_AT_ONCE: usize = 4;

/// The most rows of the queue that are counted.
const QUEUE_COUNTED_MAX: usize = 200_000;

/// The results of re-encode since the process began.
#[derive(Default)]
struct Counts {
    reencoded: AtomicU64,
    failed: AtomicU64,
}

/// The writes that the last round left in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundSummary {
    /// Too few disks with room are up. There may be more such writes.
    pub no_disk: u64,
    /// Too few of their shards can be read.
    pub lost: u64,
    /// They are tried again later.
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The write has all the shards of its class, or does not exist any more.
    Complete,
    NoDisk,
    Lost,
    Failed,
}

pub struct Reencoder {
    objects: Proposer,
    shards: Arc<Shards>,
    pace: Arc<Pace>,
    wakeup: Wakeup,
    /// A round is due in any case that will find what is undersized by then.
    is_round_due: AtomicBool,
    retries: Retries<WriteId, Outcome>,
    summary: Mutex<RoundSummary>,
    counts: Counts,
}

impl Reencoder {
    pub fn new(objects: Proposer, shards: Arc<Shards>, pace: Arc<Pace>) -> Reencoder {
        Reencoder {
            retries: Retries::new(objects.env.clone()),
            objects,
            shards,
            pace,
            wakeup: Wakeup::default(),
            is_round_due: AtomicBool::new(true),
            summary: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub fn wake(&self) {
        self.wakeup.wake();
    }

    /// Tries everything at once: a disk came or went.
    pub fn wake_all(&self) {
        self.retries.clear();
        self.wake();
    }

    /// Notes that an undersized write was committed. While disks are missing there are many of
    /// them, and the first is enough to begin the waiting.
    pub fn queued(&self) {
        if !self.is_round_due.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// The writes that the last round could not re-encode.
    pub fn summary(&self) -> RoundSummary {
        *self.summary.lock()
    }

    /// The number of writes re-encoded since the process began.
    pub fn reencoded(&self) -> u64 {
        self.counts.reencoded.load(Ordering::Relaxed)
    }

    /// The number of tries that failed since the process began.
    pub fn failures(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// Goes through the queue once.
    async fn round(&self) -> Result<RoundSummary> {
        let (mut summary, mut after) = (RoundSummary::default(), None);
        loop {
            let look = self
                .objects
                .group
                .read(move |view| view.undersized_writes(after, PAGE_LEN));
            let page = look.await?;
            let Some(last) = page.last() else {
                return Ok(summary);
            };
            after = Some(*last);
            if self.pace.is_paused() {
                return Ok(summary);
            }
            if !self.shards.can_reencode().await {
                summary.no_disk += page.len() as u64;
                return Ok(summary);
            }
            let outcomes = stream::iter(page).map(|write_id| self.reencode_if_due(write_id));
            let mut outcomes = outcomes.buffer_unordered(WRITES_AT_ONCE);
            while let Some(outcome) = outcomes.next().await {
                match outcome {
                    Ok(Outcome::Complete) => {}
                    Ok(Outcome::NoDisk) => summary.no_disk += 1,
                    Ok(Outcome::Lost) => summary.lost += 1,
                    Ok(Outcome::Failed) => summary.failed += 1,
                    // The next page is not begun.
                    Err(Pause) => {}
                }
            }
        }
    }

    async fn reencode_if_due(&self, write_id: WriteId) -> Result<Outcome, Pause> {
        if let Some(outcome) = self.retries.not_yet_due(&write_id) {
            return Ok(outcome);
        }
        let outcome = match self.reencode(write_id).await {
            Ok(outcome) => outcome?,
            Err(error) => {
                tracing::warn!(%write_id, %error, "an undersized write was not re-encoded");
                Outcome::Failed
            }
        };
        match outcome {
            Outcome::Complete => self.retries.forget(&write_id),
            // Due with all others like it.
            Outcome::NoDisk => {}
            Outcome::Lost | Outcome::Failed => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.retries.failed(write_id, outcome);
            }
        }
        Ok(outcome)
    }

    async fn reencode(&self, write_id: WriteId) -> Result<Result<Outcome, Pause>> {
        let epoch = self.objects.epochs.begin();
        let entry = ShardId { write_id, rank: 0 };
        let look = self
            .objects
            .group
            .read(move |view| view.shard_to_heal(entry));
        let Some(found) = look.await? else {
            // Deleted, and its row with it; or its row does not decode.
            return Ok(Ok(Outcome::Complete));
        };
        let write = WriteRef {
            write_id,
            bucket: found.bucket,
            size: found.size,
            set: &found.set,
        };
        let written = self.shards.reencode(write, epoch.epoch(), &self.pace).await;
        let to = match written {
            Ok(to) => to,
            Err(HealError::Paused(paused)) => return Ok(Err(paused)),
            Err(HealError::NoDisk) => return Ok(Ok(Outcome::NoDisk)),
            Err(HealError::Lost(why)) => {
                tracing::error!(%write_id, why, "an undersized write cannot be read any more");
                return Ok(Ok(Outcome::Lost));
            }
            Err(error) => {
                tracing::info!(%write_id, %error, "an undersized write waits to be re-encoded");
                return Ok(Ok(Outcome::Failed));
            }
        };
        self.name(epoch, write_id, &found.set, to).await.map(Ok)
    }

    /// Names the new shards. The command runs to its end even if this is dropped.
    async fn name(
        &self,
        epoch: EpochGuard,
        write_id: WriteId,
        old: &ShardSet,
        to: Option<ShardSet>,
    ) -> Result<Outcome> {
        let change = Change::ReencodeData(Reencoding {
            write_id,
            from: old.places().collect(),
            to: to.clone(),
        });
        let answer = self.objects.propose_in(&epoch, change).await;
        // Until here gc must not mistake the new shards for orphans.
        drop(epoch);
        match answer {
            Ok(_) => {}
            // Overwritten, deleted or healed meanwhile: gc removes the new ones.
            Err(Error::Refused(Refusal::Conflict)) => {
                tracing::info!(%write_id, "a write changed while it was re-encoded");
                return Ok(Outcome::Failed);
            }
            // Unknown: the disks' lists keep them until gc can ask.
            Err(error) => return Err(error),
        }
        if let Some(set) = &to {
            self.shards.confirm(write_id, set);
            self.counts.reencoded.fetch_add(1, Ordering::Relaxed);
            let (from, to) = (old.shards.len(), set.shards.len());
            tracing::debug!(%write_id, from, to, "re-encoded");
        }
        Ok(Outcome::Complete)
    }
}

#[async_trait]
impl Worker for Reencoder {
    fn name(&self) -> &'static str {
        "re-encode"
    }

    async fn step(&self) -> Result<Next, StepError> {
        let begun = self.objects.env.instant();
        // What is queued from here on may be missed.
        self.is_round_due.store(false, Ordering::SeqCst);
        let summary = match self.round().await {
            Ok(summary) => summary,
            Err(error) => {
                self.is_round_due.store(true, Ordering::SeqCst);
                return Err(error.into());
            }
        };
        *self.summary.lock() = summary;
        let due = self.retries.next_due(begun, summary.no_disk > 0);
        if due.is_some() {
            self.is_round_due.store(true, Ordering::SeqCst);
        }
        Ok(due.into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    fn retry_after(&self) -> Duration {
        RETRY_AFTER
    }

    /// A long queue that can only wait is not gone through without a rest.
    fn rest(&self, took: Duration) -> Duration {
        took
    }

    fn pace(&self) -> Option<Arc<Pace>> {
        Some(self.pace.clone())
    }

    fn status(&self) -> Option<String> {
        let RoundSummary {
            no_disk,
            lost,
            failed,
        } = self.summary();
        let parts: Vec<_> = [
            (no_disk, "wait for disks"),
            (lost, "are lost"),
            (failed, "will be tried again"),
        ]
        .into_iter()
        .filter(|(writes, _)| *writes > 0)
        .map(|(writes, what)| format!("{writes} {what}"))
        .collect();
        (!parts.is_empty()).then(|| format!("writes: {}", parts.join(", ")))
    }

    async fn measures(&self) -> Vec<Measure> {
        let read = self
            .objects
            .group
            .read(|view| view.undersized_count(QUEUE_COUNTED_MAX));
        let Ok(undersized) = read.await else {
            return Vec::new();
        };
        vec![
            Measure::counter(
                "heal_reencoded_objects_total",
                "Undersized objects and parts that were re-encoded with all their shards.",
                self.reencoded(),
            ),
            Measure::gauge(
                "heal_undersized_objects",
                "Objects and parts with fewer shards than their class, for want of disks.",
                undersized as f64,
            ),
        ]
    }
}
