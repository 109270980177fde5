//! Uploads: parts, completion, abort, their listings.
//!
//! A part is written like an object and named by its upload instead of a version. Completion moves
//! the chosen parts' names from the upload to a list that the new version names: no byte is read
//! or copied, whatever the size.

use super::put::written;
use crate::engine::Engine;
use crate::meta::command::{Change, ChosenPart};
use crate::meta::view::StoredPart;
use drystone_store::body::Body;
use drystone_store::checksum;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::objects::Written;
use drystone_store::types::{BucketId, Checksum, ETag, Upload, UploadId, UploadedPart, WriteId};
use drystone_store::uploads::{CompleteUpload, CompletedPart, CreateUpload, PART_SIZE_MIN_BYTES};

/// A part replaced while its upload is being completed makes the completion look again; past so
/// many times the client is told to retry.
const COMPLETE_ATTEMPTS_MAX: usize = 4;

impl Engine {
    pub(crate) async fn start_upload(
        &self,
        bucket: BucketId,
        request: CreateUpload,
    ) -> Result<Upload> {
        self.room_for_metadata().await?;
        let epoch = self.epochs.begin();
        let upload = UploadId(self.env.write_id());
        let change = Change::CreateUpload {
            bucket,
            key: request.key.clone(),
            upload,
            attributes: request.attributes.clone(),
            checksum: request.checksum,
        };
        let command = self.command(&epoch, change);
        let initiated = command.time;
        self.objects.propose(command).await?;
        Ok(Upload {
            id: upload,
            key: request.key,
            initiated,
            attributes: request.attributes,
            checksum: request.checksum,
        })
    }

    pub(crate) async fn find_upload(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
    ) -> Result<Upload> {
        let key = key.to_owned();
        self.objects
            .read(move |view| view.upload(bucket, &key, upload))
            .await
    }

    pub(crate) async fn put_part(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u16,
        body: &mut dyn Body,
    ) -> Result<UploadedPart> {
        let epoch = self.epochs.begin();
        let class = self
            .find_upload(bucket, key, upload)
            .await?
            .attributes
            .storage_class;
        let (data, digest) = self.write_body(&epoch, bucket, &class, body).await?;
        let part = UploadedPart {
            number,
            size: data.size,
            etag: ETag {
                md5: digest.md5,
                parts: 0,
            },
            modified: self.env.now(),
            checksum: digest.checksum.clone(),
            crc64nvme: digest.crc64nvme,
        };
        let change = Change::PutPart {
            bucket,
            key: key.to_owned(),
            upload,
            number,
            data: data.clone(),
            digest,
        };
        self.commit_data(epoch, data, change).await?;
        Ok(part)
    }

    pub(crate) async fn complete(
        &self,
        bucket: BucketId,
        request: CompleteUpload,
    ) -> Result<Written> {
        for _ in 0..COMPLETE_ATTEMPTS_MAX {
            let epoch = self.epochs.begin();
            let change = self.completion(bucket, &request).await?;
            match self.objects.propose(self.command(&epoch, change)).await {
                // A part was replaced between the look and the commit.
                Err(Error::Refused(Refusal::InvalidPart { .. })) => continue,
                answer => return written(answer?),
            }
        }
        Err(Error::Unavailable(
            "the upload's parts keep changing".into(),
        ))
    }

    /// Looks the named parts up and computes from them what the object will be.
    async fn completion(&self, bucket: BucketId, request: &CompleteUpload) -> Result<Change> {
        let (key, upload) = (request.key.clone(), request.upload);
        let numbers: Vec<u16> = request.parts.iter().map(|part| part.number).collect();
        let found = self
            .objects
            .read(move |view| {
                let found = match view.upload(bucket, &key, upload) {
                    Err(Error::Refused(Refusal::NoSuchUpload)) => return Ok(None),
                    found => found?,
                };
                Ok(Some((found, view.chosen_parts(upload, &numbers)?)))
            })
            .await?;
        let etag = checksum::multipart_etag(request.parts.iter().map(|part| part.etag.md5));
        let (parts, checksum) = match found {
            Some((found, uploaded)) => choose(request, &found, uploaded)?,
            // Finished before, or never there: the state machine knows which, by numbers and etag.
            None => (
                request
                    .parts
                    .iter()
                    .map(|part| unseen(part.number))
                    .collect(),
                None,
            ),
        };
        Ok(Change::CompleteUpload {
            bucket,
            key: request.key.clone(),
            upload,
            parts,
            etag,
            checksum,
            condition: request.condition.clone(),
            nonce: self.env.nonce(),
        })
    }

    pub(crate) async fn abort(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<()> {
        let epoch = self.epochs.begin();
        let change = Change::AbortUpload {
            bucket,
            key: key.to_owned(),
            upload,
        };
        self.objects
            .propose(self.command(&epoch, change))
            .await
            .map(drop)
    }

    pub(crate) async fn parts_page(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<(Vec<UploadedPart>, bool)> {
        let key = key.to_owned();
        self.objects
            .read(move |view| {
                view.upload(bucket, &key, upload)?;
                let mut parts = view.upload_parts(upload, after, max.saturating_add(1))?;
                let more = parts.len() > max;
                parts.truncate(max);
                Ok((parts.into_iter().map(|part| part.part).collect(), more))
            })
            .await
    }
}

/// The parts that the client named, checked against those uploaded, and the object's checksum.
fn choose(
    request: &CompleteUpload,
    upload: &Upload,
    uploaded: Vec<Option<StoredPart>>,
) -> Result<(Vec<ChosenPart>, Option<Checksum>), Refusal> {
    let mut chosen = Vec::with_capacity(request.parts.len());
    for (place, (named, found)) in request.parts.iter().zip(&uploaded).enumerate() {
        let found = found.as_ref().filter(|found| matches(named, &found.part));
        let found = found.ok_or(Refusal::InvalidPart {
            number: named.number,
        })?;
        let is_last = place + 1 == request.parts.len();
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
    let taken = uploaded.iter().flatten().map(|found| &found.part);
    let checksum = checksum::of_parts(upload.checksum, taken);
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

/// Stands for a part of an upload that is no more; it is never looked up.
fn unseen(number: u16) -> ChosenPart {
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
