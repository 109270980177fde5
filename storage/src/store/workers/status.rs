//! The state of a worker, for those who list them.

use serde::Serialize;

/// How a worker is, and what became of its steps since the process began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    pub name: &'static str,
    pub state: WorkerState,
    /// A few words about what the worker is doing or has left undone.
    pub status: Option<String>,
    /// Steps that ended, also those that failed.
    pub steps: u64,
    /// Steps that failed.
    pub failures: u64,
    /// Panics. The worker was started again after each.
    pub panics: u64,
    /// The last failure or panic, also if later steps went well.
    pub last_error: Option<String>,
    /// Milliseconds since 1970, UTC: when it happened.
    pub last_error_ms: Option<i64>,
    /// Milliseconds since 1970, UTC: when the next step is due, while the worker waits for it.
    pub next_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// In a step.
    Running,
    /// Nothing to do until it is woken.
    Idle,
    /// Its next step is due at a known time.
    Waiting,
    /// It does nothing until it is resumed.
    Paused,
    /// It does nothing any more, as the store is closing.
    Stopped,
}
