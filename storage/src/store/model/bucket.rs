//! One bucket of the model: its versions, and what writes and deletes do to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::rows::{BucketState, NewVersion, Object, Row, Stamp, Stored, UploadState, total_len};
use crate::error::{Precondition, Refusal};
use crate::store::{
    Addition, AdditionOf, DeleteObject, Deleted, ETagCondition, PutObject, WriteCondition, Written,
};
use crate::types::{
    AccountId, Bucket, Digest, ETag, ObjectVersion, Tags, Usage, Version, VersionId,
    VersionSelector, Versioning, WriteId,
};

type Result<T> = std::result::Result<T, Refusal>;

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
            stored: Arc::new(Stored {
                write_id,
                size: total_len(&data),
                etag: ETag {
                    md5: digest.md5,
                    parts: 0,
                },
                checksum: digest.checksum,
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

    fn object(&self, latest: bool) -> Result<&Object> {
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
            size: self.stored.size,
            etag: self.stored.etag,
            checksum: self.stored.checksum.clone(),
            attributes: self.attributes.clone(),
            write_id: self.stored.write_id,
        }
    }
}

impl BucketState {
    pub fn new(info: Bucket) -> BucketState {
        BucketState {
            info,
            versions: BTreeMap::new(),
            uploads: BTreeMap::new(),
            completed: BTreeMap::new(),
        }
    }

    /// No version, no marker, no upload.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.uploads.is_empty()
    }

    pub fn put(&mut self, new: NewVersion, stamp: Stamp) -> Result<Written> {
        self.check(&new.key, &new.condition)?;
        let of = AdditionOf::Object {
            key: new.key.clone(),
        };
        let bytes = new.stored.size;
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
                stored: new.stored.clone(),
            }),
            stamp,
        );
        Written {
            version_id: self.shown(id),
            etag: new.stored.etag,
            size: new.stored.size,
            checksum: new.stored.checksum.clone(),
            modified: stamp.now,
        }
    }

    /// Counted anew each time, so that no count can be wrong.
    pub fn usage(&self) -> Usage {
        let rows = || self.versions.values().flatten();
        let objects = || rows().filter_map(|row| row.object.as_ref());
        Usage {
            objects: objects().count() as u64,
            markers: rows().filter(|row| row.object.is_none()).count() as u64,
            uploads: self.uploads.len() as u64,
            object_bytes: objects().map(|object| object.stored.size).sum(),
            part_bytes: self.uploads.values().map(UploadState::part_bytes).sum(),
        }
    }

    /// The object that a new version of the key takes the place of.
    pub fn replaced(&self, key: &str) -> Option<&Object> {
        let keeps = self.info.versioning == Versioning::Enabled;
        let rows = self.versions.get(key).filter(|_| !keeps)?;
        let null = rows.iter().find(|row| row.id == VersionId::Null)?;
        null.object.as_ref()
    }

    pub fn check_quota(&self, addition: &Addition) -> Result<()> {
        let used = self.usage();
        let mut wanted = used;
        match &addition.of {
            AdditionOf::Object { key } => {
                let replaced = self.replaced(key);
                wanted.objects += u64::from(replaced.is_none());
                wanted.object_bytes -= replaced.map_or(0, |object| object.stored.size);
                wanted.object_bytes += addition.bytes;
            }
            AdditionOf::Part { upload, number } => {
                let upload = self.uploads.values().find(|state| state.info.id == *upload);
                let replaced = upload.map_or(0, |upload| upload.part_len(*number));
                wanted.part_bytes = wanted.part_bytes - replaced + addition.bytes;
            }
        }
        self.info.quota.allows(&used, &wanted)
    }

    pub fn link(&mut self, source: WriteId, request: PutObject, stamp: Stamp) -> Result<Written> {
        let stored = self
            .versions
            .values()
            .flatten()
            .filter_map(|row| row.object.as_ref())
            .find(|object| object.stored.write_id == source)
            .map(|object| object.stored.clone())
            .ok_or(Refusal::Conflict)?;
        let new = NewVersion {
            key: request.key,
            attributes: request.attributes,
            condition: request.condition,
            stored,
        };
        self.put(new, stamp)
    }

    pub fn open(&self, key: &str, version: VersionSelector) -> Result<(Version, Arc<Stored>)> {
        let place = self.find(key, version)?;
        let row = &self.versions[key][place];
        let object = row.object(version == VersionSelector::Latest)?;
        Ok((row.version(key, place == 0), object.stored.clone()))
    }

    pub fn put_tags(
        &mut self,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>> {
        let place = self.find(key, version)?;
        let rows = self.versions.get_mut(key).expect("just found");
        rows[place].object(version == VersionSelector::Latest)?;
        if let Some(object) = &mut rows[place].object {
            object.attributes.tags = tags;
        }
        let id = rows[place].id;
        Ok(self.shown(id))
    }

    pub fn delete(&mut self, request: DeleteObject, stamp: Stamp) -> Result<Deleted> {
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
    pub fn check(&self, key: &str, condition: &WriteCondition) -> Result<()> {
        let newest = self.versions.get(key).and_then(|rows| rows.first());
        let current = newest.and_then(|row| Some((row, row.object.as_ref()?)));
        let etag = current.map(|(_, object)| object.stored.etag);
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
            && size != object.stored.size
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
    fn find(&self, key: &str, version: VersionSelector) -> Result<usize> {
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
