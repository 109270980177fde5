//! How workers read the time, wait and start tasks.

use std::time::Duration;

use tokio::task::JoinHandle;

/// A point of the monotonic clock.
pub type Instant = tokio::time::Instant;

/// Returns the present point of the monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Waits for `time` to pass.
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits until `due`.
pub async fn sleep_until(due: Instant) {
    tokio::time::sleep_until(due).await;
}

/// Lets other tasks go first.
pub(super) async fn yield_now() {
    tokio::task::yield_now().await;
}

/// Starts a task.
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}
