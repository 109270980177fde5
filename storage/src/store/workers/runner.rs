//! Runs workers: each in a task of its own, one step after the other.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{AbortHandle, Aborted, abortable, join_all};

use super::{Next, Pace, Worker, WorkerState, WorkerStatus};
use crate::env::{Env, Instant, Task};
use crate::lock::Mutex;
use crate::measure::Measure;

/// A worker that panics starts again after this, then after twice as long, and so on.
const RESTART_AFTER: Duration = Duration::from_secs(5);
const RESTART_AFTER_MAX: Duration = Duration::from_secs(600);

/// The workers of a process. They are stopped when this is dropped.
pub struct Runner {
    env: Arc<dyn Env>,
    restart_after: Duration,
    crew: Mutex<Crew>,
}

#[derive(Default)]
struct Crew {
    /// In the order in which they were added.
    slots: Vec<Arc<Slot>>,
    tasks: Vec<(AbortHandle, Task<Result<(), Aborted>>)>,
    is_stopped: bool,
}

impl Runner {
    pub fn new(env: Arc<dyn Env>) -> Runner {
        Runner::restarting_after(env, RESTART_AFTER)
    }

    /// With another back-off after panics.
    pub(super) fn restarting_after(env: Arc<dyn Env>, restart_after: Duration) -> Runner {
        Runner {
            env,
            restart_after,
            crew: Mutex::default(),
        }
    }

    /// Begins to run a worker, until this is stopped. A worker that comes later is not run.
    ///
    /// # Panics
    ///
    /// If there is a worker of this name.
    pub fn add(&self, worker: Arc<dyn Worker>) {
        let name = worker.name();
        let pace = worker.pace();
        let slot = Arc::new(Slot {
            worker,
            env: self.env.clone(),
            restart_after: self.restart_after,
            pace: pace.unwrap_or_else(|| Arc::new(Pace::new(self.env.clone(), 0, false))),
            record: Mutex::default(),
        });
        let mut crew = self.crew.lock();
        let is_new = crew.slots.iter().all(|other| other.worker.name() != name);
        assert!(is_new, "two workers are called {name}");
        if !crew.is_stopped {
            let running = slot.clone();
            let (task, abort) = abortable(async move { running.run().await });
            crew.tasks.push((abort, self.env.spawn(task)));
        }
        crew.slots.push(slot);
    }

    /// The states of all workers, in the order in which they were added.
    pub fn statuses(&self) -> Vec<WorkerStatus> {
        let is_stopped = self.crew.lock().is_stopped;
        let statuses = self.slots().into_iter().map(|slot| slot.status(is_stopped));
        statuses.collect()
    }

    /// The metrics that are kept of each worker, and those that the workers give.
    pub async fn measures(&self) -> Vec<Measure> {
        let slots = self.slots();
        let mut measures = Vec::new();
        for slot in &slots {
            let Record {
                steps,
                failures,
                panics,
                ..
            } = *slot.record.lock();
            for (name, help, count) in [
                ("worker_steps_total", "Steps of a worker that ended.", steps),
                (
                    "worker_failures_total",
                    "Steps of a worker that failed.",
                    failures,
                ),
                (
                    "worker_panics_total",
                    "Panics of a worker, after each of which it was started again.",
                    panics,
                ),
            ] {
                let measure = Measure::counter(name, help, count);
                measures.push(measure.label("worker", slot.worker.name()));
            }
        }
        let own = join_all(slots.iter().map(|slot| slot.worker.measures())).await;
        measures.extend(own.into_iter().flatten());
        measures
    }

    /// Has a worker begin a step now. Returns false if there is none of this name.
    pub fn wake(&self, name: &str) -> bool {
        let slot = self.slot(name);
        slot.map(|slot| slot.worker.wakeup().wake()).is_some()
    }

    /// Lets a worker and those that share its pace do nothing until they are resumed. A step that
    /// is in progress ends at its next look at its pace, or as it would. Returns false if there is
    /// no worker of this name.
    pub fn pause(&self, name: &str) -> bool {
        let slot = self.slot(name);
        slot.map(|slot| slot.pace.set_paused(true)).is_some()
    }

    /// Lets a worker that was paused begin a step now. Returns false if there is none of this name.
    pub fn resume(&self, name: &str) -> bool {
        let slot = self.slot(name);
        slot.map(|slot| slot.pace.set_paused(false)).is_some()
    }

    /// Ends all workers at once, wherever they are. Returns when they have released what they used.
    pub async fn stop(&self) {
        let tasks = {
            let mut crew = self.crew.lock();
            crew.is_stopped = true;
            std::mem::take(&mut crew.tasks)
        };
        tasks.iter().for_each(|(abort, _)| abort.abort());
        join_all(tasks.into_iter().map(|(_, task)| task)).await;
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.crew.lock().slots.clone()
    }

