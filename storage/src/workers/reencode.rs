//! Codes writes again that have fewer shards than their class.
//!
//! What is written while disks are away or full is as wide as the others allow; the command that
//! names it puts it into the queue of narrow writes as well. Once as many disks are up with room as
//! its class has shards:
//!
//! 1. An epoch is held, and then its data row is read, so that gc leaves both sets alone.
//! 2. A whole new set is written, synced and read back ([`Shards::recode`]). Power goes here: the
//!    new shards are on their disks' lists and named by nothing; gc removes them, and the queue
//!    still has the write.
//! 3. One command names the new set, if the row still has the old one; the old shards go into
//!    garbage and the queue's row goes, in the same batch. Refused, the new shards are orphans.
//!    Power goes here: as with a PUT, gc confirms what is named.
//!
//! Rows are named by write id, so whoever refers to the bytes (versions, parts, part lists) does so
//! still. Who opened them before reads the old shards, which stay while it holds its epoch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::retries::{RETRY_AFTER, Retries, rest};
use super::wakeup::Wakeup;
use crate::meta::command::{Change, HealEntry, Reencoding};
use crate::raft::epochs::EpochGuard;
use crate::raft::proposer::Proposer;
use crate::shards::{Shards, Stored, Unhealed};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::shard_set::ShardSet;
use drystone_store::types::WriteId;
use drystone_store::workers::{Pace, Paused};

/// Rows of the queue that are looked at in one step.
const PAGE_LEN: usize = 256;
/// Writes that are coded again at once; the disks' places bound them further.
const WRITES_AT_ONCE: usize = 4;

/// What it has done since the process began.
#[derive(Default)]
pub struct Counts {
    pub recoded: AtomicU64,
    pub failed: AtomicU64,
}

/// What the last round left in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Too few disks are up that have room; there may be more such writes.
    pub no_disk: u64,
    /// Too little of them can be read.
    pub lost: u64,
    /// Tried again later.
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is as wide as its class, or not there any more.
    Settled,
    NoDisk,
    Lost,
    Failed,
}

pub struct Recoder {
    objects: Proposer,
    shards: Arc<Shards>,
    pace: Arc<Pace>,
    changed: Wakeup,
    /// A round is due in any case that will find what is narrow by then.
    expected: AtomicBool,
    retries: Retries<WriteId, Outcome>,
    left: Mutex<Left>,
    pub counts: Counts,
}

