//! One of the two stores that are driven side by side.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::buckets::CreateBucket;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::objects::{
    DeleteObject, ETagCondition, PutObject, ReadScope, WriteCondition, Written,
};
use drystone_store::types::{
    AccountId, Attributes, BucketId, ByteRange, ETag, QuotaChange, UploadId, VersionId,
    VersionSelector, Versioning, WriteId,
};
use drystone_store::uploads::{CompleteUpload, CompletedPart, CreateUpload};

use super::names::{Common, Names};
use super::ops::{Condition, Listing, Op, Pick};
use crate::body::{TestBody, etag, pattern};
use crate::subject::Subject;

/// One store and the knowledge of its client.
pub struct Side<S> {
    pub subject: S,
    pub bucket: BucketId,
    pub names: Names,
    etags: Vec<ETag>,
    /// The key of each upload, by the upload's place.
    pub keys: BTreeMap<usize, String>,
    completions: BTreeMap<usize, CompleteUpload>,
}

impl<S: Subject> Side<S> {
    pub async fn new(subject: S) -> Side<S> {
        let bucket = create(&*subject.store()).await;
        Side {
            subject,
            bucket: bucket.unwrap(),
            names: Names::default(),
            etags: Vec::new(),
            keys: BTreeMap::new(),
            completions: BTreeMap::new(),
        }
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.subject.store()
    }

    /// Returns an answer in a comparable form.
    pub fn tell<T: Common + Debug>(&mut self, answer: Result<T>) -> String {
        match answer {
            Ok(mut answer) => {
                answer.common(&mut self.names);
                format!("{answer:?}")
            }
            Err(Error::Refused(mut refusal)) => {
                if let Refusal::DeleteMarker { id, modified, .. } = &mut refusal {
                    id.common(&mut self.names);
                    modified.common(&mut self.names);
                }
                format!("refused: {refusal:?}")
            }
            Err(other) => format!("failed: {other:?}"),
        }
    }

    fn tell_written(&mut self, answer: Result<Written>) -> String {
        if let Ok(written) = &answer {
            self.etags.push(written.etag);
        }
        self.tell(answer)
    }

    pub fn version(&self, pick: Pick) -> VersionSelector {
        match pick {
            Pick::Latest => VersionSelector::Latest,
            Pick::Nth(n) if !self.names.versions.is_empty() => {
                VersionSelector::Id(self.names.versions[n % self.names.versions.len()])
            }
            Pick::Null | Pick::Nth(_) => VersionSelector::Id(VersionId::Null),
        }
    }

    fn condition(&self, condition: &Condition) -> WriteCondition {
        let etag = |n: &Option<usize>| match n {
            Some(n) if !self.etags.is_empty() => {
                ETagCondition::OneOf(vec![self.etags[n % self.etags.len()]])
            }
            _ => ETagCondition::Any,
        };
        let mut wanted = WriteCondition::default();
        match condition {
            Condition::No => {}
            Condition::Match(n) => wanted.if_match = Some(etag(n)),
            Condition::NoneMatch(n) => wanted.if_none_match = Some(etag(n)),
            Condition::Size(size) => wanted.if_match_size = Some(*size),
        }
        wanted
    }

    fn request(&self, key: &str, tagged: bool, condition: &Condition) -> PutObject {
        PutObject {
            key: key.to_owned(),
            attributes: attributes(tagged),
            condition: self.condition(condition),
        }
    }

    /// Returns the `n`-th upload ever and its key; before the first, one that never existed.
    pub fn upload(&self, n: usize) -> (usize, String, UploadId) {
        match self.names.uploads.len() {
            0 => (0, "a".to_owned(), UploadId(WriteId([9; 16]))),
            len => {
                // The newest ones are those still open.
                let place = len - 1 - n % len;
                (place, self.keys[&place].clone(), self.names.uploads[place])
            }
        }
    }

