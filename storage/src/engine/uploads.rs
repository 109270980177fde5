//! Uploads: their parts, their completion and their abort.
//!
//! A part is written like an object, and its upload names it instead of a version. Completion moves
//! the chosen parts' names from the upload to a list that the new version names: no byte is read
//! or copied, whatever the size.

use async_trait::async_trait;

use super::Engine;
use super::objects::put::written;
use crate::meta::command::{Change, ChosenPart, Reply};
use crate::meta::view::{StoredPart, View};
use drystone_store::body::Body;
use drystone_store::checksum;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::objects::Written;
use drystone_store::types::{
    BucketId, Checksum, ETag, Timestamp, Upload, UploadId, UploadedPart, WriteId,
};
use drystone_store::uploads::{
    CompleteUpload, CompletedPart, CreateUpload, PART_SIZE_MIN_BYTES, Uploads,
};

/// The number of attempts at a completion. A part that is replaced meanwhile makes another attempt
/// necessary; after the last one the client is asked to retry.
const COMPLETE_ATTEMPTS_MAX: usize = 4;

#[async_trait]
impl Uploads for Engine {
    async fn create_upload(&self, bucket: BucketId, request: CreateUpload) -> Result<Upload> {
        self.check_metadata_space()?;
        let id = UploadId(self.env.write_id());
        let change = Change::CreateUpload {
            bucket,
            key: request.key.clone(),
            upload: id,
            attributes: request.attributes.clone(),
            checksum: request.checksum,
        };
        let initiated = timed(self.objects.propose(change).await?);
        Ok(Upload {
            id,
            key: request.key,
            initiated,
            attributes: request.attributes,
            checksum: request.checksum,
        })
    }

    async fn upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<Upload> {
        let key = key.to_owned();
        let read = move |view: &View<'_>| view.upload(bucket, &key, upload);
        self.objects.group.read(read).await
    }

    async fn upload_part(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u16,
        body: &mut dyn Body,
    ) -> Result<UploadedPart> {
        let epoch = self.objects.epochs.begin();
        let attributes = self.upload(bucket, key, upload).await?.attributes;
        let class = attributes.storage_class;
        let (data, digest) = self.write_body(&epoch, bucket, &class, body).await?;
        let change = Change::PutPart {
            bucket,
            key: key.to_owned(),
            upload,
            number,
            data: data.clone(),
            digest: digest.clone(),
        };
        let size = data.size;
        let modified = timed(self.commit_data(epoch, data, change).await?);
        Ok(UploadedPart {
            number,
            size,
            etag: ETag {
                md5: digest.md5,
                parts: 0,
            },
            modified,
            checksum: digest.checksum,
            crc64nvme: digest.crc64nvme,
        })
    }

    async fn complete_upload(&self, bucket: BucketId, request: CompleteUpload) -> Result<Written> {
        for _ in 0..COMPLETE_ATTEMPTS_MAX {
            let epoch = self.objects.epochs.begin();
            let change = self.completion(bucket, &request).await?;
            match self.objects.propose_in(&epoch, change).await {
                // A part was replaced between the read and the commit.
                Err(Error::Refused(Refusal::InvalidPart { .. })) => continue,
                answer => return written(answer?),
            }
        }
        Err(Error::Unavailable(
            "the upload's parts keep changing".into(),
        ))
    }

    async fn abort_upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<()> {
        let change = Change::AbortUpload {
            bucket,
            key: key.to_owned(),
            upload,
        };
        self.objects.propose(change).await?;
        Ok(())
    }

    async fn list_parts(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<(Vec<UploadedPart>, bool)> {
        let key = key.to_owned();
        let list = move |view: &View<'_>| {
            view.upload(bucket, &key, upload)?;
            let mut parts = view.upload_parts(upload, after, max.saturating_add(1))?;
            let more = parts.len() > max;
            parts.truncate(max);
            Ok((parts.into_iter().map(|part| part.part).collect(), more))
        };
        self.objects.group.read(list).await
    }
}

