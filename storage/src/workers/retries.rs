//! When a round of heal comes after the one before, and what it leaves out: what failed is tried
//! again after a while, then after twice as long, and so on.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::wakeup::Wakeup;

/// What failed is tried again after this, then after twice as long, and so on.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// What finds no disk is tried again after this, as one may be passed over only for a while, or
/// come to have room; and after so many times as long as all of the queue took.
const NO_DISK_AFTER: Duration = Duration::from_secs(60);
const NO_DISK_REST: u32 = 20;
/// Failures that are remembered; past it a thing is tried in every round.
const FAILURES_LEN_MAX: usize = 100_000;

struct Failure<O> {
    after: Duration,
    due: Instant,
    outcome: O,
}

/// What failed, by what it is.
pub struct Retries<K, O>(Mutex<HashMap<K, Failure<O>>>);

impl<K, O> Default for Retries<K, O> {
    fn default() -> Self {
        Retries(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, O: Copy> Retries<K, O> {
    /// All is tried at once.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub fn forget(&self, what: &K) {
        self.lock().remove(what);
    }

    pub fn failed(&self, what: K, outcome: O) {
        let mut failures = self.lock();
        let before = failures.get(&what).map(|failure| failure.after);
        let after = before.map_or(RETRY_AFTER, |after| (2 * after).min(RETRY_AFTER_MAX));
        let failure = Failure {
            after,
            due: Instant::now() + after,
            outcome,
        };
        if failures.len() < FAILURES_LEN_MAX || before.is_some() {
            failures.insert(what, failure);
        }
    }

    /// What came of it last, while it is too early to try again.
    pub fn not_yet_due(&self, what: &K) -> Option<O> {
        let failures = self.lock();
        let failure = failures.get(what)?;
        (failure.due > Instant::now()).then_some(failure.outcome)
    }

    /// When the next round is due, after one that began at `begun`; `no_disk`: for want of a disk
    /// it has left something.
    pub fn next_due(&self, begun: Instant, no_disk: bool) -> Option<Instant> {
        let mut failures = self.lock();
        // Due before the round and not tried in it: it has left the queue.
        failures.retain(|_, failure| failure.due > begun);
        let retry = failures.values().map(|failure| failure.due).min();
        let rest = NO_DISK_AFTER.max(begun.elapsed() * NO_DISK_REST);
        let no_disk = no_disk.then(|| Instant::now() + rest);
        retry.into_iter().chain(no_disk).min()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Failure<O>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between a round that began at `begun` and the next: until it is due, or woken.
pub async fn rest(begun: Instant, due: Option<Instant>, wakeup: &Wakeup) {
    // A long queue that can only wait is not gone through without a rest.
    sleep(begun.elapsed()).await;
    wakeup.wait(due).await;
}