    pub async fn run(&mut self, op: &Op) -> String {
        let (store, bucket) = (self.store(), self.bucket);
        match op {
            Op::Put {
                key,
                len,
                seed,
                checksum,
                tagged,
                condition,
                interrupted,
            } => {
                let request = self.request(key, *tagged, condition);
                let body = body(*seed, *len, *interrupted).with_checksum(*checksum);
                let answer = store.put_object(bucket, request, &mut { body }).await;
                self.tell_written(answer)
            }
            Op::Get {
                key,
                version,
                range,
            } => self.get(key, *version, *range).await,
            Op::Link { .. } => self.link(op).await,
            Op::Tags { key, version } => {
                let tags = vec![("n".to_owned(), self.etags.len().to_string())];
                let version = self.version(*version);
                let answer = store.put_object_tags(bucket, key, version, tags).await;
                self.tell(answer)
            }
            Op::Delete(keys) => self.delete(keys).await,
            Op::SetVersioning(on) => {
                let to = if *on {
                    Versioning::Enabled
                } else {
                    Versioning::Suspended
                };
                let answer = store.set_versioning(bucket, to).await;
                self.tell(answer)
            }
            Op::SetQuota(bytes, objects) => {
                let used = store.usage(&[bucket]).await.unwrap()[0];
                let change = QuotaChange {
                    hard_bytes: Some(bytes.map(|more| used.bytes() + more)),
                    hard_objects: Some(objects.map(|more| used.objects + more)),
                    ..QuotaChange::default()
                };
                let answer = store.set_quota(bucket, change).await;
                self.tell(answer)
            }
            Op::RenewBucket => {
                let answer = store.delete_bucket(bucket).await;
                if answer.is_ok() {
                    self.bucket = create(&*store).await.unwrap();
                }
                self.tell(answer)
            }
            Op::List(Listing::Objects, pages) => self.list_objects(pages).await,
            Op::List(Listing::Versions, pages) => self.list_versions(pages).await,
            Op::List(Listing::Uploads, pages) => self.list_uploads(pages).await,
            Op::CreateUpload { key, checksum } => {
                let request = CreateUpload {
                    key: (*key).to_owned(),
                    attributes: attributes(true),
                    checksum: *checksum,
                };
                let answer = store.create_upload(bucket, request).await;
                let told = self.tell(answer);
                self.keys
                    .insert(self.names.uploads.len() - 1, (*key).to_owned());
                told
            }
            Op::PutPart {
                upload,
                number,
                len,
                seed,
                interrupted,
            } => {
                let (_, key, id) = self.upload(*upload);
                let Ok(found) = store.upload(bucket, &key, id).await else {
                    return "no such upload".to_owned();
                };
                let algorithm = found.checksum.map(|(algorithm, _)| algorithm);
                let mut body = body(*seed, *len, *interrupted).with_checksum(algorithm);
                let answer = store
                    .upload_part(bucket, &key, id, *number, &mut body)
                    .await;
                self.tell(answer)
            }
            Op::ListParts { upload, max } => {
                let (_, key, id) = self.upload(*upload);
                let answer = store.list_parts(bucket, &key, id, 1, *max).await;
                self.tell(answer)
            }
            Op::Complete { .. } => self.complete(op).await,
            Op::CompleteAgain(n) => {
                let place = self.upload(*n).0;
                self.complete_again(place).await
            }
            Op::Abort(n) => {
                let (_, key, id) = self.upload(*n);
                let answer = store.abort_upload(bucket, &key, id).await;
                self.tell(answer)
            }
            Op::Restart => {
                drop(store);
                self.subject.restart().await;
                String::new()
            }
        }
    }

    async fn complete_again(&mut self, place: usize) -> String {
        let Some(request) = self.completions.get(&place).cloned() else {
            return "never completed".to_owned();
        };
        let answer = self.store().complete_upload(self.bucket, request).await;
        self.tell_written(answer)
    }

    async fn get(&mut self, key: &str, version: Pick, (a, b): (u8, u8)) -> String {
        let opened = self
            .store()
            .open_object(self.bucket, key, self.version(version), ReadScope::Whole)
            .await;
        let handle = match opened {
            Ok(handle) => handle,
            Err(error) => return self.tell::<()>(Err(error)),
        };
        let size = handle.object().size;
        let at = |share: u8| size * u64::from(share) / 255;
        let range = ByteRange {
            start: at(a.min(b)),
            end: at(a.max(b)),
        };
        let read = crate::body::read(&*handle, range.start, range.end).await;
        let parts = handle.parts(1, 2).await.unwrap();
        let told = self.tell(Ok(handle.version().clone()));
        format!("{told} {range:?} {} {parts:?}", etag(&read))
    }

