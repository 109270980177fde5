//! Multipart uploads, from their creation to their completion or abort.

use super::{Execution, Reply, RowReads};
use crate::meta::command::{Change, ChosenPart};
use crate::meta::keys;
use crate::meta::record::{
    DataKind, FinishedRow, FinishedTimeRow, ObjectRow, PartRow, UploadAt, UploadPartRow, UploadRow,
    UsageRow,
};
use crate::meta::txn::decode;
use drystone_store::checksum::{in_object, part_crc64nvme, whole_crc64nvme};
use drystone_store::error::{Refusal, Result};
use drystone_store::types::{
    Attributes, BucketId, ChecksumAlgorithm, ChecksumType, ETag, Order, UploadId, WriteId,
};

impl<'a> Execution<'a> {
    pub(super) fn create_upload(
        &mut self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        attributes: &Attributes,
        checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    ) -> Result<Reply> {
        self.txn.live_bucket(bucket)?;
        let order = self.order(0);
        let row = UploadRow {
            id: upload,
            initiated: self.time,
            attributes: attributes.clone(),
            checksum,
        };
        let at = UploadAt {
            bucket,
            key: key.to_owned(),
            order,
        };
        self.txn.put(self.keys.upload(bucket, key, order), &row);
        self.txn.put(self.keys.upload_id(upload), &at);
        let added = UsageRow {
            uploads: 1,
            ..UsageRow::default()
        };
        self.count(bucket, added, UsageRow::default())?;
        Ok(Reply::Timed { time: self.time })
    }

    fn open_upload(&self, bucket: BucketId, key: &str, id: UploadId) -> Result<UploadAt> {
        let at = self.txn.upload_at(bucket, key, id)?;
        at.ok_or_else(|| Refusal::NoSuchUpload.into())
    }

    pub(super) fn put_part(&mut self, change: &'a Change) -> Result<Reply> {
        let Change::PutPart {
            bucket,
            key,
            upload,
            number,
            data,
            digest,
        } = change
        else {
            unreachable!("called for PutPart")
        };
        self.txn.live_bucket(*bucket)?;
        self.open_upload(*bucket, key, *upload)?;
        self.add_data(*bucket, data)?;
        let part_key = self.keys.upload_part(*upload, *number);
        let old: Option<UploadPartRow> = self.txn.row(&part_key)?;
        if let Some(old) = &old {
            self.release(old.write_id)?;
        }
        let part = |part_bytes| UsageRow {
            part_bytes,
            ..UsageRow::default()
        };
        let replaced = old.map_or(0, |old| old.size);
        self.count(*bucket, part(data.size), part(replaced))?;
        let row = UploadPartRow {
            write_id: data.write_id,
            size: data.size,
            etag: ETag {
                md5: digest.md5,
                parts: 0,
            },
            checksum: digest.checksum.clone(),
            modified: self.time,
            crc64nvme: digest.crc64nvme,
        };
        self.txn.put(part_key, &row);
        Ok(Reply::Timed { time: self.time })
    }

    pub(super) fn complete_upload(&mut self, change: &'a Change) -> Result<Reply> {
        let Change::CompleteUpload {
            bucket,
            key,
            upload,
            parts,
            etag,
            checksum,
            condition,
            nonce,
        } = change
        else {
            unreachable!("called for CompleteUpload")
        };
        let versioning = self.txn.live_bucket(*bucket)?.versioning;
        let numbers: Vec<u16> = parts.iter().map(|part| part.number).collect();
        let Some(at) = self.txn.upload_at(*bucket, key, *upload)? else {
            return self.completed_before(*bucket, key, *upload, &numbers, *etag);
        };
        let UploadRow {
            attributes,
            checksum: expected,
            ..
        } = self
            .txn
            .existing_row(&self.keys.upload(*bucket, key, at.order))?;
        let chosen = self.chosen_parts(*upload, parts)?;
        self.check(*bucket, key, condition)?;

        let crcs = chosen.iter().map(|(_, part)| {
            let crc = part_crc64nvme(part.checksum.as_ref(), part.crc64nvme);
            (crc, part.size)
        });
        let kind = DataKind::Parts {
            count: numbers.len() as u32,
            crc64nvme: whole_crc64nvme(crcs),
        };
        let size = self.put_part_list(upload.0, expected, chosen);
        self.put_data(upload.0, *bucket, size, kind);
        self.drop_upload(*bucket, key, at.order, *upload, &numbers)?;
        let object = ObjectRow {
            size,
            etag: *etag,
            checksum: checksum.clone(),
            attributes,
            write_id: upload.0,
        };
        let reply = self.write_object(*bucket, versioning, key, *nonce, object)?;
        let finished = FinishedRow {
            bucket: *bucket,
            key: key.clone(),
            numbers,
            reply: reply.clone(),
        };
        self.txn.put(self.keys.finished(*upload), &finished);
        self.txn
            .put(self.keys.finished_at(self.time, *upload), &FinishedTimeRow);
        Ok(reply)
    }

