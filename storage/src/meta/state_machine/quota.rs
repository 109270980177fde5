//! Quotas of buckets.
//!
//! A change is carried out first. Then the bucket's usage is compared with what it was before and
//! with the quota. So nothing is counted twice or predicted wrongly, whatever the change replaces
//! or removes. A refused change leaves nothing behind, like any refused command.

use super::{Execution, Reply, RowReads};
use crate::meta::command::Change;
use crate::meta::record::{BucketRow, OverQuotaRow};
use drystone_store::error::Result;
use drystone_store::types::{BucketId, Quota, QuotaChange};

impl<'a> Execution<'a> {
    /// Carries out a change that may affect the usage of `bucket`.
    pub(super) fn within_quota(&mut self, bucket: BucketId, change: &'a Change) -> Result<Reply> {
        let row: Option<BucketRow> = self.txn.row(&self.keys.bucket(bucket))?;
        let quota = row.map(|row| row.quota).unwrap_or_default();
        if quota == Quota::default() {
            return self.carry_out(change);
        }
        let before = self.usage(bucket)?.into();
        let reply = self.carry_out(change)?;
        let after = self.usage(bucket)?.into();
        quota.allows(&before, &after)?;
        self.note_over_quota(bucket, quota.is_passed_softly(&after))?;
        Ok(reply)
    }

    /// Sets a bucket's quota. A limit below the current usage only stops growth.
    pub(super) fn set_quota(&mut self, bucket: BucketId, change: QuotaChange) -> Result<Reply> {
        let mut row = self.txn.live_bucket(bucket)?;
        row.quota = row.quota.changed(change);
        self.txn.put(self.keys.bucket(bucket), &row);
        let usage = self.usage(bucket)?.into();
        self.note_over_quota(bucket, row.quota.is_passed_softly(&usage))?;
        Ok(Reply::Done)
    }

    fn note_over_quota(&mut self, bucket: BucketId, is_over: bool) -> Result<()> {
        let key = self.keys.over_quota(bucket);
        match (self.txn.raw(&key)?.is_some(), is_over) {
            (false, true) => {
                let since = self.time;
                self.txn.put(key, &OverQuotaRow { since });
            }
            (true, false) => self.txn.delete(key),
            _ => {}
        }
        Ok(())
    }
}
