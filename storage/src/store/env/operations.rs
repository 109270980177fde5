//! Operations in progress, so that one that hangs can be found from outside.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::lock::Mutex;

/// The operations in progress on one thing that may hang, as a disk.
///
/// It keeps no times: whoever looks twice and finds the same oldest operation knows that it took at
/// least as long as the two looks are apart, however long the process itself was stopped.
#[derive(Debug, Default)]
pub struct Operations(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    next: u64,
    open: BTreeSet<u64>,
}

/// An operation in progress. It ends when this is dropped.
#[derive(Debug)]
pub struct Operation {
    of: Arc<Operations>,
    number: u64,
}

impl Operations {
    pub fn begin(self: &Arc<Self>) -> Operation {
        let mut begun = self.0.lock();
        let number = begun.next;
        begun.next += 1;
        begun.open.insert(number);
        drop(begun);
        Operation {
            of: self.clone(),
            number,
        }
    }

    /// Returns the number of the oldest operation in progress. No other one ever has it.
    pub fn oldest(&self) -> Option<u64> {
        self.0.lock().open.first().copied()
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.of.0.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_first_that_has_not_ended() {
        let operations = Arc::new(Operations::default());
        assert_eq!(operations.oldest(), None);
        let (first, second) = (operations.begin(), operations.begin());
        assert_eq!(operations.oldest(), Some(0));
        drop(first);
        let _third = operations.begin();
        assert_eq!(operations.oldest(), Some(1));
        drop(second);
        assert_eq!(operations.oldest(), Some(2));
    }
}
