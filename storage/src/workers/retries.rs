//! When the next round of heal is due, and what it leaves out: an item that failed is tried again
//! after a while, then after twice as long, and so on.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use drystone_store::env::{Env, Instant};
use drystone_store::lock::Mutex;

/// An item that failed is tried again after this, then after twice as long, and so on. A round
/// that failed as a whole is tried again after this.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// An item that finds no disk is tried again after this, because a disk may be avoided only for a
/// while, or may come to have room; and at least after [`NO_DISK_REST`] times as long as the last
/// round took.
const NO_DISK_AFTER: Duration = Duration::from_secs(60);
const NO_DISK_REST: u32 = 20;
/// The most failures that are remembered; past it an item is tried in every round.
const FAILURES_LEN_MAX: usize = 100_000;

struct Failure<O> {
    after: Duration,
    due: Instant,
    outcome: O,
}

/// The items that failed.
pub struct Retries<K, O> {
    env: Arc<dyn Env>,
    failures: Mutex<HashMap<K, Failure<O>>>,
}

impl<K: Eq + Hash, O: Copy> Retries<K, O> {
    pub fn new(env: Arc<dyn Env>) -> Retries<K, O> {
        Retries {
            env,
            failures: Mutex::new(HashMap::new()),
        }
    }

    /// Lets everything be tried at once.
    pub fn clear(&self) {
        self.failures.lock().clear();
    }

    pub fn forget(&self, what: &K) {
        self.failures.lock().remove(what);
    }

    pub fn failed(&self, what: K, outcome: O) {
        let mut failures = self.failures.lock();
        let before = failures.get(&what).map(|failure| failure.after);
        let after = before.map_or(RETRY_AFTER, |after| (2 * after).min(RETRY_AFTER_MAX));
        let failure = Failure {
            after,
            due: self.env.after(after),
            outcome,
        };
        if failures.len() < FAILURES_LEN_MAX || before.is_some() {
            failures.insert(what, failure);
        }
    }

    /// The last outcome of an item, while it is too early to try it again.
    pub fn not_yet_due(&self, what: &K) -> Option<O> {
        let failures = self.failures.lock();
        let failure = failures.get(what)?;
        (failure.due > self.env.instant()).then_some(failure.outcome)
    }

    /// When the next round is due, after one that began at `begun`. `no_disk`: the round has left
    /// something for want of a disk.
    pub fn next_due(&self, begun: Instant, no_disk: bool) -> Option<Instant> {
        let mut failures = self.failures.lock();
        // An item that was due before the round and was not tried in it has left the queue.
        failures.retain(|_, failure| failure.due > begun);
        let retry = failures.values().map(|failure| failure.due).min();
        let rest = NO_DISK_AFTER.max(self.env.elapsed(begun) * NO_DISK_REST);
        let no_disk = no_disk.then(|| self.env.after(rest));
        retry.into_iter().chain(no_disk).min()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.failures.lock().is_empty()
    }
}
