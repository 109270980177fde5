//! Quotas of buckets.
//!
//! A change is carried out first and held to the quota after: what the bucket's usage has become is
//! compared with what it was. So nothing is counted twice or foreseen wrongly, whatever the change
//! replaces or lets go. What is refused leaves nothing, as any refusal.

use super::{Reply, Rows, Step};
use crate::meta::command::Change;
use crate::meta::record::{BucketRow, OverQuotaRow};
use drystone_store::error::Result;
use drystone_store::types::{BucketId, Quota, QuotaChange};

impl<'a> Step<'a> {
    /// Carries out what may change the usage of `bucket`.
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

    /// A limit below what is there stops growth alone.
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
