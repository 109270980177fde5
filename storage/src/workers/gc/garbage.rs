//! Removal of garbage: many rows at once, several steps side by side.
//!
//! A step reads a page of rows in one linearizable view, which also says whether a data row still
//! names their shards. None may: the command that wrote the row took the last name. Should one all
//! the same, the row and its shards stay. Each disk then gets the shards of all rows as one
//! list, and one command forgets the rows whose shards are gone.

use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use tokio::sync::Mutex;

use super::Collector;
use crate::meta::command::Change;
use crate::meta::view::View;
use crate::meta::view::upkeep::GarbagePage;
use crate::shards::{Removal, RemovalOutcome, Shards};
use drystone_store::error::Result;
use drystone_store::types::{Epoch, WriteId};

/// The number of rows of one step. Each disk syncs each of its 256 folders at most once in a step.
const STEP_LEN: usize = 4000;
/// The number of steps side by side: while one waits for the disks, others read and propose.
const STEPS_AT_ONCE: usize = 3;

/// The row after which a page begins.
type PageEnd = Option<(Epoch, WriteId)>;

/// The outcome of the pages that were removed.
#[derive(Default)]
struct Swept {
    /// Some rows are to be tried again in the next round.
    has_failed: bool,
    had_lists: bool,
}

impl Collector {
    /// Removes all garbage below the floor that can be removed now. Returns whether a part list was
    /// among it.
    pub(super) async fn remove_garbage(&self, shards: &Shards, floor: Epoch) -> Result<bool> {
        let changes = shards.changes();
        if self.changes.swap(changes, Ordering::Relaxed) != changes {
            self.swept.store(0, Ordering::Relaxed);
        }
        let swept = self.swept.load(Ordering::Relaxed);
        let last_swept = |epoch| (Epoch(epoch), WriteId([u8::MAX; 16]));
        let after = Mutex::new(swept.checked_sub(1).map(last_swept));
        let lanes = (0..STEPS_AT_ONCE).map(|_| self.remove_pages(shards, floor, &after));
        let swept = try_join_all(lanes).await?;
        if swept.iter().all(|swept| !swept.has_failed) {
            self.swept.store(floor.0, Ordering::Relaxed);
        }
        Ok(swept.iter().any(|swept| swept.had_lists))
    }

    /// Removes one page after the other, beside others that do the same. `after` is the end of the
    /// last page that one of them has read.
    async fn remove_pages(
        &self,
        shards: &Shards,
        floor: Epoch,
        after: &Mutex<PageEnd>,
    ) -> Result<Swept> {
        let mut swept = Swept::default();
        loop {
            let page = {
                let mut after = after.lock().await;
                let begin = *after;
                let read = move |view: &View<'_>| view.garbage(begin, floor, STEP_LEN);
                let page = self.proposer.group.read(read).await?;
                if page.last.is_none() {
                    return Ok(swept);
                }
                *after = page.last;
                page
            };
            self.remove_page(shards, floor, page, &mut swept).await?;
        }
    }

    /// Removes the shards of a page, and then its rows.
    async fn remove_page(
        &self,
        shards: &Shards,
        floor: Epoch,
        page: GarbagePage,
        swept: &mut Swept,
    ) -> Result<()> {
        if let Some((_, write_id)) = page.named.first() {
            let count = page.named.len() as u64;
            self.counts
                .garbage_named
                .fetch_add(count, Ordering::Relaxed);
            tracing::error!(
                count, first = %write_id,
                "garbage is kept: the metadata still name its shards, or may; run fsck"
            );
        }
        let (lists, rows): (Vec<_>, Vec<_>) =
            page.rows.into_iter().partition(|row| row.is_part_list);
        for list in lists {
            swept.had_lists = true;
            swept.has_failed |= !self.release_parts(list.epoch, list.write_id).await?;
        }
        let removals: Vec<Removal> = rows
            .iter()
            .map(|row| Removal {
                write_id: row.write_id,
                shards: row.shards.iter().map(|s| (s.rank, s.at)).collect(),
            })
            .collect();
        let outcomes = shards.remove_all(&removals).await;
        let is_gone = |outcome: &RemovalOutcome| *outcome == RemovalOutcome::All;
        let gone = rows.iter().zip(&outcomes);
        let gone = gone.filter(|(_, outcome)| is_gone(outcome));
        let entries: Vec<_> = gone.map(|(row, _)| (row.epoch, row.write_id)).collect();
        self.counts
            .garbage_removed
            .fetch_add(entries.len() as u64, Ordering::Relaxed);
        if !entries.is_empty() {
            self.propose(floor, Change::ForgetGarbage { entries })
                .await?;
        }
        swept.has_failed |= outcomes.contains(&RemovalOutcome::Failed);
        Ok(())
    }
}
