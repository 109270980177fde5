//! The length of a replica's log: when the log is dropped, and which followers delay that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::LogIdOptionExt as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;

use super::log_meter::LOG_BYTES_BEFORE_FLUSH;
use super::members::{LOG_KEPT_ENTRIES, Member};
use super::types::{LogId, ReplicaId};

/// Bounds on the log that is kept for a follower in this process that catches up: this many times
/// the flush threshold, or this part of the free space if that is more. If the log after an
/// in-flight snapshot were dropped, the snapshot would have to be sent again, under load forever.
const KEPT_FLUSHES_MIN: u64 = 16;
const KEPT_PART_OF_SPACE: u64 = 4;
/// A follower that has received nothing for this long makes no progress.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// The most entries in the log with which a replica starts, beyond which some are dropped at once.
const LOG_LEN_AT_START_MAX: u64 = 2 * LOG_KEPT_ENTRIES;

/// Returns what the followers in this process have that lack log that would be dropped. `matched`
/// is what the leader knows of its followers' logs.
fn awaited(
    last_index: Option<u64>,
    matched: &BTreeMap<ReplicaId, Option<LogId>>,
    is_here: impl Fn(ReplicaId) -> bool,
) -> Vec<(ReplicaId, u64)> {
    let end = last_index.map_or(0, |last| last + 1);
    let stays_from = end.saturating_sub(LOG_KEPT_ENTRIES);
    let followers = matched.iter().map(|(id, has)| (*id, has.next_index()));
    let lacking = followers.filter(|(id, next)| *next < stays_from && is_here(*id));
    lacking.collect()
}

/// Returns whether log of so many flushes may stay for a follower on a disk with `bytes_free`.
fn has_room(flushes: u64, bytes_free: u64) -> bool {
    let kept = flushes * LOG_BYTES_BEFORE_FLUSH;
    // The log itself has taken its part of the space already.
    flushes < KEPT_FLUSHES_MIN || kept < (bytes_free + kept) / KEPT_PART_OF_SPACE
}

impl Member {
    /// Flushes the state and drops the log whenever the disk's logs have grown enough.
    pub async fn keep_log_short(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        let mut full = self.meter.full();
        // The meter counts what this process appends. Earlier ones may have left much.
        let mut is_due = self.log.len() > LOG_LEN_AT_START_MAX;
        // The replica must be able to end without more log: this task holds its disk's database.
        let mut applying = self.applying.clone();
        loop {
            let is_due_now = std::mem::take(&mut is_due);
            let due = async {
                // An error means that nothing is logged any more; then `applying` changes, too.
                if is_due_now || full.changed().await.is_ok() {
                    self.followers_have_log().await;
                }
            };
            tokio::select! {
                _ = closing.changed() => return,
                _ = applying.changed() => return,
                () = due => {}
            }
            let trigger = self.raft.trigger();
            let mut triggered = trigger.snapshot().await;
            if is_due_now && let Some(last) = self.last_log_id() {
                // The state is a snapshot already, and openraft drops nothing for that.
                let upto = last.index.saturating_sub(LOG_KEPT_ENTRIES);
                triggered = triggered.and(trigger.purge_log(upto).await);
            }
            if triggered.is_err() {
                // This replica has ended, which its group has noticed.
                return;
            }
        }
    }

    /// Waits, within bounds, until no follower in this process lacks log that would be dropped.
    async fn followers_have_log(&self) {
        let (mut metrics, mut full) = (self.raft.metrics(), self.meter.full());
        let Some(mut transferred) = self.router.upgrade().map(|router| router.transferred()) else {
            return;
        };
        let db = &self.shared.db;
        let (mut flushes, mut seen) = (0, None);
        let mut stalled_at = db.env().after(STALLED_AFTER);
        loop {
            let Some(router) = self.router.upgrade() else {
                return;
            };
            let awaited = {
                let metrics = metrics.borrow_and_update();
                let matched = metrics.replication.as_ref();
                let is_here = |id| router.has(id);
                matched.map_or_else(Vec::new, |matched| {
                    awaited(metrics.last_log_index, matched, is_here)
                })
            };
            drop(router);
            if awaited.is_empty() {
                return;
            }
            let now = Some((awaited, *transferred.borrow_and_update()));
            if seen != now {
                seen = now;
                stalled_at = db.env().after(STALLED_AFTER);
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                changed = transferred.changed() => if changed.is_err() { return },
                _ = full.changed() => {
                    flushes += 1;
                    let free = db.run_blocking(|db| db.free_bytes()).await;
                    if !free.is_ok_and(|free| has_room(flushes, free)) {
                        return;
                    }
                }
                () = db.env().sleep_until(stalled_at) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::split_log_id;

    fn at(index: u64) -> Option<LogId> {
        let bytes: Vec<u8> = [1, 1, index].iter().flat_map(|n| n.to_be_bytes()).collect();
        split_log_id(&bytes).map(|(id, _)| id)
    }

    /// Found by reading: under a constant load, the log after a snapshot that takes long to send
    /// was dropped again and again, and a lost voter was never replaced.
    #[test]
    fn f_23_log_that_a_follower_still_lacks_is_kept_while_it_lives() {
        let end = 3 * LOG_KEPT_ENTRIES;
        let followers = |others: &[Option<LogId>]| -> BTreeMap<_, _> {
            (1..).map(ReplicaId).zip(others.iter().copied()).collect()
        };
        let lacking = |others: &[Option<LogId>]| {
            let is_here = |id| id != ReplicaId(9);
            awaited(Some(end - 1), &followers(others), is_here)
        };
        assert_eq!(lacking(&[at(end - 1), at(end - LOG_KEPT_ENTRIES)]), []);
        let next = end - LOG_KEPT_ENTRIES - 1;
        assert_eq!(
            lacking(&[at(end - 1), at(next - 1)]),
            [(ReplicaId(2), next)]
        );
        // A follower that begins with an empty log, and a dead one.
        assert_eq!(lacking(&[at(end - 1), None]), [(ReplicaId(2), 0)]);
        let dead = BTreeMap::from([(ReplicaId(9), None)]);
        assert_eq!(awaited(Some(end - 1), &dead, |id| id != ReplicaId(9)), []);
        assert_eq!(awaited(None, &followers(&[None]), |_| true), []);
    }

    /// Found by reading: 512 MiB of log were kept at most, which a store with small objects writes
    /// in 40 seconds. A state of a few GB was never transferred.
    #[test]
    fn f_23_log_is_kept_up_to_a_quarter_of_the_space() {
        const GIB: u64 = 1 << 30;
        assert!(has_room(15, 0));
        assert!(!has_room(16, GIB));
        // 10 GiB of log, of 40 GiB that would be free without it.
        assert!(has_room(320, 31 * GIB));
        assert!(!has_room(321, 30 * GIB));
    }
}
