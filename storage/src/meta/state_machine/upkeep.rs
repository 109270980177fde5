//! What a group does for itself: epochs, garbage, the heal queue. Each can be done again.

use super::{Reply, Rows, Step};
use crate::error::Result;
use crate::meta::command::HealEntry;
use crate::meta::record::{DataKind, HealRow};
use crate::types::{Epoch, WriteId};

impl Step<'_> {
    pub(super) fn raise_epoch(&mut self, to: Epoch) -> Result<Reply> {
        if to > self.epochs.epoch {
            self.epochs.epoch = to;
            self.txn.put(self.keys.epochs(), &self.epochs);
        }
        self.epochs_now()
    }

    /// Nobody can repeat a command of an epoch below the floor, so what was answered is forgotten.
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

    /// Only shards that a data row still names are healed.
    pub(super) fn queue_heal(&mut self, entries: &[HealEntry]) -> Result<Reply> {
        for entry in entries {
            let Some(row) = self.txn.data_row(entry.write_id)? else {
                continue;
            };
            let named = match &row.kind {
                DataKind::Shards(shards) => usize::from(entry.rank) < shards.shards.len(),
                DataKind::Inline | DataKind::Parts { .. } => false,
            };
            if named {
                let key = self.keys.heal(entry.write_id, entry.rank);
                self.txn.put(key, &HealRow { bucket: row.bucket });
            }
        }
        Ok(Reply::Done)
    }
}
