//! Accounts, bucket names, and buckets from their creation to their deletion.

use super::{Execution, Reply, RowReads};
use crate::meta::keys;
use crate::meta::record::{
    AccountRow, BucketRow, CountersRow, NameRow, NameState, SettingRow, UploadRow, UsageRow,
    VersionRow,
};
use crate::meta::txn::decode;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::types::{Account, AccountId, BucketId, BucketSetting, Quota, Versioning};

impl Execution<'_> {
    pub(super) fn put_account(&mut self, account: &Account) -> Result<Reply> {
        let row = AccountRow {
            canonical_id: account.canonical_id.clone(),
            display_name: account.display_name.clone(),
        };
        self.txn.put(self.keys.account(&account.id), &row);
        Ok(Reply::Done)
    }

    /// Reserves a name. If its owner has begun to create it before, it gets the same id again, so a
    /// creation that was interrupted is finished by the next request for it.
    pub(super) fn reserve_bucket(&mut self, name: &str, owner: &AccountId) -> Result<Reply> {
        let key = self.keys.name(name);
        match self.txn.row::<NameRow>(&key)? {
            Some(row) if row.state == NameState::Creating && row.owner == *owner => {
                return Ok(Reply::Reserved { id: row.id });
            }
            Some(row) => return Err(Refusal::BucketExists { owner: row.owner }.into()),
            None => {}
        }
        let counters: Option<CountersRow> = self.txn.row(&self.keys.counters())?;
        let id = counters.map_or(BucketId(1), |counters| counters.next_bucket);
        let row = NameRow {
            id,
            owner: owner.clone(),
            state: NameState::Creating,
        };
        let next_bucket = BucketId(id.0 + 1);
        self.txn.put(key, &row);
        self.txn
            .put(self.keys.counters(), &CountersRow { next_bucket });
        Ok(Reply::Reserved { id })
    }

    pub(super) fn activate_bucket(&mut self, name: &str, id: BucketId) -> Result<Reply> {
        let key = self.keys.name(name);
        let row: Option<NameRow> = self.txn.row(&key)?;
        let Some(mut row) = row.filter(|row| row.id == id) else {
            return Err(Refusal::NoSuchBucket.into());
        };
        row.state = NameState::Active;
        self.txn.put(key, &row);
        Ok(Reply::Done)
    }

    pub(super) fn release_bucket(&mut self, name: &str, id: BucketId) -> Result<Reply> {
        let key = self.keys.name(name);
        let row: Option<NameRow> = self.txn.row(&key)?;
        if row.is_some_and(|row| row.id == id) {
            self.txn.delete(key);
        }
        Ok(Reply::Done)
    }

    /// Creates a bucket. Repeated, it leaves the bucket as it is. After the bucket's deletion has
    /// begun, it is refused.
    pub(super) fn create_bucket(
        &mut self,
        id: BucketId,
        name: &str,
        owner: &AccountId,
        location: &str,
        settings: &[(BucketSetting, Vec<u8>)],
    ) -> Result<Reply> {
        let key = self.keys.bucket(id);
        match self.txn.row::<BucketRow>(&key)? {
            Some(row) if row.sealed => return Err(Refusal::NoSuchBucket.into()),
            Some(row) if row.owner != *owner => {
                return Err(Refusal::BucketExists { owner: row.owner }.into());
            }
            Some(_) => return Ok(Reply::Done),
            None => {}
        }
        let row = BucketRow {
            name: name.to_owned(),
            owner: owner.clone(),
            created: self.time,
            location: location.to_owned(),
            versioning: Versioning::Off,
            quota: Quota::default(),
            sealed: false,
        };
        self.txn.put(key, &row);
        for (setting, document) in settings {
            let key = self.keys.setting(id, *setting);
            self.txn.put(key, &SettingRow(document.clone()));
        }
        Ok(Reply::Done)
    }

    /// Seals a bucket without versions. Its unfinished uploads go with it.
    pub(super) fn seal_bucket(&mut self, id: BucketId) -> Result<Reply> {
        let mut row = self.txn.live_bucket(id)?;
        if self.usage(id)?.has_versions() {
            return Err(Refusal::BucketNotEmpty.into());
        }
        row.sealed = true;
        self.txn.put(self.keys.bucket(id), &row);
        Ok(Reply::Done)
    }

    /// Removes about `max` versions, uploads and parts of a sealed bucket, and with the last one
    /// the rows of the bucket itself.
    pub(super) fn empty_bucket(&mut self, id: BucketId, max: usize) -> Result<Reply> {
        let bucket: Option<BucketRow> = self.txn.row(&self.keys.bucket(id))?;
        let Some(bucket) = bucket else {
            return Ok(Reply::Emptied { more: false });
        };
        if !bucket.sealed {
            return Err(Refusal::BucketNotEmpty.into());
        }
        let versions = self.txn.scan(&self.keys.versions(id, ""), max)?;
        for (row, value) in &versions {
            let (key, order) = keys::parse_version(row)?;
            let version: VersionRow = decode(row, value)?;
            self.remove_version(id, bucket.versioning, &key, order, &version)?;
        }
        let mut left = max.saturating_sub(versions.len());
        while left > 0 {
            let Some(removed) = self.remove_from_uploads(id, left)? else {
                self.remove_bucket_rows(id);
                return Ok(Reply::Emptied { more: false });
            };
            left = left.saturating_sub(removed);
        }
        Ok(Reply::Emptied { more: true })
    }

    /// Removes at most `max` parts of the bucket's first upload, and the upload if none are left.
    /// Returns the number of rows; `None` if there is no upload.
    fn remove_from_uploads(&mut self, id: BucketId, max: usize) -> Result<Option<usize>> {
        let first = self.txn.scan(&self.keys.uploads(id, ""), 1)?;
        let Some((row, value)) = first.first() else {
            return Ok(None);
        };
        let (key, order) = keys::parse_upload(row)?;
        let upload: UploadRow = decode(row, value)?;
        let parts = self.drop_parts(id, upload.id, &[], max)?;
        if parts < max {
            self.drop_upload(id, &key, order, upload.id, &[])?;
        }
        Ok(Some(parts + 1))
    }

    fn remove_bucket_rows(&mut self, id: BucketId) {
        for setting in keys::SETTINGS {
            self.txn.delete(self.keys.setting(id, setting));
        }
        self.txn.delete(self.keys.usage(id));
        self.txn.delete(self.keys.over_quota(id));
        self.txn.delete(self.keys.bucket(id));
    }

    pub(super) fn set_versioning(&mut self, id: BucketId, to: Versioning) -> Result<Reply> {
        let mut row = self.txn.live_bucket(id)?;
        if to == Versioning::Off && row.versioning != Versioning::Off {
            // S3 has no way back, and a bucket that is off must hold nothing but null versions.
            return Err(Refusal::Conflict.into());
        }
        row.versioning = to;
        self.txn.put(self.keys.bucket(id), &row);
        Ok(Reply::Done)
    }

    pub(super) fn put_bucket_setting(
        &mut self,
        id: BucketId,
        setting: BucketSetting,
        document: Option<&Vec<u8>>,
    ) -> Result<Reply> {
        self.txn.live_bucket(id)?;
        let key = self.keys.setting(id, setting);
        match document {
            Some(document) => self.txn.put(key, &SettingRow(document.clone())),
            None => self.txn.delete(key),
        }
        Ok(Reply::Done)
    }

    pub(super) fn usage(&self, id: BucketId) -> Result<UsageRow> {
        Ok(self.txn.row(&self.keys.usage(id))?.unwrap_or_default())
    }

    /// Changes the counts in the bucket's usage row: adds `added`, subtracts `removed`. A count
    /// below zero means that rows are missing which every replica should have.
    pub(super) fn count(&mut self, id: BucketId, added: UsageRow, removed: UsageRow) -> Result<()> {
        let usage = self.usage(id)?;
        let Some(usage) = usage.changed(added, removed) else {
            let what = format!(
                "bucket {} counts {usage:?}, and {removed:?} is removed",
                id.0
            );
            return Err(Error::Unfit(what));
        };
        self.txn.put(self.keys.usage(id), &usage);
        Ok(())
    }
}
