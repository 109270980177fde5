#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::env::{Env, SystemEnv};
use crate::measure::Value;

const PAUSE: Duration = Duration::from_millis(5);
/// The number of pauses after which a test stops waiting.
const PAUSES_MAX: u32 = 2000;
const RESTART: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3600);

/// The deed of one step.
enum Turn {
    Panic,
    Fail,
    Again,
    After(Duration),
    /// Never ends by itself.
    Hang,
}

/// A worker that does as it is told, and then only waits to be woken.
#[derive(Default)]
struct Scripted {
    turns: Mutex<VecDeque<Turn>>,
    steps: AtomicU64,
    wakeup: Wakeup,
    pace: Option<Arc<Pace>>,
    is_dropped: Arc<AtomicBool>,
}

impl Scripted {
    fn new(turns: impl IntoIterator<Item = Turn>) -> Arc<Scripted> {
        Arc::new(Scripted {
            turns: Mutex::new(turns.into_iter().collect()),
            ..Scripted::default()
        })
    }

    fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }
}

/// Says when a step that hangs was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Worker for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn step(&self) -> Result<Next, StepError> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        let turn = self.turns.lock().unwrap().pop_front();
        match turn {
            Some(Turn::Panic) => panic!("as the test wants"),
            Some(Turn::Fail) => Err("it did not work".into()),
            Some(Turn::Again) => Ok(Next::Again),
            Some(Turn::After(time)) => Ok(Next::At(env().instant() + time)),
            Some(Turn::Hang) => {
                let _dropped = Dropped(self.is_dropped.clone());
                std::future::pending().await
            }
            None => Ok(Next::WhenWoken),
        }
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    fn pace(&self) -> Option<Arc<Pace>> {
        self.pace.clone()
    }

    fn retry_after(&self) -> Duration {
        HOUR
    }

    fn status(&self) -> Option<String> {
        Some(format!("{} steps", self.steps()))
    }
}

fn env() -> Arc<dyn Env> {
    Arc::new(SystemEnv)
}

fn runner() -> Runner {
    Runner::restarting_after(env(), RESTART)
}

fn status(runner: &Runner) -> WorkerStatus {
    runner.statuses().pop().unwrap()
}

async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..PAUSES_MAX {
        if is_so() {
            return;
        }
        env().sleep(PAUSE).await;
    }
    panic!("it never came to be so");
}

async fn until_state(runner: &Runner, state: WorkerState) -> WorkerStatus {
    until(|| status(runner).state == state).await;
    status(runner)
}

#[tokio::test]
async fn b_56_a_worker_that_panics_is_started_again_after_a_back_off_and_counted() {
    let (runner, begun) = (runner(), env().instant());
    let worker = Scripted::new([Turn::Panic, Turn::Panic, Turn::Again]);
    runner.add(worker.clone());
    until(|| worker.steps() == 4).await;
    let last = until_state(&runner, WorkerState::Idle).await;
    // Once after the back-off, and once after twice as long.
    assert!(env().elapsed(begun) >= 3 * RESTART);
    assert_eq!((last.panics, last.steps, last.failures), (2, 2, 0));
    assert_eq!(worker.steps(), 4);
    assert_eq!(last.last_error.unwrap(), "panicked: as the test wants");
    assert!(last.last_error_ms.is_some() && last.next_ms.is_none());
    let measures = runner.measures().await;
    let panics = measures.iter().find(|m| m.name == "worker_panics_total");
    let panics = panics.unwrap();
    assert_eq!(panics.value, Value::Counter(2));
    assert_eq!(panics.labels, [("worker", "scripted".to_owned())]);
    // A step that ended lets the back-off begin small again.
    worker.turns.lock().unwrap().push_back(Turn::Panic);
    let begun = env().instant();
    assert!(runner.wake("scripted"));
    until(|| worker.steps() == 6).await;
    assert!(env().elapsed(begun) >= RESTART);
    runner.stop().await;
}

#[tokio::test]
async fn nothing_wakes_a_worker_that_panicked_before_its_back_off_is_over() {
    let runner = Runner::restarting_after(env(), HOUR);
    let worker = Scripted::new([Turn::Panic]);
    runner.add(worker.clone());
    let waiting = until_state(&runner, WorkerState::Waiting).await;
    assert!(waiting.next_ms.is_some_and(|at| at > SystemEnv.now().0));
    runner.wake("scripted");
    env().sleep(10 * PAUSE).await;
    assert_eq!(worker.steps(), 1);
    runner.stop().await;
}