impl Recoder {
    pub fn new(objects: Proposer, shards: Arc<Shards>, pace: Arc<Pace>) -> Recoder {
        Recoder {
            objects,
            shards,
            pace,
            changed: Wakeup::default(),
            expected: AtomicBool::new(true),
            retries: Retries::default(),
            left: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub fn wake(&self) {
        self.changed.wake();
    }

    /// A disk came or went: all is tried at once.
    pub fn wake_all(&self) {
        self.retries.clear();
        self.wake();
    }

    /// A narrow write was committed. As long as disks are wanting there are many of them, and one
    /// of them is enough to begin the waiting.
    pub fn queued(&self) {
        if !self.expected.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// What the last round could not code again.
    pub fn left(&self) -> Left {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One round after the other, for as long as this is polled.
    pub async fn run(&self) {
        loop {
            self.pace.resumed().await;
            let begun = Instant::now();
            // What is queued from here on may be missed.
            self.expected.store(false, Ordering::SeqCst);
            let due = match self.round().await {
                Ok(left) => {
                    *self.left.lock().unwrap_or_else(PoisonError::into_inner) = left;
                    self.retries.next_due(begun, left.no_disk > 0)
                }
                Err(error) => {
                    tracing::warn!(%error, "not all narrow writes were looked at");
                    Some(Instant::now() + RETRY_AFTER)
                }
            };
            if due.is_some() {
                self.expected.store(true, Ordering::SeqCst);
            }
            rest(begun, due, &self.changed).await;
        }
    }

    /// Goes through the queue once.
    async fn round(&self) -> Result<Left> {
        let (mut left, mut after) = (Left::default(), None);
        loop {
            let look = self
                .objects
                .group
                .read(move |view| view.undersized_writes(after, PAGE_LEN));
            let page = look.await?;
            let Some(last) = page.last() else {
                return Ok(left);
            };
            after = Some(*last);
            if self.pace.is_paused() {
                return Ok(left);
            }
            if !self.shards.can_write_wide().await {
                left.no_disk += page.len() as u64;
                return Ok(left);
            }
            let coded = stream::iter(page).map(|write_id| self.recode_if_due(write_id));
            let mut coded = coded.buffer_unordered(WRITES_AT_ONCE);
            while let Some(outcome) = coded.next().await {
                match outcome {
                    Ok(Outcome::Settled) => {}
                    Ok(Outcome::NoDisk) => left.no_disk += 1,
                    Ok(Outcome::Lost) => left.lost += 1,
                    Ok(Outcome::Failed) => left.failed += 1,
                    // The next page is not begun.
                    Err(Paused) => {}
                }
            }
        }
    }

    async fn recode_if_due(&self, write_id: WriteId) -> Result<Outcome, Paused> {
        if let Some(outcome) = self.retries.not_yet_due(&write_id) {
            return Ok(outcome);
        }
        let outcome = match self.recode(write_id).await {
            Ok(outcome) => outcome?,
            Err(error) => {
                tracing::warn!(%write_id, %error, "a narrow write was not coded again");
                Outcome::Failed
            }
        };
        match outcome {
            Outcome::Settled => self.retries.forget(&write_id),
            // Due with all others like it.
            Outcome::NoDisk => {}
            Outcome::Lost | Outcome::Failed => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.retries.failed(write_id, outcome);
            }
        }
        Ok(outcome)
    }

    async fn recode(&self, write_id: WriteId) -> Result<Result<Outcome, Paused>> {
        let epoch = self.objects.epochs.begin();
        let entry = HealEntry { write_id, rank: 0 };
        let look = self
            .objects
            .group
            .read(move |view| view.shard_to_heal(entry));
        let Some(owed) = look.await? else {
            // Deleted, and its row with it; or its row does not decode.
            return Ok(Ok(Outcome::Settled));
        };
        let write = Stored {
            write_id,
            bucket: owed.bucket,
            size: owed.size,
            set: &owed.set,
        };
        let coded = self.shards.recode(write, epoch.epoch(), &self.pace).await;
        let to = match coded {
            Ok(to) => to,
            Err(Unhealed::Paused(paused)) => return Ok(Err(paused)),
            Err(Unhealed::NoDisk) => return Ok(Ok(Outcome::NoDisk)),
            Err(Unhealed::Lost(why)) => {
                tracing::error!(%write_id, why, "a narrow write can't be read any more");
                return Ok(Ok(Outcome::Lost));
            }
            Err(error) => {
                tracing::info!(%write_id, %error, "a narrow write waits to be coded again");
                return Ok(Ok(Outcome::Failed));
            }
        };
        self.name(epoch, write_id, &owed.set, to).await.map(Ok)
    }

    /// Driven to its end whatever becomes of this.
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
        // Until here gc must not take the new shards for orphans.
        drop(epoch);
        match answer {
            Ok(_) => {}
            // Overwritten, deleted or healed meanwhile: gc takes the new ones.
            Err(Error::Refused(Refusal::Conflict)) => {
                tracing::info!(%write_id, "a write changed while it was coded again");
                return Ok(Outcome::Failed);
            }
            // Unknown: the disks' lists keep them until gc can ask.
            Err(error) => return Err(error),
        }
        if let Some(set) = &to {
            self.shards.confirm(write_id, set);
            self.counts.recoded.fetch_add(1, Ordering::Relaxed);
            let (from, to) = (old.shards.len(), set.shards.len());
            tracing::debug!(%write_id, from, to, "coded again");
        }
        Ok(Outcome::Settled)
    }
}
