//! Heal: rebuilds the shards that, by the heal queue, may not be what their rows say.
//!
//! The queue is part of the metadata: rows come with what causes them and go with what settles
//! them, in the same batch. The healer goes through it in rounds, woken by whoever adds to it:
//!
//! 1. The write's row is read again, in an epoch that is held until the write is healed, so that gc
//!    leaves its shards alone.
//! 2. The shard is examined. Whole: its row is removed from the queue. On an offline disk: the row
//!    waits, because offline is not missing. Undecided: the row waits and is tried again.
//! 3. A new shard is noted in its disk's list of unconfirmed ones before its file can exist,
//!    rebuilt from k others, compared with the checksum of its payload in the row, synced and read
//!    back. Power goes here: gc asks the metadata, finds that nothing names it, and removes it
//!    below the floor.
//! 4. One command swaps the reference, if the row still has the old shard. The old one becomes
//!    garbage and the queue's row goes, in the same batch. Refused, the new shard is an orphan.
//!    Power goes here: as with a PUT, gc confirms what is named.
//!
//! Heal removes nothing but what it made itself. Fewer than k good shards: the row stays, counts as
//! lost, and is tried again, because a disk may still come back.

mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::reencode::Reencoder;
use super::retries::Retries;
use crate::meta::command::{Change, ShardSwap};
use crate::meta::view::View;
use crate::meta::view::upkeep::ShardToHeal;
use crate::raft::epochs::EpochGuard;
use crate::raft::proposer::Proposer;
use crate::shards::{HealError, ShardCondition, ShardRef, Shards};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::lock::Mutex;
use drystone_store::shard_set::{ShardAt, ShardId, ShardPlace};
use drystone_store::types::WriteId;
use drystone_store::workers::{Pace, Pause, Wakeup};
use futures_util::StreamExt as _;
use futures_util::stream;

/// The number of queue rows that are read at once.
const PAGE_LEN: usize = 256;
/// The number of writes that are healed at once, and with it of reads in progress on one disk.
const WRITES_AT_ONCE: usize = 8;

/// The results of heal since the process began.
#[derive(Default)]
struct Counts {
    healed: AtomicU64,
    failed: AtomicU64,
    /// Queued, and found whole.
    whole: AtomicU64,
    bytes: AtomicU64,
}

/// The shards that the last round left in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundSummary {
    /// Their disks are offline.
    pub waiting: u64,
    /// There is no disk to put them on.
    pub no_disk: u64,
    /// Fewer good shards of their write are left than it takes to read it.
    pub lost: u64,
    /// They are tried again later.
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Healed,
    Whole(ShardAt),
    Waiting,
    NoDisk,
    Lost,
    Failed,
    /// It lost its name meanwhile, and its queue row with it.
    Changed,
}

pub struct Healer {
    objects: Proposer,
    shards: Arc<Shards>,
    pace: Arc<Pace>,
    wakeup: Wakeup,
    retries: Retries<ShardId, Outcome>,
    summary: Mutex<RoundSummary>,
    counts: Counts,
    /// Goes through a queue of its own, at the same pace.
    reencoder: Arc<Reencoder>,
}

impl Healer {
    pub fn new(
        objects: Proposer,
        shards: Arc<Shards>,
        pace: Arc<Pace>,
        reencoder: Arc<Reencoder>,
    ) -> Healer {
        Healer {
            retries: Retries::new(objects.env.clone()),
            objects,
            shards,
            pace,
            wakeup: Wakeup::default(),
            summary: Mutex::default(),
            counts: Counts::default(),
            reencoder,
        }
    }

    /// Begins a round: the queue has more, or what it has may have become possible.
    pub fn wake(&self) {
        self.wakeup.wake();
    }

    /// Sets the bytes a second, 0 for no limit, and whether heal and re-encode are paused.
    pub fn set_pace(&self, rate: u64, paused: bool) {
        self.pace.set(rate, paused);
        self.wake();
        self.reencoder.wake();
    }

    /// Tries what failed or waited at once: a disk came, went, or is no longer suspect.
    pub fn wake_all(&self) {
        self.retries.clear();
        self.wake();
        self.reencoder.wake_all();
    }

    /// The shards that the last round could not heal.
    pub fn summary(&self) -> RoundSummary {
        *self.summary.lock()
    }

