//! How long a replica's log becomes: when it is dropped, and who keeps it from that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::LogIdOptionExt as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::members::{LOG_KEPT_ENTRIES, Member};
use super::types::{LogId, ReplicaId};

/// What a follower of this process lacks of a leader's log is kept while it catches up: this many
/// times as much as calls for a flush, and so long, at most. Where log is dropped that follows a
/// state on its way, the state must be sent again, and under load so for ever.
const HELD_TIMES_MAX: u32 = 16;
const HELD_FOR_MAX: Duration = Duration::from_secs(600);

/// Whether a follower that is here lacks more of its leader's log than stays when it is dropped.
/// `matched`: what the leader knows that its followers have.
fn is_awaited(
    last_index: Option<u64>,
    matched: &BTreeMap<ReplicaId, Option<LogId>>,
    is_here: impl Fn(ReplicaId) -> bool,
) -> bool {
    let end = last_index.map_or(0, |last| last + 1);
    let stays_from = end.saturating_sub(LOG_KEPT_ENTRIES);
    let mut followers = matched.iter();
    followers.any(|(id, has)| has.next_index() < stays_from && is_here(*id))
}

impl Member {
    /// Flushes the state and drops log whenever the disk's logs have grown enough.
    pub async fn keep_log_short(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        let mut full = self.meter.full();
        // Its end must not wait for more log: whoever holds it holds the disk's database.
        let mut applying = self.applying.clone();
        loop {
            let due = async {
                // An error: nothing is logged any more, and `applying` tells.
                if full.changed().await.is_ok() {
                    self.followers_have_log().await;
                }
            };
            tokio::select! {
                _ = closing.changed() => return,
                _ = applying.changed() => return,
                () = due => {}
            }
            if self.raft.trigger().snapshot().await.is_err() {
                // This replica is no more, which its group has noticed.
                return;
            }
        }
    }

    /// Waits, within bounds, until no follower that is here would miss what is dropped.
    async fn followers_have_log(&self) {
        let (mut metrics, mut full) = (self.raft.metrics(), self.meter.full());
        let given_up = Instant::now() + HELD_FOR_MAX;
        let mut times = 0;
        while times < HELD_TIMES_MAX {
            let Some(router) = self.router.upgrade() else {
                return;
            };
            let awaited = {
                let metrics = metrics.borrow_and_update();
                let matched = metrics.replication.as_ref();
                let is_here = |id| router.has(id);
                matched.is_some_and(|matched| is_awaited(metrics.last_log_index, matched, is_here))
            };
            drop(router);
            if !awaited {
                return;
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                _ = full.changed() => times += 1,
                () = sleep_until(given_up) => return,
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

    /// Found by reading: under a constant load, a state that takes long to be sent was dropped
    /// behind again and again, and a lost voter never got its successor.
    #[test]
    fn f_23_log_that_a_follower_still_lacks_is_kept_while_it_lives() {
        let end = 3 * LOG_KEPT_ENTRIES;
        let followers = |others: &[Option<LogId>]| -> BTreeMap<_, _> {
            (1..).map(ReplicaId).zip(others.iter().copied()).collect()
        };
        let awaited = |others: &[Option<LogId>]| {
            let is_here = |id| id != ReplicaId(9);
            is_awaited(Some(end - 1), &followers(others), is_here)
        };
        assert!(!awaited(&[at(end - 1), at(end - LOG_KEPT_ENTRIES)]));
        assert!(awaited(&[at(end - 1), at(end - LOG_KEPT_ENTRIES - 2)]));
        // One that begins from nothing, and one that is dead.
        assert!(awaited(&[at(end - 1), None]));
        let dead = BTreeMap::from([(ReplicaId(9), None)]);
        assert!(!is_awaited(Some(end - 1), &dead, |id| id != ReplicaId(9)));
        assert!(!is_awaited(None, &followers(&[None]), |_| true));
    }
}
