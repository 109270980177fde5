//! Applies commands: deterministically, one batch each.
//!
//! A [`State`] is the tables of one replica in one disk's RocksDB. It decides each committed
//! command from its own rows and the command alone: no clock, no randomness, no other I/O. So every
//! replica comes to the same rows and the same answer.
//!
//! A repeated command gets the same answer as the first time, until the floor passes its epoch. A
//! refused command changes nothing. An error concerns this replica alone (its disk failed, or a row
//! is not what this program wrote): the replica must not go on, because it would differ from the
//! others. They answer instead.

mod buckets;
mod data;
mod disks;
mod heal;
mod quota;
#[cfg(test)]
mod tests;
mod upkeep;
mod uploads;
mod versions;

use std::sync::Arc;

use super::command::{Change, Command, Outcome, Reply};
use super::keys::Keys;
use super::record::{AnswerRow, EpochsRow};
use super::txn::{RowReads, Txn};
use super::view::View;
use crate::db::{Db, StateId};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::types::{Epoch, Order, Timestamp};

/// The tables of one replica.
#[derive(Clone)]
pub struct State {
    db: Arc<Db>,
    keys: Keys,
}

impl State {
    pub fn new(db: Arc<Db>, id: StateId) -> State {
        State { db, keys: Keys(id) }
    }

    /// Decides `command` and writes all changes in one batch, together with the row `applied`, in
    /// which the Raft layer keeps the last applied entry.
    ///
    /// Must be called by one caller at a time, with rising log indices.
    pub fn apply(&self, log_index: u64, command: &Command, applied: &[u8]) -> Result<Outcome> {
        let mut execution = Execution::new(&self.db, self.keys, log_index, command)?;
        let outcome = execution.decide(command)?;
        execution.txn.commit(applied)?;
        Ok(outcome)
    }

    /// Returns a view of the tables as they are now. It does not change.
    pub fn view(&self) -> View<'_> {
        View::new(&self.db, self.keys)
    }
}

/// The execution of one command.
struct Execution<'a> {
    txn: Txn<'a>,
    keys: Keys,
    log_index: u64,
    time: Timestamp,
    /// The command's epoch.
    epoch: Epoch,
    /// The group's epoch and floor.
    epochs: EpochsRow,
}

impl<'a> Execution<'a> {
    fn new(db: &'a Db, keys: Keys, log_index: u64, command: &Command) -> Result<Execution<'a>> {
        let txn = Txn::new(db, keys);
        Ok(Execution {
            keys,
            log_index,
            time: command.time,
            epoch: command.epoch,
            epochs: txn.epochs_row()?,
            txn,
        })
    }

    /// Returns the order of the `sub`-th version that this command makes.
    fn order(&self, sub: u16) -> Order {
        Order::new(self.log_index, sub)
    }

    /// Decides the command. All changes are in `txn`.
    fn decide(&mut self, command: &'a Command) -> Result<Outcome> {
        if let Some(done) = self.upkeep(&command.change) {
            return done.map(Ok);
        }
        if command.epoch < self.epochs.floor {
            return Ok(Err(Refusal::EpochBelowFloor));
        }
        let answer_key = self.keys.answer(command.epoch, command.request);
        if let Some(AnswerRow(answer)) = self.txn.row(&answer_key)? {
            return Ok(answer);
        }
        let outcome = match self.change(&command.change) {
            Ok(reply) => Ok(reply),
            Err(Error::Refused(refusal)) => {
                self.txn.discard();
                Err(refusal)
            }
            Err(error) => return Err(error),
        };
        self.txn.put(answer_key, &AnswerRow(outcome.clone()));
        Ok(outcome)
    }

    /// Carries out a command of the group's own upkeep. Such commands can be repeated, so their
    /// answers are not kept. They are not refused below the floor, or the floor could not rise.
    fn upkeep(&mut self, change: &Change) -> Option<Result<Reply>> {
        match change {
            Change::RaiseEpoch { to } => Some(self.raise_epoch(*to)),
            Change::RaiseFloor { to } => Some(self.raise_floor(*to)),
            Change::ForgetGarbage { entries } => Some(self.forget_garbage(entries)),
            Change::QueueHeal { entries } => Some(self.queue_heal(entries)),
            Change::SettleHeals { entries } => Some(self.settle_heals(entries)),
            Change::RemoveDisk { disk } => Some(self.remove_disk(*disk)),
            Change::QueueDisk { disk, max } => Some(self.queue_disk(*disk, *max as usize)),
            Change::NoteScrub(state) => Some(self.note_scrub(*state)),
            _ => None,
        }
    }

    fn change(&mut self, change: &'a Change) -> Result<Reply> {
        match change.counts_in() {
            Some(bucket) => self.within_quota(bucket, change),
            None => self.carry_out(change),
        }
    }

    fn carry_out(&mut self, change: &'a Change) -> Result<Reply> {
        match change {
            Change::PutAccount(account) => self.put_account(account),
            Change::ReserveBucket { name, owner } => self.reserve_bucket(name, owner),
            Change::ActivateBucket { name, id } => self.activate_bucket(name, *id),
            Change::ReleaseBucket { name, id } => self.release_bucket(name, *id),
            Change::RegisterDisks { disks } => self.register_disks(disks),
            Change::MarkOffline { disk } => self.mark_offline(*disk),
            Change::ReplaceDisk { old, new } => self.replace_disk(*old, new.as_ref()),
            Change::SetUpkeep(settings) => self.set_upkeep(*settings),
            Change::CreateBucket {
                id,
                name,
                owner,
                location,
                settings,
            } => self.create_bucket(*id, name, owner, location, settings),
            Change::SealBucket { id } => self.seal_bucket(*id),
            Change::EmptyBucket { id, max } => self.empty_bucket(*id, *max as usize),
            Change::SetVersioning { bucket, versioning } => {
                self.set_versioning(*bucket, *versioning)
            }
            Change::PutBucketSetting {
                bucket,
                setting,
                document,
            } => self.put_bucket_setting(*bucket, *setting, document.as_ref()),
            Change::SetQuota { bucket, change } => self.set_quota(*bucket, *change),
            Change::PutObject { .. } => self.put_object(change),
            Change::LinkObject { .. } => self.link_object(change),
            Change::DeleteObjects { bucket, keys } => self.delete_objects(*bucket, keys),
            Change::PutTags {
                bucket,
                key,
                version,
                tags,
            } => self.put_tags(*bucket, key, *version, tags),
            Change::CreateUpload {
                bucket,
                key,
                upload,
                attributes,
                checksum,
            } => self.create_upload(*bucket, key, *upload, attributes, *checksum),
            Change::PutPart { .. } => self.put_part(change),
            Change::CompleteUpload { .. } => self.complete_upload(change),
            Change::AbortUpload {
                bucket,
                key,
                upload,
            } => self.abort_upload(*bucket, key, *upload),
            Change::SwapShard(swap) => self.swap_shard(swap),
            Change::ReencodeData(reencoding) => self.reencode_data(reencoding),
            Change::RaiseEpoch { .. }
            | Change::RaiseFloor { .. }
            | Change::ForgetGarbage { .. }
            | Change::QueueHeal { .. }
            | Change::SettleHeals { .. }
            | Change::RemoveDisk { .. }
            | Change::QueueDisk { .. }
            | Change::NoteScrub(_) => unreachable!("done by upkeep"),
        }
    }
}
