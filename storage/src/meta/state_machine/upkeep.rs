//! A group's own upkeep: epochs and garbage. Each command can be repeated.

use super::{Execution, Reply};
use drystone_store::error::Result;
use drystone_store::types::{Epoch, WriteId};

impl Execution<'_> {
    pub(super) fn raise_epoch(&mut self, to: Epoch) -> Result<Reply> {
        if to > self.epochs.epoch {
            self.epochs.epoch = to;
            self.txn.put(self.keys.epochs(), &self.epochs);
        }
        self.epochs_now()
    }

    /// Removes the answers of epochs below the new floor, as their commands cannot be repeated any
    /// more.
    pub(super) fn raise_floor(&mut self, to: Epoch) -> Result<Reply> {
        if to > self.epochs.floor && to <= self.epochs.epoch {
            self.epochs.floor = to;
            self.txn.put(self.keys.epochs(), &self.epochs);
            self.txn.delete_range(self.keys.answers_below(to));
            self.txn.delete_range(self.keys.finished_below(to));
        }
        self.epochs_now()
    }

    fn epochs_now(&self) -> Result<Reply> {
        Ok(Reply::Epochs {
            epoch: self.epochs.epoch,
            floor: self.epochs.floor,
        })
    }

    pub(super) fn forget_garbage(&mut self, entries: &[(Epoch, WriteId)]) -> Result<Reply> {
        for (epoch, id) in entries {
            self.txn.delete(self.keys.garbage(*epoch, *id));
        }
        Ok(Reply::Done)
    }
}