impl Engine {
    /// Reads the named parts and computes the object that they make.
    async fn completion(&self, bucket: BucketId, request: &CompleteUpload) -> Result<Change> {
        let (key, upload) = (request.key.clone(), request.upload);
        let numbers: Vec<u16> = request.parts.iter().map(|part| part.number).collect();
        let read = move |view: &View<'_>| {
            let info = match view.upload(bucket, &key, upload) {
                Err(Error::Refused(Refusal::NoSuchUpload)) => return Ok(None),
                info => info?,
            };
            Ok(Some((info, view.chosen_parts(upload, &numbers)?)))
        };
        let (parts, checksum) = match self.objects.group.read(read).await? {
            Some((info, uploaded)) => choose(request, &info, uploaded)?,
            // Completed before, or never created: the state machine knows which, by the parts'
            // numbers and the ETag.
            None => {
                let numbers = request.parts.iter().map(|part| part.number);
                (numbers.map(unread_part).collect(), None)
            }
        };
        Ok(Change::CompleteUpload {
            bucket,
            key: request.key.clone(),
            upload,
            parts,
            etag: checksum::multipart_etag(request.parts.iter().map(|part| part.etag.md5)),
            checksum,
            condition: request.condition.clone(),
            nonce: self.env.nonce(),
        })
    }
}

/// Returns the time of a change that is answered by its time.
fn timed(reply: Reply) -> Timestamp {
    match reply {
        Reply::Timed { time } => time,
        other => unreachable!("a change of an upload is answered by its time, not {other:?}"),
    }
}

/// Checks the parts that the client named against those uploaded. Returns them and the object's
/// checksum.
fn choose(
    request: &CompleteUpload,
    upload: &Upload,
    uploaded: Vec<Option<StoredPart>>,
) -> Result<(Vec<ChosenPart>, Option<Checksum>), Refusal> {
    let mut chosen = Vec::with_capacity(request.parts.len());
    for (index, (named, found)) in request.parts.iter().zip(&uploaded).enumerate() {
        let found = found.as_ref().filter(|found| matches(named, &found.part));
        let found = found.ok_or(Refusal::InvalidPart {
            number: named.number,
        })?;
        let is_last = index + 1 == request.parts.len();
        if !is_last && found.part.size < PART_SIZE_MIN_BYTES {
            return Err(Refusal::PartTooSmall {
                number: named.number,
                size: found.part.size,
                minimum: PART_SIZE_MIN_BYTES,
                etag: found.part.etag,
            });
        }
        let (write_id, size) = (found.write_id, found.part.size);
        chosen.push(ChosenPart {
            number: named.number,
            write_id,
            size,
        });
    }
    let total: u64 = chosen.iter().map(|part| part.size).sum();
    if request.size.is_some_and(|size| size != total) {
        return Err(Refusal::SizeMismatch {
            expected: request.size.unwrap_or_default(),
            total,
        });
    }
    let parts = uploaded.iter().flatten().map(|found| &found.part);
    let checksum = checksum::of_parts(upload.checksum, parts);
    if let Some(named) = &request.checksum
        && !checksum.as_ref().is_some_and(|own| same_sum(own, named))
    {
        return Err(Refusal::ChecksumMismatch);
    }
    Ok((chosen, checksum))
}

fn same_sum(own: &Checksum, named: &Checksum) -> bool {
    own.algorithm == named.algorithm && own.value == named.value
}

/// Stands for a part of an upload that no longer exists; it is never looked up.
fn unread_part(number: u16) -> ChosenPart {
    ChosenPart {
        number,
        write_id: WriteId([0; 16]),
        size: 0,
    }
}

fn matches(named: &CompletedPart, part: &UploadedPart) -> bool {
    let checksum_fits = match (&named.checksum, &part.checksum) {
        (Some(named), Some(own)) => same_sum(own, named),
        (Some(_), None) => false,
        (None, _) => true,
    };
    named.etag == part.etag && checksum_fits
}
