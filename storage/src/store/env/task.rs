//! Functions derived from an environment's clock, tasks and threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;

use super::{Env, Instant, Job};

/// Stands for a time that is too far to compute.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// A deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline has elapsed")]
pub struct Elapsed;

/// Reason that a task or work gave no result.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("a task panicked")]
    Panicked(Box<dyn Any + Send>),
    /// The runtime ended before it.
    #[error("a task was dropped")]
    Dropped,
}

/// A task or work under way. Dropped, it goes on by itself.
#[derive(Debug)]
pub struct Task<T>(oneshot::Receiver<Result<T, TaskError>>);

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = self.0.poll_unpin(cx);
        ended.map(|ended| ended.unwrap_or(Err(TaskError::Dropped)))
    }
}

pin_project! {
    /// A future with a deadline.
    pub struct Timeout<'a, F> {
        #[pin]
        future: F,
        env: &'a dyn Env,
        due: Instant,
        // Only what does not answer at once costs a timer.
        late: Option<BoxFuture<'static, ()>>,
    }
}

impl<F: Future> Future for Timeout<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let late = this
            .late
            .get_or_insert_with(|| this.env.sleep_until(*this.due));
        late.poll_unpin(cx).map(|()| Err(Elapsed))
    }
}

/// Comes due again and again.
pub struct Interval {
    env: Arc<dyn Env>,
    period: Duration,
    due: Instant,
}

impl Interval {
    /// Waits until it is due, the first time not at all. After a late one the next still comes a
    /// whole period later. A dropped call loses nothing.
    pub async fn tick(&mut self) {
        self.env.sleep_until(self.due).await;
        self.due = later(self.env.instant(), self.period);
    }
}

impl dyn Env + '_ {
    /// Returns how long ago `since` was.
    pub fn elapsed(&self, since: Instant) -> Duration {
        self.instant().saturating_duration_since(since)
    }

    /// Returns the time after `pause`.
    pub fn after(&self, pause: Duration) -> Instant {
        later(self.instant(), pause)
    }

    /// Waits for `pause`.
    pub fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.after(pause))
    }

    /// Gives up on `future` after `limit`. A future that is ready in time wins.
    pub fn timeout<F: Future>(&self, limit: Duration, future: F) -> Timeout<'_, F> {
        Timeout {
            future,
            env: self,
            due: self.after(limit),
            late: None,
        }
    }

    /// Starts a task. It need not be waited for.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        let (done, ended) = oneshot::channel();
        self.start_task(Box::pin(async move {
            let result = AssertUnwindSafe(task).catch_unwind().await;
            // Nobody need wait for it.
            done.send(result.map_err(TaskError::Panicked)).ok();
        }));
        Task(ended)
    }

    /// Starts work that may block. It need not be waited for.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Task<T> {
        let (done, ended) = oneshot::channel();
        self.start_work(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            done.send(result.map_err(TaskError::Panicked)).ok();
        }));
        Task(ended)
    }

    /// Runs jobs side by side, and returns their results in order. Panics if one of them does.
    /// Blocks.
    pub fn run_side_by_side<T: Send, J: FnOnce() -> T + Send>(&self, jobs: Vec<J>) -> Vec<T> {
        let mut results: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
        let places = jobs.into_iter().zip(&mut results);
        let jobs =
            places.map(|(job, result)| -> Job<'_> { Box::new(move || *result = Some(job())) });
        self.run_jobs(jobs.collect());
        let ended = |result: Option<T>| result.expect("a job that has ended has a result");
        results.into_iter().map(ended).collect()
    }
}

impl dyn Env {
    /// Returns an interval that is due at once, and then after each `period`.
    pub fn interval(self: &Arc<Self>, period: Duration) -> Interval {
        Interval {
            env: self.clone(),
            period,
            due: self.instant(),
        }
    }
}

fn later(from: Instant, pause: Duration) -> Instant {
    from.checked_add(pause).unwrap_or_else(|| from + FAR)
}
