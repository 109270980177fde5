//! A bounded pool of threads for one disk's I/O: no system call on a disk ever runs on an async
//! worker, and a disk that hangs delays only those who need that disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use drystone_store::env::{Env, Operations};
use drystone_store::lock::{Condvar, Mutex};

/// The number of threads of one disk, and so of its concurrent system calls.
const THREADS: usize = 8;
/// Jobs of one disk that wait or run; beyond it callers wait for a place.
const QUEUE_LEN_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

pub struct Pool {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    /// True once nobody waits for a job any more.
    abandoned: watch::Sender<bool>,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    /// The jobs that run are among these.
    operations: Arc<Operations>,
    #[cfg(test)]
    gate: Mutex<Option<Arc<crate::db::testing::Gate>>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Job, OwnedSemaphorePermit)>,
    closed: bool,
}

impl Pool {
    pub fn new(env: &dyn Env, operations: Arc<Operations>) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            ready: Condvar::new(),
            operations,
            #[cfg(test)]
            gate: Mutex::default(),
        });
        let pool = Pool {
            shared: shared.clone(),
            places: Arc::new(Semaphore::new(QUEUE_LEN_MAX)),
            abandoned: watch::Sender::new(false),
        };
        for _ in 0..THREADS {
            let shared = shared.clone();
            env.start_thread("disk", Box::new(move || shared.work()))?;
        }
        Ok(pool)
    }

    /// Runs a job on one of the disk's threads. It runs to its end even if the caller is dropped.
    /// Fails when the pool is abandoned; the job may still run then.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<T> {
        let mut abandoned = self.abandoned.subscribe();
        tokio::select! {
            biased;
            _ = abandoned.wait_for(|abandoned| *abandoned) => {
                Err(std::io::Error::other("the disk does not answer"))
            }
            ended = self.run_to_end(job) => ended,
        }
    }

    /// Has every job wait at a gate first.
    #[cfg(test)]
    pub fn set_gate(&self, gate: Arc<crate::db::testing::Gate>) {
        *self.shared.gate.lock() = Some(gate);
    }

    /// Lets everybody go who waits for a job, now and from now on.
    pub fn abandon(&self) {
        self.abandoned.send_replace(true);
    }

    async fn run_to_end<T: Send + 'static>(
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
    #[cfg(test)]
    fn pass_gate(&self) {
        let gate = self.gate.lock().clone();
        gate.iter().for_each(|gate| gate.pass());
    }

    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some((job, permit)) = queue.jobs.pop_front() {
                drop(queue);
                let operation = self.operations.begin();
                #[cfg(test)]
                self.pass_gate();
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("disk job panicked");
                }
                drop((operation, permit));
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
    use crate::db::testing::Gate;
    use drystone_store::env::SystemEnv;

    #[tokio::test]
    async fn a_full_queue_holds_callers_back_and_a_panic_costs_one_job() {
        let pool = Pool::new(&SystemEnv, Arc::default()).unwrap();
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

    #[tokio::test]
    async fn b_52_an_abandoned_pool_holds_nobody() {
        let operations = Arc::new(Operations::default());
        let pool = Pool::new(&SystemEnv, operations.clone()).unwrap();
        let gate = Arc::new(Gate::default());
        gate.set_shut(true);
        let hangs = {
            let gate = gate.clone();
            pool.run(move || gate.pass())
        };
        let abandoned = async {
            while operations.oldest().is_none() {
                tokio::task::yield_now().await;
            }
            pool.abandon();
        };
        let (answer, ()) = tokio::join!(hangs, abandoned);
        assert!(answer.is_err());
        assert!(operations.oldest().is_some(), "the job still runs");
        assert!(pool.run(|| 7).await.is_err());
        gate.set_shut(false);
    }
}