#[tokio::test]
async fn a_step_that_fails_is_kept_and_tried_again_when_due_or_woken() {
    let runner = runner();
    let worker = Scripted::new([Turn::Fail, Turn::Fail]);
    runner.add(worker.clone());
    let failed = until_state(&runner, WorkerState::Waiting).await;
    assert_eq!((failed.steps, failed.failures), (1, 1));
    assert_eq!(failed.last_error.unwrap(), "it did not work");
    for step in [2, 3] {
        assert_eq!(worker.steps(), step - 1);
        runner.wake("scripted");
        until(|| worker.steps() == step).await;
    }
    let idle = until_state(&runner, WorkerState::Idle).await;
    assert_eq!((idle.steps, idle.failures, idle.panics), (3, 2, 0));
    assert_eq!(idle.last_error.unwrap(), "it did not work");
    runner.stop().await;
}

#[tokio::test]
async fn a_worker_steps_when_it_is_due_or_woken_and_at_once_if_it_says_so() {
    let runner = runner();
    let worker = Scripted::new([Turn::Again, Turn::After(RESTART), Turn::After(HOUR)]);
    runner.add(worker.clone());
    until(|| worker.steps() == 3).await;
    let waiting = until_state(&runner, WorkerState::Waiting).await;
    assert!(waiting.next_ms.unwrap() > SystemEnv.now().0 + 3_500_000);
    assert_eq!(waiting.status.unwrap(), "3 steps");
    assert!(!runner.wake("another") && runner.wake("scripted"));
    until(|| worker.steps() == 4).await;
    until_state(&runner, WorkerState::Idle).await;
    runner.stop().await;
}

#[tokio::test]
async fn a_paused_worker_does_nothing_until_it_is_resumed() {
    let runner = runner();
    let pace = Arc::new(Pace::new(env(), 0, true));
    let worker = Arc::new(Scripted {
        pace: Some(pace.clone()),
        ..Scripted::default()
    });
    runner.add(worker.clone());
    until_state(&runner, WorkerState::Paused).await;
    env().sleep(10 * PAUSE).await;
    assert_eq!(worker.steps(), 0);
    assert!(!runner.resume("another") && runner.resume("scripted"));
    until(|| worker.steps() == 1).await;
    assert!(!pace.is_paused());
    // Also one that waits.
    until_state(&runner, WorkerState::Idle).await;
    assert!(!runner.pause("another") && runner.pause("scripted"));
    until_state(&runner, WorkerState::Paused).await;
    assert!(pace.is_paused());
    // Nothing wakes it meanwhile.
    runner.wake("scripted");
    env().sleep(10 * PAUSE).await;
    assert_eq!(worker.steps(), 1);
    runner.resume("scripted");
    until(|| worker.steps() >= 2).await;
    until_state(&runner, WorkerState::Idle).await;
    runner.stop().await;
}

#[tokio::test]
async fn stopping_ends_a_worker_in_the_middle_of_its_step() {
    let runner = runner();
    let worker = Scripted::new([Turn::Hang]);
    runner.add(worker.clone());
    until(|| worker.steps() == 1).await;
    assert_eq!(status(&runner).state, WorkerState::Running);
    runner.stop().await;
    assert!(worker.is_dropped.load(Ordering::SeqCst));
    assert_eq!(status(&runner).state, WorkerState::Stopped);
    assert!(runner.wake("scripted"));
    env().sleep(10 * PAUSE).await;
    assert_eq!(worker.steps(), 1);
}

#[tokio::test]
async fn a_runner_that_is_dropped_stops_its_workers() {
    let runner = runner();
    let worker = Scripted::new([Turn::Hang]);
    runner.add(worker.clone());
    until(|| worker.steps() == 1).await;
    drop(runner);
    until(|| worker.is_dropped.load(Ordering::SeqCst)).await;
}

#[tokio::test]
#[should_panic(expected = "two workers are called scripted")]
async fn two_workers_of_one_name_are_refused() {
    let runner = runner();
    runner.add(Scripted::new([]));
    runner.add(Scripted::new([]));
}
