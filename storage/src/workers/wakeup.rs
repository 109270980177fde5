//! What a worker of upkeep sleeps on.

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Rings when it is woken, also by a call that came before the wait, and at a time.
#[derive(Default)]
pub struct Wakeup(Notify);

impl Wakeup {
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// `due`: `None` if there is nothing to do again but by a wake.
    pub async fn wait(&self, due: Option<Instant>) {
        let later = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.0.notified() => {}
            () = later => {}
        }
    }
}
