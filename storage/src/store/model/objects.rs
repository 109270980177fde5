//! The model's objects: a bucket's versions, and how writes and deletes change them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::rows::{BucketState, Content, NewVersion, Object, Row, Stamp, total_len};
use super::state::{MemoryStore, read_body};
use crate::body::{Body, BodyReader};
use crate::buckets::{Addition, AdditionOf};
use crate::checksum::of_copy;
use crate::error::{Precondition, Refusal, Result};
use crate::objects::{
    DeleteObject, Deleted, ETagCondition, ObjectHandle, Objects, PutObject, ReadScope,
    WriteCondition, Written,
};
use crate::types::{
    AccountId, BucketId, ByteRange, Digest, ETag, ObjectPart, ObjectVersion, Tags, Version,
    VersionId, VersionSelector, Versioning, WriteId,
};

#[async_trait]
impl Objects for MemoryStore {
    async fn put_object(
        &self,
        bucket: BucketId,
        request: PutObject,
        body: &mut dyn Body,
    ) -> Result<Written> {
        let (data, digest) = read_body(body).await?;
        let write_id = self.env.write_id();
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        let new = NewVersion::written(request, data, digest, write_id);
        Ok(state.bucket(bucket)?.put(new, stamp)?)
    }

    async fn open_object(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        scope: ReadScope,
    ) -> Result<Box<dyn ObjectHandle>> {
        let mut state = self.state();
        let (version, content) = state.bucket(bucket)?.open(key, version)?;
        let readable = content.range_of(scope);
        Ok(Box::new(MemoryHandle {
            version,
            content,
            readable,
        }))
    }

    async fn delete_object(&self, bucket: BucketId, request: DeleteObject) -> Result<Deleted> {
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        Ok(state.bucket(bucket)?.delete(request, stamp)?)
    }

    async fn delete_objects(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>> {
        let mut state = self.state();
        state.bucket(bucket)?;
        let mut answers = Vec::new();
        for request in requests {
            let stamp = self.stamp(&mut state);
            let answer = state.bucket(bucket)?.delete(request, stamp);
            answers.push(answer.map_err(Into::into));
        }
        Ok(answers)
    }

    async fn link_object(
        &self,
        bucket: BucketId,
        source: &dyn ObjectHandle,
        request: PutObject,
    ) -> Result<Written> {
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        let write_id = source.object().write_id;
        Ok(state.bucket(bucket)?.link(write_id, request, stamp)?)
    }

    async fn put_object_tags(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>> {
        Ok(self.state().bucket(bucket)?.put_tags(key, version, tags)?)
    }
}

/// A version opened for reading: it holds the bytes, so they stay when the version goes.
struct MemoryHandle {
    version: Version,
    content: Arc<Content>,
    /// The bytes that it was opened for.
    readable: Option<ByteRange>,
}

impl Content {
    fn range_of(&self, scope: ReadScope) -> Option<ByteRange> {
        let all = ByteRange {
            start: 0,
            end: self.size,
        };
        match scope {
            ReadScope::Nothing => None,
            ReadScope::Whole => Some(all),
            ReadScope::Range(spec) => spec.within(self.size),
            ReadScope::Part(number) if self.parts.is_empty() => (number == 1).then_some(all),
            ReadScope::Part(number) => {
                let part = self.parts.iter().find(|part| part.number == number)?;
                Some(ByteRange {
                    start: part.offset,
                    end: part.offset + part.size,
                })
            }
        }
    }
}

#[async_trait]
impl ObjectHandle for MemoryHandle {
    fn version(&self) -> &Version {
        &self.version
    }

    fn object(&self) -> &ObjectVersion {
        let object = self.version.object.as_ref();
        object.expect("only a version with bytes is opened")
    }

    async fn part(&self, number: u16) -> Result<Option<ObjectPart>> {
        let parts = &self.content.parts;
        Ok(parts.iter().find(|part| part.number == number).cloned())
    }

    async fn parts(&self, after: u16, max: usize) -> Result<Vec<ObjectPart>> {
        let parts = self.content.parts.iter();
        Ok(parts
            .filter(|part| part.number > after)
            .take(max)
            .cloned()
            .collect())
    }

    async fn read(&self, range: ByteRange) -> Result<Box<dyn BodyReader>> {
        let readable = self
            .readable
            .expect("a version that is read was opened for it");
        assert!(readable.start <= range.start && range.end <= readable.end);
        let mut offset = 0;
        let mut pieces = Vec::new();
        for piece in &self.content.data {
            let len = piece.len() as u64;
            let start = range.start.clamp(offset, offset + len) - offset;
            let end = range.end.clamp(offset, offset + len) - offset;
            if start < end {
                pieces.push(piece.slice(start as usize..end as usize));
            }
            offset += len;
        }
        Ok(Box::new(MemoryReader(pieces.into_iter())))
    }
}

struct MemoryReader(std::vec::IntoIter<Bytes>);

#[async_trait]
impl BodyReader for MemoryReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.next())
    }
}

