//! Applies commands: deterministically, one batch each.
//!
//! A [`State`] is the tables of one replica in one disk's RocksDB. It decides each committed
//! command from its own rows and the command alone: no clock, no randomness, no other I/O. So every
//! replica comes to the same rows and the same answer.
//!
//! A repeated command gets the same answer as the first time, as long as answers are kept. A
//! refused command changes nothing. Time never goes back: a command with an earlier time than one
//! before it has that one's.
//!
//! There are three kinds of failure. A row that a command needs, and that does not decode, refuses
//! that command on every replica alike ([`Refusal::BadRow`]). Metadata that contradict themselves,
//! or that another version of the program wrote, are [`Error::Unfit`]: this replica must not
//! continue, because it might differ from the others, but its disk is not to blame. Any other error
//! is the disk's.

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
use super::txn::{self, RowReads, Txn};
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
        execution.advance_clock();
        execution.txn.commit(applied)?;
        Ok(outcome)
    }

    /// Returns the checksum of all changes so far, which is the same on every replica that has
    /// applied the same entries. A state that an earlier version of the program made has none.
    pub fn changes(&self) -> Result<Option<u64>> {
        txn::changes(&self.view())
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
        // Without it no command can be decided.
        let epochs = txn.epochs_row().map_err(unfit)?;
        Ok(Execution {
            keys,
            log_index,
            time: command.time.max(epochs.clock),
            epoch: command.epoch,
            epochs,
            txn,
        })
    }

    /// Keeps the time of this command, also of one that was refused.
    fn advance_clock(&mut self) {
        if self.time > self.epochs.clock {
            self.epochs.clock = self.time;
            self.txn.put(self.keys.epochs(), &self.epochs);
        }
    }

    /// Returns the order of the `sub`-th version that this command makes.
    fn order(&self, sub: u16) -> Order {
        Order::new(self.log_index, sub)
    }

    /// Decides the command. All changes are in `txn`.
    fn decide(&mut self, command: &'a Command) -> Result<Outcome> {
        if let Some(done) = self.upkeep(&command.change) {
            return self.outcome(done);
        }
        let may_be_repeated = command.issued < self.epochs.answers;
        if command.epoch < self.epochs.floor || may_be_repeated {
            return Ok(Err(Refusal::EpochBelowFloor));
        }
        let answer_key = self.keys.answer(command.issued, command.request);
        match self.txn.row(&answer_key) {
            Ok(Some(AnswerRow(answer))) => return Ok(answer),
            Ok(None) => {}
            // Whether the command was carried out before is not known any more.
            Err(error) => return self.outcome(Err(error)),
        }
        let done = self.change(&command.change);
        let outcome = self.outcome(done)?;
        self.txn.put(answer_key, &AnswerRow(outcome.clone()));
        Ok(outcome)
    }

    /// Divides refusals, which change nothing, from errors, with which a replica cannot continue.
    fn outcome(&mut self, done: Result<Reply>) -> Result<Outcome> {
        let refusal = match done {
            Ok(reply) => return Ok(Ok(reply)),
            Err(Error::Refused(refusal)) => refusal,
            Err(Error::BadRow(what)) => {
                tracing::error!(what, "a command is refused: a row does not decode");
                Refusal::BadRow
            }
            Err(error) => return Err(error),
        };
        self.txn.discard();
        Ok(Err(refusal))
    }

    /// Carries out a command of the group's own upkeep. Such commands can be repeated, so their
    /// answers are not kept. They are not refused below the floor, or the floor could not rise.
    fn upkeep(&mut self, change: &Change) -> Option<Result<Reply>> {
        match change {
            Change::RaiseEpoch { to } => Some(self.raise_epoch(*to)),
            Change::RaiseFloor { to } => Some(self.raise_floor(*to)),
            Change::DropAnswers {
                issued_below,
                finished_ms,
                max,
            } => Some(self.drop_answers(*issued_below, *finished_ms, *max as usize)),
            Change::ForgetGarbage { entries } => Some(self.forget_garbage(entries)),
            Change::QueueHeal { entries } => Some(self.queue_heal(entries)),
            Change::SettleHeals { entries } => Some(self.settle_heals(entries)),
            Change::RemoveDisk { disk } => Some(self.remove_disk(*disk)),
            Change::QueueDisk { disk, max } => Some(self.queue_disk(*disk, *max as usize)),
            Change::NoteScrub(state) => Some(self.note_scrub(*state)),
            Change::ReleaseParts { epoch, list, max } => {
                Some(self.release_parts(*epoch, *list, *max as usize))
            }
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
            Change::SetUpkeep(change) => self.set_upkeep(*change),
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
            | Change::DropAnswers { .. }
            | Change::ForgetGarbage { .. }
            | Change::QueueHeal { .. }
            | Change::SettleHeals { .. }
            | Change::RemoveDisk { .. }
            | Change::QueueDisk { .. }
            | Change::NoteScrub(_)
            | Change::ReleaseParts { .. } => unreachable!("done by upkeep"),
        }
    }
}

/// Makes an error that no replica can continue with, of a row that every command needs.
fn unfit(error: Error) -> Error {
    match error {
        Error::BadRow(what) => Error::Unfit(what),
        other => other,
    }
}
