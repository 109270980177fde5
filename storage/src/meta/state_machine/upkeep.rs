//! A group's own upkeep: epochs and garbage. Each command can be repeated.

use super::{Execution, Reply, RowReads};
use crate::meta::keys;
use drystone_store::error::Result;
use drystone_store::types::{Epoch, Timestamp, WriteId};

impl Execution<'_> {
    pub(super) fn raise_epoch(&mut self, to: Epoch) -> Result<Reply> {
        if to > self.epochs.epoch {
            self.epochs.epoch = to;
            self.txn.put(self.keys.epochs(), &self.epochs);
        }
        self.epochs_now()
    }

    pub(super) fn raise_floor(&mut self, to: Epoch) -> Result<Reply> {
        if to > self.epochs.floor && to <= self.epochs.epoch {
            self.epochs.floor = to;
            self.txn.put(self.keys.epochs(), &self.epochs);
        }
        self.epochs_now()
    }

    /// Drops the answers whose commands cannot be repeated any more, and the outcomes of uploads
    /// that no client asks for any more.
    pub(super) fn drop_answers(
        &mut self,
        issued_below: Epoch,
        finished_ms: u64,
        max: usize,
    ) -> Result<Reply> {
        let kept = i64::try_from(finished_ms).unwrap_or(i64::MAX);
        let before = Timestamp(self.time.0.saturating_sub(kept));
        let rows = self.txn.scan(&self.keys.finished_before(before), max)?;
        for (key, _) in &rows {
            let upload = keys::parse_finished_time(key)?;
            self.txn.delete(self.keys.finished(upload));
            self.txn.delete(key.clone());
        }
        if issued_below > self.epochs.answers && issued_below <= self.epochs.epoch {
            self.epochs.answers = issued_below;
            self.txn.put(self.keys.epochs(), &self.epochs);
            self.txn.delete_range(self.keys.answers_below(issued_below));
        }
        let more = rows.len() == max;
        Ok(Reply::Dropped { more })
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