impl NewVersion {
    /// An object written in one request.
    pub fn written(
        request: PutObject,
        data: Vec<Bytes>,
        digest: Digest,
        write_id: WriteId,
    ) -> NewVersion {
        NewVersion {
            key: request.key,
            attributes: request.attributes,
            condition: request.condition,
            content: Arc::new(Content {
                write_id,
                size: total_len(&data),
                etag: ETag {
                    md5: digest.md5,
                    parts: 0,
                },
                checksum: digest.checksum,
                crc64nvme: None,
                data,
                parts: Vec::new(),
            }),
        }
    }
}

impl Row {
    pub fn version(&self, key: &str, is_latest: bool) -> Version {
        Version {
            key: key.to_owned(),
            id: self.id,
            is_latest,
            modified: self.modified,
            object: self.object.as_ref().map(Object::version),
            owner: self.owner.clone(),
        }
    }

    fn object(&self, latest: bool) -> Result<&Object, Refusal> {
        self.object.as_ref().ok_or(Refusal::DeleteMarker {
            id: self.id,
            modified: self.modified,
            latest,
        })
    }
}

impl Object {
    fn version(&self) -> ObjectVersion {
        ObjectVersion {
            size: self.content.size,
            etag: self.content.etag,
            checksum: self.content.checksum.clone(),
            attributes: self.attributes.clone(),
            write_id: self.content.write_id,
        }
    }
}

impl BucketState {
    pub fn put(&mut self, new: NewVersion, stamp: Stamp) -> Result<Written, Refusal> {
        self.check(&new.key, &new.condition)?;
        let of = AdditionOf::Object {
            key: new.key.clone(),
        };
        let bytes = new.content.size;
        self.check_quota(&Addition { of, bytes })?;
        Ok(self.add(new, stamp))
    }

    /// Makes the new version, whatever the conditions and the quota.
    pub fn add(&mut self, new: NewVersion, stamp: Stamp) -> Written {
        let id = self.insert(
            &new.key,
            new.attributes.owner.clone(),
            Some(Object {
                attributes: new.attributes,
                content: new.content.clone(),
            }),
            stamp,
        );
        Written {
            version_id: self.shown(id),
            etag: new.content.etag,
            size: new.content.size,
            checksum: new.content.checksum.clone(),
            modified: stamp.now,
        }
    }

    /// The object that a new version of the key takes the place of.
    pub fn replaced(&self, key: &str) -> Option<&Object> {
        let keeps = self.info.versioning == Versioning::Enabled;
        let rows = self.versions.get(key).filter(|_| !keeps)?;
        let null = rows.iter().find(|row| row.id == VersionId::Null)?;
        null.object.as_ref()
    }

    pub fn link(
        &mut self,
        source: WriteId,
        request: PutObject,
        stamp: Stamp,
    ) -> Result<Written, Refusal> {
        let content = self
            .versions
            .values()
            .flatten()
            .filter_map(|row| row.object.as_ref())
            .find(|object| object.content.write_id == source)
            .map(|object| object.content.as_ref().clone())
            .ok_or(Refusal::Conflict)?;
        let checksum = of_copy(content.checksum.clone(), content.crc64nvme);
        let content = Arc::new(Content {
            checksum,
            ..content
        });
        let new = NewVersion {
            key: request.key,
            attributes: request.attributes,
            condition: request.condition,
            content,
        };
        self.put(new, stamp)
    }

    pub fn open(
        &self,
        key: &str,
        version: VersionSelector,
    ) -> Result<(Version, Arc<Content>), Refusal> {
        let place = self.find(key, version)?;
        let row = &self.versions[key][place];
        let object = row.object(version == VersionSelector::Latest)?;
        Ok((row.version(key, place == 0), object.content.clone()))
    }

