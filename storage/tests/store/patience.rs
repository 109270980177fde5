//! Waiting for a store to reach a state.

use std::time::{Duration, Instant};

/// A state that is not reached within this time is never reached.
pub const PATIENCE: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(20);

#[track_caller]
pub fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "it never came to be so");
        std::thread::sleep(PAUSE);
    }
}
