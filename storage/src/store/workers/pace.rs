//! How fast background work may go: bytes a second, and not at all while it is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::env::{Env, Instant};
use crate::lock::Mutex;

/// Work that is paused gives up what it holds, and begins it again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("paused")]
pub struct Pause;

/// The speed of background work.
pub struct Pace {
    env: Arc<dyn Env>,
    /// Bytes a second; 0 is no limit.
    rate: AtomicU64,
    /// When the bytes taken so far are used up.
    free_at: Mutex<Instant>,
    paused: watch::Sender<bool>,
}

impl Pace {
    pub fn new(env: Arc<dyn Env>, rate: u64, paused: bool) -> Pace {
        Pace {
            rate: AtomicU64::new(rate),
            free_at: Mutex::new(env.instant()),
            paused: watch::Sender::new(paused),
            env,
        }
    }

    pub fn set(&self, rate: u64, paused: bool) {
        self.rate.store(rate, Ordering::Relaxed);
        self.set_paused(paused);
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    pub fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Waits until `bytes` more may be read or written.
    pub async fn take(&self, bytes: u64) -> Result<(), Pause> {
        let mut paused = self.paused.subscribe();
        if *paused.borrow_and_update() {
            return Err(Pause);
        }
        let rate = self.rate.load(Ordering::Relaxed);
        let start = {
            let mut free_at = self.free_at.lock();
            let start = self.env.instant().max(*free_at);
            // A rate that changes later does not undo this: one piece is small.
            let cost = bytes
                .saturating_mul(1_000_000)
                .checked_div(rate)
                .unwrap_or(0);
            *free_at = start + Duration::from_micros(cost);
            start
        };
        tokio::select! {
            () = self.env.sleep_until(start) => Ok(()),
            _ = paused.wait_for(|paused| *paused) => Err(Pause),
        }
    }

    /// Waits until it is not paused.
    pub async fn resumed(&self) {
        self.until(false).await;
    }

    /// Waits until it is paused.
    pub async fn paused(&self) {
        self.until(true).await;
    }

    async fn until(&self, paused: bool) {
        let mut changes = self.paused.subscribe();
        // An error means that the sender is gone, which is this.
        drop(changes.wait_for(|now| *now == paused).await);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::env::SystemEnv;

    #[tokio::test]
    async fn bytes_wait_for_their_turn_and_a_pause_ends_the_waiting() {
        // The second piece is due in a day.
        let pace = Arc::new(Pace::new(Arc::new(SystemEnv), 1, false));
        pace.take(86_400).await.unwrap();
        let waiting = tokio::spawn({
            let pace = pace.clone();
            async move { pace.take(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        pace.set(1, true);
        assert_eq!(waiting.await.unwrap(), Err(Pause));
        assert_eq!(pace.take(1).await, Err(Pause));
        let resumed = tokio::spawn({
            let pace = pace.clone();
            async move { pace.resumed().await }
        });
        Pace::set(&pace, 0, false);
        resumed.await.unwrap();
        assert!(!pace.is_paused());
    }
}