    pub fn put_tags(
        &mut self,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>, Refusal> {
        let place = self.find(key, version)?;
        let rows = self.versions.get_mut(key).expect("just found");
        rows[place].object(version == VersionSelector::Latest)?;
        if let Some(object) = &mut rows[place].object {
            object.attributes.tags = tags;
        }
        let id = rows[place].id;
        Ok(self.shown(id))
    }

    pub fn delete(&mut self, request: DeleteObject, stamp: Stamp) -> Result<Deleted, Refusal> {
        self.check(&request.key, &request.condition)?;
        let (id, told) = match (request.version, self.info.versioning) {
            (VersionSelector::Id(id), _) => (id, Some(id)),
            (VersionSelector::Latest, Versioning::Off) => (VersionId::Null, None),
            (VersionSelector::Latest, _) => {
                let owner = self.info.owner.clone();
                let id = self.insert(&request.key, owner, None, stamp);
                return Ok(Deleted {
                    version_id: Some(id),
                    is_marker: true,
                });
            }
        };
        let removed = self.remove(&request.key, id);
        Ok(Deleted {
            version_id: told,
            is_marker: removed.is_some_and(|row| row.object.is_none()),
        })
    }

    /// Conditions are on the newest version, whichever version the request names.
    pub fn check(&self, key: &str, condition: &WriteCondition) -> Result<(), Refusal> {
        let newest = self.versions.get(key).and_then(|rows| rows.first());
        let current = newest.and_then(|row| Some((row, row.object.as_ref()?)));
        let etag = current.map(|(_, object)| object.content.etag);
        let failed = |which| Err(Refusal::PreconditionFailed(which));
        let named = |wanted: &ETagCondition, etag: ETag| match wanted {
            ETagCondition::Any => true,
            ETagCondition::OneOf(etags) => etags.contains(&etag),
        };

        if let Some(wanted) = &condition.if_match {
            let etag = etag.ok_or(Refusal::NoSuchKey)?;
            if !named(wanted, etag) {
                return failed(Precondition::IfMatch);
            }
        }
        if let (Some(unwanted), Some(etag)) = (&condition.if_none_match, etag)
            && named(unwanted, etag)
        {
            return failed(Precondition::IfNoneMatch);
        }
        // These two hold where there is no object: a delete that comes twice succeeds twice.
        if let (Some(size), Some((_, object))) = (condition.if_match_size, current)
            && size != object.content.size
        {
            return failed(Precondition::IfMatchSize);
        }
        if let (Some(time), Some((row, _))) = (condition.if_match_modified, current)
            && time.seconds() != row.modified.seconds()
        {
            return failed(Precondition::IfMatchLastModified);
        }
        Ok(())
    }

    /// Where the version stands in its key's list.
    fn find(&self, key: &str, version: VersionSelector) -> Result<usize, Refusal> {
        let rows = self.versions.get(key).map(Vec::as_slice).unwrap_or(&[]);
        match version {
            VersionSelector::Latest if rows.is_empty() => Err(Refusal::NoSuchKey),
            VersionSelector::Latest => Ok(0),
            VersionSelector::Id(id) => rows
                .iter()
                .position(|row| row.id == id)
                .ok_or(Refusal::NoSuchVersion),
        }
    }

    /// Makes a version or a marker the newest one. There is one `null` version at most: a new one
    /// takes the old one's place, wherever that stood.
    fn insert(
        &mut self,
        key: &str,
        owner: AccountId,
        object: Option<Object>,
        stamp: Stamp,
    ) -> VersionId {
        let id = match self.info.versioning {
            Versioning::Off | Versioning::Suspended => VersionId::Null,
            Versioning::Enabled => VersionId::Ordered {
                order: stamp.order,
                nonce: stamp.nonce,
            },
        };
        self.remove(key, id);
        let row = Row {
            order: stamp.order,
            id,
            modified: stamp.now,
            owner,
            object,
        };
        self.versions
            .entry(key.to_owned())
            .or_default()
            .insert(0, row);
        id
    }

    fn remove(&mut self, key: &str, id: VersionId) -> Option<Row> {
        let rows = self.versions.get_mut(key)?;
        let place = rows.iter().position(|row| row.id == id)?;
        let row = rows.remove(place);
        if rows.is_empty() {
            self.versions.remove(key);
        }
        Some(row)
    }

    /// A version's id as answers tell it: not at all where the bucket never was versioned.
    fn shown(&self, id: VersionId) -> Option<VersionId> {
        (self.info.versioning != Versioning::Off).then_some(id)
    }
}
