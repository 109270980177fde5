//! Removals of shards in the background. They end with the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use drystone_store::env::{Env, Task};
use drystone_store::lock::Mutex;
use drystone_store::types::DiskId;

/// The most lists of shards that one disk removes at once, each with two of its eight threads.
const LISTS_PER_DISK_MAX: usize = 2;
/// How long the end of the store waits for removals in the background.
const END_MAX: Duration = Duration::from_secs(2);

/// The removals in the background.
pub(super) struct Background {
    env: Arc<dyn Env>,
    running: watch::Sender<usize>,
    stopped: watch::Sender<bool>,
    /// The slots for lists on each disk.
    slots: Mutex<HashMap<DiskId, Arc<Semaphore>>>,
}

/// Counts a removal until it is dropped.
struct Running(watch::Sender<usize>);

impl Running {
    fn new(count: &watch::Sender<usize>) -> Running {
        count.send_modify(|count| *count += 1);
        Running(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Background {
    pub(super) fn new(env: Arc<dyn Env>) -> Background {
        Background {
            env,
            running: watch::Sender::new(0),
            stopped: watch::Sender::new(false),
            slots: Default::default(),
        }
    }

    /// Starts a removal that goes on until it ends or is stopped. It need not be waited for.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        removal: impl Future<Output = T> + Send + 'static,
    ) -> Task<Option<T>> {
        let running = Running::new(&self.running);
        let mut stopped = self.stopped.subscribe();
        self.env.spawn(async move {
            let _running = running;
            tokio::select! {
                biased;
                // An error means that the sender is gone, and the store with it.
                _ = stopped.wait_for(|stopped| *stopped) => None,
                ended = removal => Some(ended),
            }
        })
    }

    /// Waits a while for the removals, and then stops those that go on. A disk's list has the
    /// shards that stay, or a row of garbage.
    pub(super) async fn end(&self) {
        let mut running = self.running.subscribe();
        let ended = self
            .env
            .timeout(END_MAX, running.wait_for(|count| *count == 0));
        if ended.await.is_err() {
            tracing::info!("shards that are still being removed are left to gc");
        }
        self.stopped.send_replace(true);
        // The sender is this one's.
        running.wait_for(|count| *count == 0).await.ok();
    }

    /// Returns the slots for lists on a disk.
    pub(super) fn slots(&self, disk: DiskId) -> Arc<Semaphore> {
        let mut slots = self.slots.lock();
        let slots = slots.entry(disk);
        slots
            .or_insert_with(|| Arc::new(Semaphore::new(LISTS_PER_DISK_MAX)))
            .clone()
    }
}
