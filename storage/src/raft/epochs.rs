//! The epochs in use by this process.
//!
//! A read or write begins in the group's current epoch and holds it until it ends. gc raises the
//! group's floor no higher than the oldest epoch held; whatever was born unreferenced or lost its
//! last reference below the floor, nobody can still be reading or about to name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drystone_store::types::Epoch;

/// The current epoch of one group and how many hold each one.
pub struct Epochs {
    state: Arc<Mutex<State>>,
}

struct State {
    current: Epoch,
    held: BTreeMap<Epoch, usize>,
}

impl Epochs {
    /// `current` as the group's state machine has it, after a linearizable read.
    pub fn new(current: Epoch) -> Epochs {
        let state = State {
            current,
            held: BTreeMap::new(),
        };
        Epochs {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Holds the current epoch until the guard is dropped.
    pub fn begin(&self) -> EpochGuard {
        let mut state = lock(&self.state);
        let epoch = state.current;
        *state.held.entry(epoch).or_default() += 1;
        EpochGuard {
            epoch,
            state: self.state.clone(),
        }
    }

    /// What begins from now on holds at least `to`. Called with what the state machine answered.
    pub fn raise(&self, to: Epoch) {
        let mut state = lock(&self.state);
        state.current = state.current.max(to);
    }

    /// How many epochs lie between the current one and the oldest that is held.
    pub fn lag(&self) -> u64 {
        let state = lock(&self.state);
        let oldest = state.held.keys().next().unwrap_or(&state.current);
        state.current.0 - oldest.0
    }

    /// The oldest epoch held, or the current one when none is.
    pub fn oldest(&self) -> Epoch {
        let state = lock(&self.state);
        state.held.keys().next().copied().unwrap_or(state.current)
    }
}

/// Keeps an epoch in use.
pub struct EpochGuard {
    epoch: Epoch,
    state: Arc<Mutex<State>>,
}

impl EpochGuard {
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Drop for EpochGuard {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        let count = state.held.get_mut(&self.epoch).expect("held until here");
        *count -= 1;
        if *count == 0 {
            state.held.remove(&self.epoch);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_oldest_still_held() {
        let epochs = Epochs::new(Epoch(5));
        assert_eq!(epochs.oldest(), Epoch(5));
        let slow = epochs.begin();
        epochs.raise(Epoch(6));
        let fresh = epochs.begin();
        assert_eq!((slow.epoch(), fresh.epoch()), (Epoch(5), Epoch(6)));
        assert_eq!(epochs.oldest(), Epoch(5));
        assert_eq!(epochs.lag(), 1);
        drop(slow);
        assert_eq!(epochs.oldest(), Epoch(6));
        drop(fresh);
        epochs.raise(Epoch(7));
        assert_eq!(epochs.oldest(), Epoch(7));
    }

    #[test]
    fn an_epoch_never_falls() {
        let epochs = Epochs::new(Epoch(5));
        epochs.raise(Epoch(4));
        assert_eq!(epochs.oldest(), Epoch(5));
    }
}
