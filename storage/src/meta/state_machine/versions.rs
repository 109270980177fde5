//! Versions and delete markers: the values that a key has and had.
//!
//! A new version is always its key's newest, because its order comes from the log. Only removing a
//! version can make an older one the newest; it becomes current in the same batch.

use super::{Execution, Reply, RowReads};
use crate::meta::command::{Change, DeleteKey};
use crate::meta::record::{BucketRow, CurrentRow, ObjectRow, OrderRow, UsageRow, VersionRow};
use drystone_store::checksum::of_copy;
use drystone_store::error::{Error, Precondition, Refusal, Result};
use drystone_store::objects::{Deleted, ETagCondition, WriteCondition};
use drystone_store::types::{
    AccountId, BucketId, Checksum, ETag, Order, Tags, VersionId, Versioning,
};

impl<'a> Execution<'a> {
    pub(super) fn put_object(&mut self, change: &'a Change) -> Result<Reply> {
        let Change::PutObject {
            bucket,
            key,
            attributes,
            condition,
            data,
            digest,
            nonce,
        } = change
        else {
            unreachable!("called for PutObject")
        };
        let versioning = self.txn.live_bucket(*bucket)?.versioning;
        self.check(*bucket, key, condition)?;
        self.add_data(*bucket, data)?;
        let etag = ETag {
            md5: digest.md5,
            parts: 0,
        };
        let object = ObjectRow {
            size: data.size,
            etag,
            checksum: digest.checksum.clone(),
            attributes: attributes.clone(),
            write_id: data.write_id,
        };
        self.write_object(*bucket, versioning, key, *nonce, object)
    }

    pub(super) fn link_object(&mut self, change: &'a Change) -> Result<Reply> {
        let Change::LinkObject {
            bucket,
            key,
            attributes,
            condition,
            source,
            size,
            etag,
            checksum,
            nonce,
        } = change
        else {
            unreachable!("called for LinkObject")
        };
        let versioning = self.txn.live_bucket(*bucket)?.versioning;
        self.check(*bucket, key, condition)?;
        // Before the replaced version is released, because an object can be linked to itself.
        let crc64nvme = self.retain(*bucket, *source)?;
        let object = ObjectRow {
            size: *size,
            etag: *etag,
            checksum: of_copy(checksum.clone(), crc64nvme),
            attributes: attributes.clone(),
            write_id: *source,
        };
        self.write_object(*bucket, versioning, key, *nonce, object)
    }

    /// Makes `object` the newest version. Its data row must have the reference already.
    pub(super) fn write_object(
        &mut self,
        bucket: BucketId,
        versioning: Versioning,
        key: &str,
        nonce: u64,
        object: ObjectRow,
    ) -> Result<Reply> {
        let (etag, size): (ETag, u64) = (object.etag, object.size);
        let checksum: Option<Checksum> = object.checksum.clone();
        let owner = object.attributes.owner.clone();
        let order = self.order(0);
        let id = self.add_version(bucket, versioning, key, order, nonce, owner, Some(object))?;
        Ok(Reply::Written {
            version_id: shown(versioning, id),
            etag,
            size,
            checksum,
            modified: self.time,
        })
    }

    /// Adds the newest version of a key. While the bucket does not keep versions it is the `null`
    /// version, and replaces the earlier `null` version wherever that is in the order.
    #[allow(clippy::too_many_arguments)]
    fn add_version(
        &mut self,
        bucket: BucketId,
        versioning: Versioning,
        key: &str,
        order: Order,
        nonce: u64,
        owner: AccountId,
        object: Option<ObjectRow>,
    ) -> Result<VersionId> {
        let id = match versioning {
            Versioning::Enabled => VersionId::Ordered { order, nonce },
            Versioning::Off | Versioning::Suspended => VersionId::Null,
        };
        if id == VersionId::Null {
            if let Some((old, row)) = self.txn.find_version(bucket, key, id)? {
                self.drop_version(bucket, key, old, &row)?;
            }
            self.txn
                .put(self.keys.null_id(bucket, key), &OrderRow(order));
        }
        let row = VersionRow {
            id,
            modified: self.time,
            owner,
            object,
        };
        self.txn.put(self.keys.version(bucket, key, order), &row);
        self.set_current(bucket, key, CurrentRow::of(order, &row));
        let added = UsageRow::of_version(row.object.as_ref());
        self.count(bucket, added, UsageRow::default())?;
        Ok(id)
    }

    fn set_current(&mut self, bucket: BucketId, key: &str, row: Option<CurrentRow>) {
        let current = self.keys.current(bucket, key);
        match row {
            Some(row) => self.txn.put(current, &row),
            None => self.txn.delete(current),
        }
    }

    /// Removes a version from all of its tables except `current`.
    fn drop_version(
        &mut self,
        bucket: BucketId,
        key: &str,
        order: Order,
        row: &VersionRow,
    ) -> Result<()> {
        self.txn.delete(self.keys.version(bucket, key, order));
        if row.id == VersionId::Null {
            self.txn.delete(self.keys.null_id(bucket, key));
        }
        if let Some(object) = &row.object {
            self.release(object.write_id)?;
        }
        let removed = UsageRow::of_version(row.object.as_ref());
        self.count(bucket, UsageRow::default(), removed)
    }

    /// Removes a version. If it was the newest, the next one becomes current. A bucket that never
    /// was versioned has no next version, and does not search for one among deleted rows.
    pub(super) fn remove_version(
        &mut self,
        bucket: BucketId,
        versioning: Versioning,
        key: &str,
        order: Order,
        row: &VersionRow,
    ) -> Result<()> {
        self.drop_version(bucket, key, order, row)?;
        let next = match versioning {
            Versioning::Off => None,
            Versioning::Enabled | Versioning::Suspended => self.txn.newest(bucket, key)?,
        };
        match next {
            Some((newest, _)) if newest > order => {}
            Some((newest, row)) => self.set_current(bucket, key, CurrentRow::of(newest, &row)),
            None => self.set_current(bucket, key, None),
        }
        Ok(())
    }

