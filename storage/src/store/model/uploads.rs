//! The model's uploads: their parts, and how they become objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::rows::{
    BucketState, Completion, Content, NewVersion, Part, Stamp, UploadState, total_len,
};
use super::state::{MemoryStore, read_body};
use crate::body::Body;
use crate::buckets::{Addition, AdditionOf};
use crate::checksum::{self, multipart_etag};
use crate::error::{Refusal, Result};
use crate::objects::Written;
use crate::types::{
    BucketId, Checksum, Digest, ETag, ObjectPart, Order, Upload, UploadId, UploadedPart,
};
use crate::uploads::{CompleteUpload, CompletedPart, CreateUpload, PART_SIZE_MIN_BYTES, Uploads};

#[async_trait]
impl Uploads for MemoryStore {
    async fn create_upload(&self, bucket: BucketId, request: CreateUpload) -> Result<Upload> {
        let id = UploadId(self.env.write_id());
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        Ok(state.bucket(bucket)?.create_upload(id, request, stamp))
    }

    async fn upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<Upload> {
        let mut state = self.state();
        Ok(state.bucket(bucket)?.upload(key, upload)?.info.clone())
    }

    async fn upload_part(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u16,
        body: &mut dyn Body,
    ) -> Result<UploadedPart> {
        let (data, digest) = read_body(body).await?;
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        let bucket = state.bucket(bucket)?;
        bucket.upload(key, upload)?;
        bucket.check_quota(&Addition {
            of: AdditionOf::Part { upload, number },
            bytes: total_len(&data),
        })?;
        let upload = bucket.upload(key, upload)?;
        Ok(upload.put_part(number, data, digest, stamp))
    }

    async fn complete_upload(&self, bucket: BucketId, request: CompleteUpload) -> Result<Written> {
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        Ok(state.bucket(bucket)?.complete_upload(request, stamp)?)
    }

    async fn abort_upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<()> {
        Ok(self.state().bucket(bucket)?.abort_upload(key, upload)?)
    }

    async fn list_parts(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<(Vec<UploadedPart>, bool)> {
        let mut state = self.state();
        Ok(state
            .bucket(bucket)?
            .upload(key, upload)?
            .list_parts(after, max))
    }
}

impl UploadState {
    pub fn put_part(
        &mut self,
        number: u16,
        data: Vec<Bytes>,
        digest: Digest,
        stamp: Stamp,
    ) -> UploadedPart {
        let info = UploadedPart {
            number,
            size: total_len(&data),
            etag: ETag {
                md5: digest.md5,
                parts: 0,
            },
            modified: stamp.now,
            checksum: digest.checksum,
            crc64nvme: digest.crc64nvme,
        };
        let part = Part {
            info: info.clone(),
            data,
        };
        self.parts.insert(number, part);
        info
    }

    /// Returns the size of the part with this number, in bytes; 0 where there is none.
    pub fn part_len(&self, number: u16) -> u64 {
        self.parts.get(&number).map_or(0, |part| part.info.size)
    }

    pub fn part_bytes(&self) -> u64 {
        self.parts.values().map(|part| part.info.size).sum()
    }

    pub fn list_parts(&self, after: u16, max: usize) -> (Vec<UploadedPart>, bool) {
        let follow = || self.parts.values().filter(|part| part.info.number > after);
        let page: Vec<_> = follow().take(max).map(|part| part.info.clone()).collect();
        let more = max > 0 && follow().count() > page.len();
        (page, more)
    }