    async fn link(&mut self, op: &Op) -> String {
        let Op::Link {
            from,
            version,
            to,
            tagged,
            condition,
            late,
        } = op
        else {
            unreachable!("only called for links");
        };
        let (store, version) = (self.store(), self.version(*version));
        let source = match store
            .open_object(self.bucket, from, version, ReadScope::Whole)
            .await
        {
            Ok(source) => source,
            Err(error) => return self.tell::<()>(Err(error)),
        };
        if *late {
            let remove = DeleteObject {
                key: (*from).to_owned(),
                version: VersionSelector::Id(source.version().id),
                condition: WriteCondition::default(),
            };
            store.delete_object(self.bucket, remove).await.unwrap();
        }
        // If both would fail, the store may report either.
        let condition = if *late { &Condition::No } else { condition };
        let request = self.request(to, *tagged, condition);
        let answer = store.link_object(self.bucket, &*source, request).await;
        self.tell_written(answer)
    }

    async fn delete(&mut self, keys: &[(&str, Pick, Condition)]) -> String {
        let mut requests: Vec<DeleteObject> = keys
            .iter()
            .map(|(key, version, condition)| DeleteObject {
                key: (*key).to_owned(),
                version: self.version(*version),
                condition: self.condition(condition),
            })
            .collect();
        if requests.len() == 1 {
            let answer = self
                .store()
                .delete_object(self.bucket, requests.remove(0))
                .await;
            return self.tell(answer);
        }
        match self.store().delete_objects(self.bucket, requests).await {
            Ok(answers) => answers
                .into_iter()
                .map(|answer| self.tell(answer) + "; ")
                .collect(),
            Err(error) => self.tell::<()>(Err(error)),
        }
    }

    async fn complete(&mut self, op: &Op) -> String {
        let Op::Complete {
            upload,
            mask,
            wrong_etag,
            wrong_size,
            condition,
        } = op
        else {
            unreachable!("only called for completions");
        };
        let (place, key, id) = self.upload(*upload);
        let store = self.store();
        let parts = match store.list_parts(self.bucket, &key, id, 0, 1000).await {
            Ok((parts, _)) => parts,
            Err(error) => return self.tell::<()>(Err(error)),
        };
        let named = parts
            .into_iter()
            .filter(|part| mask & (1 << part.number) != 0);
        let mut named: Vec<CompletedPart> = named
            .map(|part| CompletedPart {
                number: part.number,
                etag: part.etag,
                checksum: part.checksum,
            })
            .collect();
        let Some(last) = named.last_mut() else {
            return "no part named".to_owned();
        };
        if *wrong_etag {
            last.etag = etag(b"another");
        }
        let request = CompleteUpload {
            key,
            upload: id,
            parts: named,
            checksum: None,
            size: wrong_size.then_some(u64::MAX),
            condition: self.condition(condition),
        };
        let answer = store.complete_upload(self.bucket, request.clone()).await;
        if answer.is_ok() {
            self.completions.insert(place, request);
        }
        self.tell_written(answer)
    }
}

async fn create(store: &dyn ObjectStore) -> Result<BucketId> {
    let request = CreateBucket {
        name: "stones".to_owned(),
        owner: AccountId("111122223333".to_owned()),
        location: String::new(),
        settings: Vec::new(),
    };
    Ok(store.create_bucket(request).await?.id)
}

fn body(seed: u64, len: usize, interrupted: bool) -> TestBody {
    let body = TestBody::new(pattern(seed, len));
    if interrupted {
        body.interrupted()
    } else {
        body
    }
}

fn attributes(tagged: bool) -> Attributes {
    Attributes {
        tags: Vec::from_iter(tagged.then(|| ("k".to_owned(), "v".to_owned()))),
        ..Default::default()
    }
}