    pub(super) fn delete_objects(
        &mut self,
        bucket: BucketId,
        deletes: &[DeleteKey],
    ) -> Result<Reply> {
        let row = self.txn.live_bucket(bucket)?;
        if deletes.len() > usize::from(Order::VERSIONS_PER_ENTRY) {
            return Err(Refusal::TooLarge.into());
        }
        let mut answers = Vec::with_capacity(deletes.len());
        for (sub, delete) in (0..).zip(deletes) {
            // Of a key that is refused, nothing changes.
            self.txn.set_savepoint();
            let refusal = match self.delete_key(bucket, &row, self.order(sub), delete) {
                Ok(deleted) => {
                    answers.push(Ok(deleted));
                    continue;
                }
                Err(Error::Refused(refusal)) => refusal,
                Err(Error::BadRow(what)) => {
                    tracing::error!(what, "a key is not deleted: a row does not decode");
                    Refusal::BadRow
                }
                Err(error) => return Err(error),
            };
            self.txn.undo();
            answers.push(Err(refusal));
        }
        Ok(Reply::Deleted(answers))
    }

    fn delete_key(
        &mut self,
        bucket: BucketId,
        BucketRow {
            versioning, owner, ..
        }: &BucketRow,
        order: Order,
        delete: &DeleteKey,
    ) -> Result<Deleted> {
        let (key, versioning) = (&delete.key, *versioning);
        self.check(bucket, key, &delete.condition)?;
        if let Some(id) = delete.version {
            return self.delete_version(bucket, versioning, key, id);
        }
        if versioning == Versioning::Off {
            self.delete_version(bucket, versioning, key, VersionId::Null)?;
            return Ok(Deleted::default());
        }
        let (owner, nonce) = (owner.clone(), delete.nonce);
        let id = self.add_version(bucket, versioning, key, order, nonce, owner, None)?;
        Ok(Deleted {
            version_id: Some(id),
            is_marker: true,
        })
    }

    /// Deletes a version. Succeeds if there is none.
    fn delete_version(
        &mut self,
        bucket: BucketId,
        versioning: Versioning,
        key: &str,
        id: VersionId,
    ) -> Result<Deleted> {
        let found = self.txn.find_version(bucket, key, id)?;
        if let Some((order, row)) = &found {
            self.remove_version(bucket, versioning, key, *order, row)?;
        }
        Ok(Deleted {
            version_id: Some(id),
            is_marker: found.is_some_and(|(_, row)| row.object.is_none()),
        })
    }

    pub(super) fn put_tags(
        &mut self,
        bucket: BucketId,
        key: &str,
        version: Option<VersionId>,
        tags: &Tags,
    ) -> Result<Reply> {
        let versioning = self.txn.live_bucket(bucket)?.versioning;
        let (found, missing) = match version {
            None => (self.txn.newest(bucket, key)?, Refusal::NoSuchKey),
            Some(id) => (
                self.txn.find_version(bucket, key, id)?,
                Refusal::NoSuchVersion,
            ),
        };
        let Some((order, mut row)) = found else {
            return Err(missing.into());
        };
        let Some(object) = &mut row.object else {
            return Err(Refusal::DeleteMarker {
                id: row.id,
                modified: row.modified,
                latest: version.is_none(),
            }
            .into());
        };
        object.attributes.tags.clone_from(tags);
        self.txn.put(self.keys.version(bucket, key, order), &row);
        Ok(Reply::Tagged {
            version_id: shown(versioning, row.id),
        })
    }

    /// Refuses a change unless its conditions on the current version hold.
    pub(super) fn check(
        &self,
        bucket: BucketId,
        key: &str,
        condition: &WriteCondition,
    ) -> Result<()> {
        if *condition == WriteCondition::default() {
            return Ok(());
        }
        let current = self.txn.current_row(bucket, key)?;
        Ok(check_condition(condition, current.as_ref())?)
    }
}

/// Returns the id for the answer: none in a bucket that never was versioned.
fn shown(versioning: Versioning, id: VersionId) -> Option<VersionId> {
    (versioning != Versioning::Off).then_some(id)
}

/// Checks the conditions in the order of the fields; see [`WriteCondition`].
fn check_condition(
    condition: &WriteCondition,
    current: Option<&CurrentRow>,
) -> Result<(), Refusal> {
    let Some(current) = current else {
        return match condition.if_match {
            Some(_) => Err(Refusal::NoSuchKey),
            None => Ok(()),
        };
    };
    let matches = |expected: &ETagCondition| match expected {
        ETagCondition::Any => true,
        ETagCondition::OneOf(etags) => etags.contains(&current.etag),
    };
    let seconds = current.modified.seconds();
    let failed = if condition
        .if_match
        .as_ref()
        .is_some_and(|etags| !matches(etags))
    {
        Precondition::IfMatch
    } else if condition.if_none_match.as_ref().is_some_and(matches) {
        Precondition::IfNoneMatch
    } else if condition
        .if_match_size
        .is_some_and(|size| size != current.size)
    {
        Precondition::IfMatchSize
    } else if condition
        .if_match_modified
        .is_some_and(|modified| modified.seconds() != seconds)
    {
        Precondition::IfMatchLastModified
    } else {
        return Ok(());
    };
    Err(Refusal::PreconditionFailed(failed))
}