    fn slot(&self, name: &str) -> Option<Arc<Slot>> {
        let slots = self.slots();
        slots.into_iter().find(|slot| slot.worker.name() == name)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let crew = self.crew.lock();
        crew.tasks.iter().for_each(|(abort, _)| abort.abort());
    }
}

/// A worker in its runner.
struct Slot {
    worker: Arc<dyn Worker>,
    env: Arc<dyn Env>,
    restart_after: Duration,
    pace: Arc<Pace>,
    record: Mutex<Record>,
}

/// The history of a worker.
#[derive(Default)]
struct Record {
    state: State,
    steps: u64,
    failures: u64,
    panics: u64,
    /// Panics since the last step that ended.
    panics_in_row: u32,
    /// The last one, and when it was, in milliseconds since 1970.
    error: Option<(String, i64)>,
    /// The last step failed.
    is_failing: bool,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Idle,
    Running,
    Waiting(Instant),
    Paused,
}

impl Slot {
    async fn run(&self) {
        let mut next = self.worker.first();
        let mut rested = self.env.instant();
        loop {
            let turn = async {
                self.wait(next, rested).await;
                self.enter(State::Running);
                let begun = self.env.instant();
                let next = self.step().await;
                (
                    next,
                    self.env.after(self.worker.rest(self.env.elapsed(begun))),
                )
            };
            (next, rested) = match AssertUnwindSafe(turn).catch_unwind().await {
                Ok(turn) => turn,
                // What wakes it meanwhile is found by the step that follows.
                Err(panic) => (Next::Again, self.env.after(self.panicked(panic.as_ref()))),
            };
        }
    }

    /// Waits until `rested`, and then until a step is due or the worker is woken; while it is
    /// paused, until it is resumed.
    async fn wait(&self, next: Next, rested: Instant) {
        if rested > self.env.instant() {
            self.enter(State::Waiting(rested));
            self.env.sleep_until(rested).await;
        }
        loop {
            if self.pace.is_paused() {
                self.enter(State::Paused);
                self.pace.resumed().await;
                return;
            }
            let due = match next {
                Next::Again => return tokio::task::yield_now().await,
                Next::At(due) => Some(due),
                Next::WhenWoken => None,
            };
            self.enter(due.map_or(State::Idle, State::Waiting));
            let is_due = async {
                match due {
                    Some(due) => self.env.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = is_due => return,
                () = self.worker.woken() => return,
                () = self.pace.paused() => {}
            }
        }
    }

    /// Gives when the next one is due.
    async fn step(&self) -> Next {
        let result = self.worker.step().await;
        let worker = self.worker.name();
        let now = self.env.now();
        let mut record = self.record.lock();
        record.steps += 1;
        record.panics_in_row = 0;
        let error = match result {
            Ok(next) => {
                record.is_failing = false;
                return next;
            }
            Err(error) => error.to_string(),
        };
        record.failures += 1;
        // The same failure again is news to nobody.
        let last = record.error.as_ref().map(|(last, _)| last);
        let is_news = !record.is_failing || last != Some(&error);
        if is_news {
            tracing::warn!(worker, error, "a step of a worker failed");
        } else {
            tracing::debug!(worker, error, "a step of a worker failed again");
        }
        record.error = Some((error, now.0));
        record.is_failing = true;
        Next::At(self.env.after(self.worker.retry_after()))
    }

    /// Gives how long the worker waits before it starts again.
    fn panicked(&self, panic: &(dyn Any + Send)) -> Duration {
        let worker = self.worker.name();
        let error = format!("panicked: {}", message(panic));
        let mut record = self.record.lock();
        let doublings = record.panics_in_row.min(16);
        let pause = (self.restart_after * (1 << doublings)).min(RESTART_AFTER_MAX);
        tracing::error!(
            worker,
            error,
            ?pause,
            "a worker panicked and will be started again"
        );
        record.panics += 1;
        record.panics_in_row += 1;
        record.error = Some((error, self.env.now().0));
        record.is_failing = true;
        pause
    }

    fn enter(&self, state: State) {
        self.record.lock().state = state;
    }

    fn status(&self, is_stopped: bool) -> WorkerStatus {
        let record = self.record.lock();
        let mut due = None;
        let state = match record.state {
            _ if is_stopped => WorkerState::Stopped,
            State::Idle => WorkerState::Idle,
            State::Running => WorkerState::Running,
            State::Paused => WorkerState::Paused,
            State::Waiting(at) => {
                due = Some(at);
                WorkerState::Waiting
            }
        };
        let in_ms = |due: Instant| {
            let left = due.saturating_duration_since(self.env.instant());
            let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
            self.env.now().0.saturating_add(left)
        };
        WorkerStatus {
            name: self.worker.name(),
            state,
            status: self.worker.status(),
            steps: record.steps,
            failures: record.failures,
            panics: record.panics,
            last_error: record.error.as_ref().map(|(error, _)| error.clone()),
            last_error_ms: record.error.as_ref().map(|(_, at)| *at),
            next_ms: due.map(in_ms),
        }
    }
}

/// The text that a panic was given.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}