    /// The parts that the client names, each found to be what it says.
    fn choose(&self, named: &[CompletedPart]) -> Result<Vec<&Part>, Refusal> {
        let mut chosen = Vec::new();
        for (place, part) in named.iter().enumerate() {
            let number = part.number;
            let found = self
                .parts
                .get(&number)
                .filter(|found| found.info.etag == part.etag)
                .filter(|found| is_or_unnamed(&part.checksum, &found.info.checksum))
                .ok_or(Refusal::InvalidPart { number })?;
            let is_last = place + 1 == named.len();
            if !is_last && found.info.size < PART_SIZE_MIN_BYTES {
                return Err(Refusal::PartTooSmall {
                    number,
                    size: found.info.size,
                    minimum: PART_SIZE_MIN_BYTES,
                    etag: found.info.etag,
                });
            }
            chosen.push(found);
        }
        Ok(chosen)
    }
}

/// Whether the checksum a client names, if any, is the one there is.
fn is_or_unnamed(named: &Option<Checksum>, found: &Option<Checksum>) -> bool {
    let value = |sum: &Checksum| (sum.algorithm, sum.value.clone());
    named.is_none() || named.as_ref().map(value) == found.as_ref().map(value)
}

fn assemble(upload: &UploadState, parts: &[&Part]) -> Content {
    let mut offset = 0;
    let mut listed = Vec::new();
    for part in parts {
        listed.push(ObjectPart {
            number: part.info.number,
            offset,
            size: part.info.size,
            checksum: checksum::in_object(
                upload.info.checksum,
                part.info.checksum.as_ref(),
                part.info.crc64nvme,
            ),
        });
        offset += part.info.size;
    }
    Content {
        write_id: upload.info.id.0,
        size: offset,
        etag: multipart_etag(parts.iter().map(|part| part.info.etag.md5)),
        checksum: checksum::of_parts(upload.info.checksum, parts.iter().map(|part| &part.info)),
        crc64nvme: checksum::whole_crc64nvme(parts.iter().map(|part| {
            let own = part.info.checksum.as_ref();
            let crc = checksum::part_crc64nvme(own, part.info.crc64nvme);
            (crc, part.info.size)
        })),
        data: parts.iter().flat_map(|part| part.data.clone()).collect(),
        parts: listed,
    }
}

impl BucketState {
    pub fn create_upload(&mut self, id: UploadId, request: CreateUpload, stamp: Stamp) -> Upload {
        let info = Upload {
            id,
            key: request.key.clone(),
            initiated: stamp.now,
            attributes: request.attributes,
            checksum: request.checksum,
        };
        let upload = UploadState {
            info: info.clone(),
            parts: BTreeMap::new(),
        };
        self.uploads.insert((request.key, stamp.order), upload);
        info
    }

    /// An upload is there only under its own key.
    fn place_of(&self, key: &str, upload: UploadId) -> Result<(String, Order), Refusal> {
        self.uploads
            .iter()
            .find(|((of_key, _), state)| of_key == key && state.info.id == upload)
            .map(|(place, _)| place.clone())
            .ok_or(Refusal::NoSuchUpload)
    }

    pub fn upload(&mut self, key: &str, upload: UploadId) -> Result<&mut UploadState, Refusal> {
        let place = self.place_of(key, upload)?;
        self.uploads.get_mut(&place).ok_or(Refusal::NoSuchUpload)
    }

    pub fn abort_upload(&mut self, key: &str, upload: UploadId) -> Result<(), Refusal> {
        let place = self.place_of(key, upload)?;
        self.uploads.remove(&place);
        Ok(())
    }

    pub fn complete_upload(
        &mut self,
        request: CompleteUpload,
        stamp: Stamp,
    ) -> Result<Written, Refusal> {
        let named: Vec<_> = request.parts.iter().map(|p| (p.number, p.etag)).collect();
        let Ok(place) = self.place_of(&request.key, request.upload) else {
            return self
                .completed
                .get(&request.upload)
                .filter(|done| done.key == request.key && done.parts == named)
                .map(|done| done.answer.clone())
                .ok_or(Refusal::NoSuchUpload);
        };
        let upload = &self.uploads[&place];
        let chosen = upload.choose(&request.parts)?;
        let content = assemble(upload, &chosen);
        if let Some(expected) = request.size
            && expected != content.size
        {
            let total = content.size;
            return Err(Refusal::SizeMismatch { expected, total });
        }
        if !is_or_unnamed(&request.checksum, &content.checksum) {
            return Err(Refusal::ChecksumMismatch);
        }
        let new = NewVersion {
            key: request.key.clone(),
            attributes: upload.info.attributes.clone(),
            condition: request.condition,
            content: Arc::new(content),
        };
        self.check(&new.key, &new.condition)?;
        let used = self.usage();
        let mut wanted = used;
        let replaced = self.replaced(&new.key);
        wanted.objects += u64::from(replaced.is_none());
        wanted.object_bytes -= replaced.map_or(0, |object| object.content.size);
        wanted.object_bytes += new.content.size;
        // The bytes of its parts become the object's, and those left out go.
        wanted.part_bytes -= upload.part_bytes();
        self.info.quota.allows(&used, &wanted)?;
        let answer = self.add(new, stamp);
        self.uploads.remove(&place);
        let completed = Completion {
            key: request.key,
            parts: named,
            answer: answer.clone(),
        };
        self.completed.insert(request.upload, completed);
        Ok(answer)
    }
}
