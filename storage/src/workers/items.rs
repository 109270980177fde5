//! Items that one worker handles at the same time.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use drystone_store::env::{Env, Instant};
use drystone_store::lock::Mutex;
use drystone_store::workers::Wakeup;

/// Items that wait, each until it is handled.
///
/// An item stays while it is in work, so that a worker that panics meets it again.
pub struct Items<T> {
    env: Arc<dyn Env>,
    queue: Mutex<Queue<T>>,
    /// Rung when an item is added.
    pub wakeup: Wakeup,
}

struct Queue<T> {
    items: Vec<Item<T>>,
    next_number: u64,
}

struct Item<T> {
    number: u64,
    content: Arc<T>,
    due: Instant,
    in_work: bool,
}

impl<T> Items<T> {
    pub fn new(env: Arc<dyn Env>) -> Items<T> {
        let queue = Queue {
            items: Vec::new(),
            next_number: 0,
        };
        Items {
            env,
            queue: Mutex::new(queue),
            wakeup: Wakeup::default(),
        }
    }

    pub fn add(&self, content: T) {
        let mut queue = self.queue.lock();
        let number = queue.next_number;
        queue.next_number += 1;
        queue.items.push(Item {
            number,
            content: Arc::new(content),
            due: self.env.instant(),
            in_work: false,
        });
        drop(queue);
        self.wakeup.wake();
    }

    pub fn len(&self) -> usize {
        self.queue.lock().items.len()
    }

    /// Handles all items that are due, side by side, and those that are added meanwhile. `handle`
    /// gives when an item is due again; an item without a time is done. Returns when the next item
    /// is due. Only one call may be in progress.
    pub async fn handle<F>(&self, handle: impl Fn(Arc<T>) -> F) -> Option<Instant>
    where
        F: Future<Output = Option<Instant>>,
    {
        // What was in work when a call ended early is not.
        self.queue
            .lock()
            .items
            .iter_mut()
            .for_each(|item| item.in_work = false);
        let mut in_work = FuturesUnordered::new();
        loop {
            for (number, content) in self.take_due() {
                let handled = handle(content);
                in_work.push(async move { (number, handled.await) });
            }
            let next = self.next_due();
            if in_work.is_empty() {
                return next;
            }
            tokio::select! {
                Some((number, due)) = in_work.next() => self.finish(number, due),
                () = self.wakeup.rung() => {}
                () = until(&*self.env, next) => {}
            }
        }
    }

    fn take_due(&self) -> Vec<(u64, Arc<T>)> {
        let now = self.env.instant();
        let mut queue = self.queue.lock();
        let due = queue.items.iter_mut();
        let due = due.filter(|item| !item.in_work && item.due <= now);
        let taken = due.map(|item| {
            item.in_work = true;
            (item.number, item.content.clone())
        });
        taken.collect()
    }

    /// When the first item is due that is not in work.
    fn next_due(&self) -> Option<Instant> {
        let queue = self.queue.lock();
        let waiting = queue.items.iter().filter(|item| !item.in_work);
        waiting.map(|item| item.due).min()
    }

    fn finish(&self, number: u64, due: Option<Instant>) {
        let items = &mut self.queue.lock().items;
        match due {
            Some(due) => {
                let mut own = items.iter_mut().filter(|item| item.number == number);
                if let Some(item) = own.next() {
                    item.due = due;
                    item.in_work = false;
                }
            }
            None => items.retain(|item| item.number != number),
        }
    }
}

async fn until(env: &dyn Env, due: Option<Instant>) {
    match due {
        Some(due) => env.sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use drystone_store::env::SystemEnv;

    #[tokio::test]
    async fn an_item_that_hangs_holds_up_no_other_and_is_met_again() {
        let items = Arc::new(Items::new(Arc::new(SystemEnv)));
        items.add("hangs");
        items.add("is done");
        let (told, mut met) = mpsc::unbounded_channel();
        let handling = tokio::spawn({
            let (items, told) = (items.clone(), told.clone());
            async move {
                let handle = |item: Arc<&'static str>| {
                    told.send(*item).unwrap();
                    async move {
                        match *item {
                            "hangs" => std::future::pending().await,
                            _ => None,
                        }
                    }
                };
                items.handle(handle).await
            }
        });
        assert_eq!(met.recv().await, Some("hangs"));
        assert_eq!(met.recv().await, Some("is done"));
        items.add("came later");
        assert_eq!(met.recv().await, Some("came later"));
        handling.abort();
        assert!(handling.await.unwrap_err().is_cancelled());
        let due = items.env.after(Duration::from_secs(60));
        let next = items.handle(|item| {
            told.send(*item).unwrap();
            async move { Some(due) }
        });
        assert_eq!(next.await, Some(due));
        assert_eq!(met.recv().await, Some("hangs"));
        assert_eq!(items.len(), 1);
    }
}
