//! A bell that a worker sleeps on.

use tokio::sync::Notify;

/// Wakes one sleeper, also by a ring that came before it slept.
#[derive(Debug, Default)]
pub struct Wakeup(Notify);

impl Wakeup {
    /// Wakes the sleeper, or the next one if nobody sleeps.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for a ring since the last one that was waited for.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}
