//! A bounded pool of threads for one disk's I/O: no system call on a disk ever runs on an async
//! worker, and a disk that hangs delays only those who need that disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use drystone_store::env::Env;
use drystone_store::lock::{Condvar, Mutex};

/// The number of threads of one disk, and so of its concurrent system calls.
const THREADS: usize = 8;
/// Jobs of one disk that wait or run; beyond it callers wait for a place.
const QUEUE_LEN_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

pub struct Pool {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Job, OwnedSemaphorePermit)>,
    closed: bool,
}

impl Pool {
    pub fn new(env: &dyn Env) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared::default());
        let pool = Pool {
            shared: shared.clone(),
            places: Arc::new(Semaphore::new(QUEUE_LEN_MAX)),
        };
        for _ in 0..THREADS {
            let shared = shared.clone();
            env.start_thread("disk", Box::new(move || shared.work()))?;
        }
        Ok(pool)
    }

    /// Runs a job on one of the disk's threads. It runs to its end even if the caller is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<T> {
        let permit = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(std::io::Error::other)?;
        let (done, answer) = oneshot::channel();
        self.push(Box::new(move || drop(done.send(job()))), permit);
        answer
            .await
            .map_err(|_| std::io::Error::other("disk job did not end"))
    }

    /// Starts a job nobody waits for; returns false when the queue is full.
    pub fn try_start(&self, job: impl FnOnce() + Send + 'static) -> bool {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => {
                self.push(Box::new(job), permit);
                true
            }
            Err(_) => false,
        }
    }

    fn push(&self, job: Job, permit: OwnedSemaphorePermit) {
        self.shared.queue.lock().jobs.push_back((job, permit));
        self.shared.ready.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The threads finish the queued jobs and end; nobody waits for a thread that hangs.
        self.shared.queue.lock().closed = true;
        self.shared.ready.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some((job, permit)) = queue.jobs.pop_front() {
                drop(queue);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("disk job panicked");
                }
                drop(permit);
                queue = self.queue.lock();
            } else if queue.closed {
                return;
            } else {
                queue = self.ready.wait(queue);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use drystone_store::env::SystemEnv;

    #[tokio::test]
    async fn a_full_queue_holds_callers_back_and_a_panic_costs_one_job() {
        let pool = Pool::new(&SystemEnv).unwrap();
        let gate = Arc::new(Mutex::new(()));
        let held = gate.lock();
        let mut started = 0;
        while pool.try_start({
            let gate = gate.clone();
            move || drop(gate.lock())
        }) {
            started += 1;
        }
        assert_eq!(started, QUEUE_LEN_MAX);
        drop(held);
        assert!(pool.run(|| panic!("as a test")).await.is_err());
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
    }
}
