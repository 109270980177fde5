//! Workers: the work that a store and its features do beside requests.
//!
//! A [`Worker`] works in steps and says when it wants the next one. A [`Runner`] runs each worker
//! in a task of its own: it waits for what makes a step due, pauses, catches panics and starts
//! again after a back-off, counts, and stops. What a worker works on is the worker's; nothing here
//! knows disks, groups or requests.

mod pace;
mod runner;
mod status;
#[cfg(test)]
mod tests;
mod wakeup;
mod worker;

pub use self::pace::{Pace, Pause};
pub use self::runner::Runner;
pub use self::status::{WorkerState, WorkerStatus};
pub use self::wakeup::Wakeup;
pub use self::worker::{Next, RETRY_AFTER, StepError, Worker};
