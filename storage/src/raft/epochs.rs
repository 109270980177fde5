//! The epochs in use by this process.
//!
//! A read or write begins in the group's current epoch and holds it until it ends. gc raises the
//! group's floor no higher than the oldest epoch held. So if shards were written, or lost their
//! last reference, below the floor, nobody can still be reading them or be about to name them.

use std::collections::BTreeMap;
use std::sync::Arc;

use drystone_store::lock::Mutex;
use drystone_store::types::Epoch;

/// The current epoch of one group and the number of holders of each epoch.
pub struct Epochs {
    state: Arc<Mutex<HeldEpochs>>,
}

struct HeldEpochs {
    current: Epoch,
    held: BTreeMap<Epoch, usize>,
}

impl Epochs {
    /// `current` must be the epoch of the group's state machine, from a linearizable read.
    pub fn new(current: Epoch) -> Epochs {
        let state = HeldEpochs {
            current,
            held: BTreeMap::new(),
        };
        Epochs {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Holds the current epoch until the guard is dropped.
    pub fn begin(&self) -> EpochGuard {
        let mut state = self.state.lock();
        let epoch = state.current;
        *state.held.entry(epoch).or_default() += 1;
        EpochGuard {
            epoch,
            state: self.state.clone(),
        }
    }

    /// Returns the epoch in which an operation would begin now.
    pub fn current(&self) -> Epoch {
        self.state.lock().current
    }

    /// Makes later operations hold at least `to`, which must come from the state machine's answer.
    pub fn raise(&self, to: Epoch) {
        let mut state = self.state.lock();
        state.current = state.current.max(to);
    }

    /// Returns the number of epochs between the oldest one held and the current one.
    pub fn lag(&self) -> u64 {
        let state = self.state.lock();
        let oldest = state.held.keys().next().unwrap_or(&state.current);
        state.current.0 - oldest.0
    }

    /// Returns the oldest epoch held, or the current one if none is held.
    pub fn oldest(&self) -> Epoch {
        let state = self.state.lock();
        state.held.keys().next().copied().unwrap_or(state.current)
    }
}

/// Keeps an epoch in use.
pub struct EpochGuard {
    epoch: Epoch,
    state: Arc<Mutex<HeldEpochs>>,
}

impl EpochGuard {
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Drop for EpochGuard {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        let count = state.held.get_mut(&self.epoch).expect("held until here");
        *count -= 1;
        if *count == 0 {
            state.held.remove(&self.epoch);
        }
    }
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