    /// Goes through the queue once.
    async fn round(&self) -> Result<RoundSummary> {
        let (mut summary, mut after) = (RoundSummary::default(), None);
        loop {
            let page: Vec<(ShardId, Option<ShardToHeal>)> = self
                .objects
                .group
                .read(move |view| {
                    let entries = view.heals(after, PAGE_LEN)?;
                    let with_shard = |entry| Ok((entry, view.shard_to_heal(entry)?));
                    entries.into_iter().map(with_shard).collect()
                })
                .await?;
            let Some((last, _)) = page.last() else {
                return Ok(summary);
            };
            after = Some(*last);
            if self.pace.is_paused() {
                return Ok(summary);
            }
            let writes = by_write(page.into_iter().filter_map(|(_, shard)| shard));
            let healed = stream::iter(writes).map(|writes| self.heal_write(writes));
            let mut healed = healed.buffer_unordered(WRITES_AT_ONCE);
            let mut whole = Vec::new();
            while let Some(outcomes) = healed.next().await {
                for (entry, outcome) in outcomes {
                    note(entry, outcome, &mut summary, &mut whole);
                }
            }
            if !whole.is_empty() {
                self.settle(whole).await?;
            }
        }
    }

    /// Heals the shards of one write, one after the other: each must know where the last one went.
    ///
    /// `queued` was read with its page, long ago perhaps. So the write is read again, in an epoch
    /// that is held until its shards are healed: otherwise gc could have removed them since.
    async fn heal_write(&self, queued: Vec<ShardToHeal>) -> Vec<(ShardId, Outcome)> {
        let mut outcomes = Vec::with_capacity(queued.len());
        let mut due = Vec::with_capacity(queued.len());
        for shard in &queued {
            match self.known_outcome(shard) {
                Some(outcome) => outcomes.push((shard.entry, outcome)),
                None => due.push(shard.entry),
            }
        }
        if due.is_empty() {
            return outcomes;
        }
        let epoch = self.objects.epochs.begin();
        let entries = due.clone();
        let read = move |view: &View<'_>| {
            let shards = entries.iter().map(|entry| view.shard_to_heal(*entry));
            shards.collect::<Result<Vec<_>>>()
        };
        let mut shards: Vec<ShardToHeal> = match self.objects.group.read(read).await {
            // Those without a row are no longer queued.
            Ok(shards) => shards.into_iter().flatten().collect(),
            Err(error) => {
                tracing::info!(%error, "the row of a write could not be read");
                for entry in due {
                    self.remember(entry, Outcome::Failed);
                    outcomes.push((entry, Outcome::Failed));
                }
                return outcomes;
            }
        };
        for n in 0..shards.len() {
            let entry = shards[n].entry;
            let outcome = match self.heal_shard(&shards[n], &epoch).await {
                Ok((outcome, None)) => outcome,
                Ok((outcome, Some(place))) => {
                    for other in &mut shards {
                        other.set.shards[usize::from(entry.rank)] = place.clone();
                    }
                    outcome
                }
                Err(Pause) => break,
            };
            self.remember(entry, outcome);
            outcomes.push((entry, outcome));
        }
        outcomes
    }

    /// Returns what becomes of a shard, if that is known without a look at its row and its disk.
    fn known_outcome(&self, queued: &ShardToHeal) -> Option<Outcome> {
        if let Some(outcome) = self.retries.not_yet_due(&queued.entry) {
            return Some(outcome);
        }
        let place = &queued.set.shards[usize::from(queued.entry.rank)];
        let waits = !place.missing && self.shards.is_offline(place.disk);
        waits.then_some(Outcome::Waiting)
    }

    async fn heal_shard(
        &self,
        queued: &ShardToHeal,
        epoch: &EpochGuard,
    ) -> Result<(Outcome, Option<ShardPlace>), Pause> {
        let ShardId { write_id, rank } = queued.entry;
        let shard = ShardRef {
            write_id,
            bucket: queued.bucket,
            size: queued.size,
            set: &queued.set,
            rank,
        };
        let place = &queued.set.shards[usize::from(rank)];
        let why = match self.shards.examine(shard, &self.pace).await? {
            ShardCondition::Whole => return Ok((Outcome::Whole(place.at()), None)),
            ShardCondition::Offline => return Ok((Outcome::Waiting, None)),
            ShardCondition::Unknown(why) => {
                tracing::info!(%write_id, rank, why, "a shard could not be examined");
                return Ok((Outcome::Failed, None));
            }
            ShardCondition::Damaged(why) => why,
        };
        let rebuilt = match self.shards.rebuild(shard, epoch.epoch(), &self.pace).await {
            Ok(rebuilt) => rebuilt,
            Err(HealError::Paused(paused)) => return Err(paused),
            Err(HealError::Lost(error)) => {
                if !self.is_named(write_id, rank, place.at()).await {
                    return Ok((Outcome::Changed, None));
                }
                tracing::error!(%write_id, rank, error, "too few shards are left to rebuild one");
                return Ok((Outcome::Lost, None));
            }
            Err(HealError::NoDisk) => return Ok((Outcome::NoDisk, None)),
            Err(error @ HealError::Unproven(_)) => {
                tracing::error!(%write_id, rank, %error, "a rebuilt shard is not used");
                return Ok((Outcome::Failed, None));
            }
            Err(error) => {
                tracing::warn!(%write_id, rank, %error, "a shard was not rebuilt");
                return Ok((Outcome::Failed, None));
            }
        };
        let swap = ShardSwap {
            write_id,
            rank,
            from: place.at(),
            to: rebuilt.at,
            checksum: rebuilt.checksum,
        };
        let outcome = self.swap(swap, epoch).await;
        if outcome != Outcome::Healed {
            return Ok((outcome, None));
        }
        tracing::debug!(%write_id, rank, why, disk = %rebuilt.at.disk, "a shard was rebuilt");
        let bytes = queued.size / u64::from(queued.set.data_shards.max(1));
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        let place = ShardPlace {
            disk: rebuilt.at.disk,
            generation: rebuilt.at.generation,
            checksum: rebuilt.checksum,
            payload_checksum: place.payload_checksum,
            missing: false,
        };
        Ok((outcome, Some(place)))
    }

    /// Returns whether the row still names the shard. If the metadata do not answer, it counts as
    /// named.
    async fn is_named(&self, write_id: WriteId, rank: u8, at: ShardAt) -> bool {
        let look = move |view: &View<'_>| view.names(write_id, rank, at);
        self.objects.group.read(look).await.unwrap_or(true)
    }

    /// Names the new shard. The command runs to its end even if this is dropped. `epoch` keeps gc
    /// from taking the new shard for an orphan.
    async fn swap(&self, swap: ShardSwap, epoch: &EpochGuard) -> Outcome {
        let answer = self
            .objects
            .propose_in(epoch, Change::SwapShard(swap))
            .await;
        let ShardSwap { write_id, rank, .. } = swap;
        match answer {
            Ok(_) => {
                self.shards.confirm_shard(write_id, rank, swap.to);
                Outcome::Healed
            }
            // Overwritten, deleted or healed by another meanwhile: gc removes the new one.
            Err(Error::Refused(Refusal::Conflict)) => {
                tracing::info!(%write_id, rank, "a shard changed while it was rebuilt");
                Outcome::Failed
            }
            // Unknown: the disk's list keeps it until gc can ask.
            Err(error) => {
                tracing::warn!(%write_id, rank, %error, "a rebuilt shard is not named");
                Outcome::Failed
            }
        }
    }

    async fn settle(&self, entries: Vec<(ShardId, ShardAt)>) -> Result<()> {
        let count = entries.len() as u64;
        self.counts.whole.fetch_add(count, Ordering::Relaxed);
        let settled = self.objects.propose(Change::SettleHeals { entries });
        settled.await.map(drop)
    }

    fn remember(&self, entry: ShardId, outcome: Outcome) {
        match outcome {
            Outcome::Healed => {
                self.retries.forget(&entry);
                self.counts.healed.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Whole(_) | Outcome::Changed => self.retries.forget(&entry),
            // A disk that comes back wakes all. A shard without a disk is due with all others
            // like it.
            Outcome::Waiting | Outcome::NoDisk => {}
            Outcome::Lost | Outcome::Failed => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.retries.failed(entry, outcome);
            }
        }
    }
}

fn note(
    entry: ShardId,
    outcome: Outcome,
    summary: &mut RoundSummary,
    whole: &mut Vec<(ShardId, ShardAt)>,
) {
    match outcome {
        Outcome::Healed | Outcome::Changed => {}
        Outcome::Whole(at) => whole.push((entry, at)),
        Outcome::Waiting => summary.waiting += 1,
        Outcome::NoDisk => summary.no_disk += 1,
        Outcome::Lost => summary.lost += 1,
        Outcome::Failed => summary.failed += 1,
    }
}

/// Groups the shards by their write. Rows of one write follow each other in the queue.
fn by_write(shards: impl Iterator<Item = ShardToHeal>) -> Vec<Vec<ShardToHeal>> {
    let mut writes: Vec<Vec<ShardToHeal>> = Vec::new();
    let mut last: Option<WriteId> = None;
    for shard in shards {
        match writes.last_mut() {
            Some(write) if last == Some(shard.entry.write_id) => write.push(shard),
            _ => {
                last = Some(shard.entry.write_id);
                writes.push(vec![shard]);
            }
        }
    }
    writes
}

#[cfg(test)]
mod tests;