    /// Returns the earlier answer if the upload was completed with the same parts.
    fn completed_before(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        parts: &[u16],
        expected: ETag,
    ) -> Result<Reply> {
        match self.txn.finished_row(bucket, key, upload)? {
            Some(FinishedRow {
                numbers,
                reply: reply @ Reply::Written { etag, .. },
                ..
            }) if numbers == parts && etag == expected => Ok(reply),
            _ => Err(Refusal::NoSuchUpload.into()),
        }
    }

    /// Returns the rows of the chosen parts, if each is still the one that the proposer saw.
    fn chosen_parts(
        &self,
        upload: UploadId,
        chosen: &[ChosenPart],
    ) -> Result<Vec<(u16, UploadPartRow)>> {
        let mut last = 0;
        let mut rows = Vec::with_capacity(chosen.len());
        for part in chosen {
            let number = part.number;
            let row: Option<UploadPartRow> =
                self.txn.row(&self.keys.upload_part(upload, number))?;
            match row {
                Some(row) if row.write_id == part.write_id && number > last => {
                    rows.push((number, row));
                }
                _ => return Err(Refusal::InvalidPart { number }.into()),
            }
            last = number;
        }
        match rows.is_empty() {
            true => Err(Refusal::InvalidPart { number: 0 }.into()),
            false => Ok(rows),
        }
    }

    /// Writes the part list and returns the object's size. The references to the parts' bytes pass
    /// from the upload to the list, so their counts stay.
    fn put_part_list(
        &mut self,
        list: WriteId,
        expected: Option<(ChecksumAlgorithm, ChecksumType)>,
        chosen: Vec<(u16, UploadPartRow)>,
    ) -> u64 {
        let mut offset = 0;
        for (number, part) in chosen {
            let row = PartRow {
                write_id: part.write_id,
                size: part.size,
                etag: part.etag,
                checksum: in_object(expected, part.checksum.as_ref(), part.crc64nvme),
            };
            self.put_part_row(list, offset, number, &row);
            offset += row.size;
        }
        offset
    }

    pub(super) fn abort_upload(
        &mut self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
    ) -> Result<Reply> {
        self.txn.live_bucket(bucket)?;
        let at = self.open_upload(bucket, key, upload)?;
        self.drop_upload(bucket, key, at.order, upload, &[])?;
        Ok(Reply::Done)
    }

    /// Removes an upload's rows, and the bytes of its parts except those with the `kept` numbers,
    /// which must be ascending.
    pub(super) fn drop_upload(
        &mut self,
        bucket: BucketId,
        key: &str,
        order: Order,
        upload: UploadId,
        kept: &[u16],
    ) -> Result<()> {
        self.drop_parts(bucket, upload, kept, usize::MAX)?;
        self.txn.delete(self.keys.upload(bucket, key, order));
        self.txn.delete(self.keys.upload_id(upload));
        let removed = UsageRow {
            uploads: 1,
            ..UsageRow::default()
        };
        self.count(bucket, UsageRow::default(), removed)
    }

    /// Removes at most `max` parts of an upload, with their bytes except those of the `kept`
    /// numbers, which must be ascending. Returns the number of parts that were removed.
    pub(super) fn drop_parts(
        &mut self,
        bucket: BucketId,
        upload: UploadId,
        kept: &[u16],
        max: usize,
    ) -> Result<usize> {
        let parts = self.txn.scan(&self.keys.upload_parts(upload), max)?;
        let count = parts.len();
        let mut part_bytes = 0;
        for (part_key, value) in parts {
            let number = keys::parse_number(&part_key)?;
            let part: UploadPartRow = decode(&part_key, &value)?;
            part_bytes += part.size;
            if kept.binary_search(&number).is_err() {
                self.release(part.write_id)?;
            }
            self.txn.delete(part_key);
        }
        let removed = UsageRow {
            part_bytes,
            ..UsageRow::default()
        };
        self.count(bucket, UsageRow::default(), removed)?;
        Ok(count)
    }
}
