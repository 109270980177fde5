//! The same random operations on a store and on the model: every answer must be alike.
//!
//! Ids and times are each store's own, so before two answers are compared an id becomes its place
//! in the order in which its store first told it, and a time becomes zero. A failure prints the
//! shortest operations found that show it, and its seed goes to `proptest-regressions`.
//!
//! After the operations what is left is read in full and held against itself (see `Side::audit`),
//! so that a fault that both share is seen too.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use drystone_storage::error::{Error, Refusal, Result};
use drystone_storage::store::{
    CompleteUpload, CompletedPart, CreateBucket, CreateUpload, DeleteObject, ETagCondition,
    ListObjects, ListUploads, ListVersions, ObjectHandle, ObjectPage, ObjectStore, PutObject,
    UploadPage, VersionPage, WriteCondition, Written,
};
use drystone_storage::types::{
    AccountId, Attributes, BucketId, ByteRange, ChecksumAlgorithm, ChecksumType, ETag, Order,
    Timestamp, Upload, UploadId, UploadedPart, Version, VersionId, VersionSelector, Versioning,
    WriteId,
};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::body::{TestBody, etag, pattern, read_all};
use crate::multipart::MIN;
use crate::objects::BOUNDARIES;
use crate::subject::{Subject, model};

const CASES: u32 = 48;
const OPS_MAX: usize = 50;
/// Failing operations are shortened in at most so many steps.
const SHRINK_STEPS_MAX: u32 = 400;

/// Most operations meet on the first ones.
const KEYS: [&str; 9] = [
    "a",
    "a/",
    "a/b",
    "a//b",
    "/x",
    "..",
    "é",
    "\0",
    "a\u{10ffff}",
];

#[derive(Clone, Debug)]
enum Op {
    Put {
        key: &'static str,
        len: usize,
        seed: u64,
        checksum: Option<ChecksumAlgorithm>,
        tagged: bool,
        condition: Condition,
        interrupted: bool,
    },
    Get {
        key: &'static str,
        version: Pick,
        /// Of the size, in 256ths.
        range: (u8, u8),
    },
    Link {
        from: &'static str,
        version: Pick,
        to: &'static str,
        tagged: bool,
        condition: Condition,
        /// The source is removed between its opening and the link.
        late: bool,
    },
    Tags {
        key: &'static str,
        version: Pick,
    },
    Delete(Vec<(&'static str, Pick, Condition)>),
    SetVersioning(bool),
    RenewBucket,
    List {
        what: Listing,
        prefix: &'static str,
        delimiter: &'static str,
        after: &'static str,
        marker: Option<usize>,
        max: usize,
    },
    CreateUpload {
        key: &'static str,
        checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    },
    PutPart {
        upload: usize,
        number: u16,
        len: usize,
        seed: u64,
        interrupted: bool,
    },
    ListParts {
        upload: usize,
        max: usize,
    },
    Complete {
        upload: usize,
        /// Which of the parts there are it names.
        mask: u8,
        wrong_etag: bool,
        wrong_size: bool,
        condition: Condition,
    },
    CompleteAgain(usize),
    Abort(usize),
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Listing {
    Objects,
    Versions,
    Uploads,
}

#[derive(Clone, Copy, Debug)]
enum Pick {
    Latest,
    Null,
    /// Of the ids told so far, be it this key's or there any more.
    Nth(usize),
}

/// A number stands for one of the ETags told so far.
#[derive(Clone, Debug)]
enum Condition {
    No,
    Match(Option<usize>),
    NoneMatch(Option<usize>),
    Size(u64),
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        3 => Just(KEYS[0]),
        2 => prop::sample::select(&KEYS[1..3]),
        2 => prop::sample::select(&KEYS[..]),
    ]
}

fn len() -> impl Strategy<Value = usize> {
    let near = (prop::sample::select(&BOUNDARIES[..]), 0..3usize);
    prop_oneof![
        4 => 0..100usize,
        2 => near.prop_map(|(at, off)| (at + off).saturating_sub(1)),
        1 => 0..600_000usize,
    ]
}

fn part_len() -> impl Strategy<Value = usize> {
    prop_oneof![8 => len(), 1 => Just(MIN - 1), 2 => MIN..MIN + 3]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        3 => Just(Pick::Latest),
        1 => Just(Pick::Null),
        2 => any::<usize>().prop_map(Pick::Nth),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => Just(Condition::No),
        1 => any::<Option<usize>>().prop_map(Condition::Match),
        1 => any::<Option<usize>>().prop_map(Condition::NoneMatch),
        1 => (0..3u64).prop_map(Condition::Size),
    ]
}

fn algorithm() -> impl Strategy<Value = ChecksumAlgorithm> {
    prop::sample::select(&ChecksumAlgorithm::ALL[..])
}

fn upload_checksum() -> impl Strategy<Value = Option<(ChecksumAlgorithm, ChecksumType)>> {
    let kind = prop::sample::select(&[ChecksumType::Composite, ChecksumType::FullObject][..]);
    let valid = |sum: &Option<(ChecksumAlgorithm, ChecksumType)>| {
        sum.is_none_or(|(algorithm, kind)| algorithm.supports(kind))
    };
    prop::option::of((algorithm(), kind)).prop_filter("S3 has no such checksum", valid)
}

fn object_op() -> impl Strategy<Value = Op> {
    let put = (
        (key(), len(), 0..4u64),
        prop::option::weighted(0.3, algorithm()),
        any::<bool>(),
        condition(),
        prop::bool::weighted(0.05),
    );
    let link = (
        key(),
        pick(),
        key(),
        any::<bool>(),
        condition(),
        prop::bool::weighted(0.1),
    );
    prop_oneof![
        6 => put.prop_map(|((key, len, seed), checksum, tagged, condition, interrupted)| Op::Put {
            key, len, seed, checksum, tagged, condition, interrupted,
        }),
        2 => (key(), pick(), any::<(u8, u8)>()).prop_map(|(key, version, range)| Op::Get {
            key, version, range,
        }),
        2 => link.prop_map(|(from, version, to, tagged, condition, late)| Op::Link {
            from, version, to, tagged, condition, late,
        }),
        1 => (key(), pick()).prop_map(|(key, version)| Op::Tags { key, version }),
        4 => prop::collection::vec((key(), pick(), condition()), 1..4).prop_map(Op::Delete),
        1 => any::<bool>().prop_map(Op::SetVersioning),
        1 => Just(Op::RenewBucket),
        1 => Just(Op::Restart),
    ]
}

fn listing_op() -> impl Strategy<Value = Op> {
    let what = [Listing::Objects, Listing::Versions, Listing::Uploads];
    let asked = (
        prop::sample::select(what.to_vec()),
        prop::sample::select(vec!["", "", "a", "a/", "b"]),
        prop::sample::select(vec!["", "/", "//", "a", "b"]),
        prop_oneof![2 => Just(""), 1 => key()],
        any::<Option<usize>>(),
        1..6usize,
    );
    asked.prop_map(|(what, prefix, delimiter, after, marker, max)| Op::List {
        what,
        prefix,
        delimiter,
        after,
        marker: marker.filter(|_| !after.is_empty()),
        max,
    })
}

fn upload_op() -> impl Strategy<Value = Op> {
    let part = (
        0..4usize,
        1..6u16,
        part_len(),
        0..4u64,
        prop::bool::weighted(0.05),
    );
    let complete = (
        0..4usize,
        any::<u8>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        condition(),
    );
    prop_oneof![
        3 => (key(), upload_checksum())
            .prop_map(|(key, checksum)| Op::CreateUpload { key, checksum }),
        6 => part.prop_map(|(upload, number, len, seed, interrupted)| Op::PutPart {
            upload, number, len, seed, interrupted,
        }),
        1 => (0..4usize, 1..4usize).prop_map(|(upload, max)| Op::ListParts { upload, max }),
        3 => complete.prop_map(|(upload, mask, wrong_etag, wrong_size, condition)| Op::Complete {
            upload, mask, wrong_etag, wrong_size, condition,
        }),
        1 => (0..4usize).prop_map(Op::CompleteAgain),
        1 => (0..4usize).prop_map(Op::Abort),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![5 => object_op(), 2 => listing_op(), 4 => upload_op()];
    prop::collection::vec(op, 1..OPS_MAX)
}

/// Ids in the order in which the store first told them.
#[derive(Default)]
struct Names {
    versions: Vec<VersionId>,
    uploads: Vec<UploadId>,
    writes: Vec<WriteId>,
}

fn place<T: PartialEq + Copy>(known: &mut Vec<T>, id: T) -> usize {
    let found = known.iter().position(|old| *old == id);
    found.unwrap_or_else(|| {
        known.push(id);
        known.len() - 1
    })
}

/// Replaces what is a store's own by what all stores have in common.
trait Common {
    fn common(&mut self, names: &mut Names);
}

impl Common for VersionId {
    fn common(&mut self, names: &mut Names) {
        if *self != VersionId::Null {
            let order = Order(place(&mut names.versions, *self) as u64);
            *self = VersionId::Ordered { order, nonce: 0 };
        }
    }
}

impl Common for UploadId {
    fn common(&mut self, names: &mut Names) {
        let place = place(&mut names.uploads, *self) as u128;
        *self = UploadId(WriteId(place.to_be_bytes()));
    }
}

impl Common for Timestamp {
    fn common(&mut self, _: &mut Names) {
        *self = Timestamp(0);
    }
}

impl<T: Common> Common for Option<T> {
    fn common(&mut self, names: &mut Names) {
        self.iter_mut().for_each(|inner| inner.common(names));
    }
}

impl<T: Common> Common for Vec<T> {
    fn common(&mut self, names: &mut Names) {
        self.iter_mut().for_each(|inner| inner.common(names));
    }
}

impl<T: Common> Common for (String, T) {
    fn common(&mut self, names: &mut Names) {
        self.1.common(names);
    }
}

impl Common for Version {
    fn common(&mut self, names: &mut Names) {
        self.id.common(names);
        self.modified.common(names);
        if let Some(object) = &mut self.object {
            let place = place(&mut names.writes, object.write_id) as u128;
            object.write_id = WriteId(place.to_be_bytes());
        }
    }
}

impl Common for Written {
    fn common(&mut self, names: &mut Names) {
        self.version_id.common(names);
        self.modified.common(names);
    }
}

impl Common for drystone_storage::store::Deleted {
    fn common(&mut self, names: &mut Names) {
        self.version_id.common(names);
    }
}

impl Common for UploadedPart {
    fn common(&mut self, names: &mut Names) {
        self.modified.common(names);
    }
}

impl Common for Upload {
    fn common(&mut self, names: &mut Names) {
        self.id.common(names);
        self.initiated.common(names);
    }
}

impl Common for ObjectPage {
    fn common(&mut self, names: &mut Names) {
        for object in &mut self.objects {
            object.modified.common(names);
        }
    }
}

impl Common for VersionPage {
    fn common(&mut self, names: &mut Names) {
        self.versions.common(names);
        self.next.common(names);
    }
}

impl Common for UploadPage {
    fn common(&mut self, names: &mut Names) {
        self.uploads.common(names);
        self.next.common(names);
    }
}

impl Common for (Vec<UploadedPart>, bool) {
    fn common(&mut self, names: &mut Names) {
        self.0.common(names);
    }
}

impl Common for () {
    fn common(&mut self, _: &mut Names) {}
}

/// One store and what a client of it knows.
struct Side<S> {
    subject: S,
    bucket: BucketId,
    names: Names,
    etags: Vec<ETag>,
    /// By the upload's place: where it is and how it was completed.
    keys: BTreeMap<usize, String>,
    completions: BTreeMap<usize, CompleteUpload>,
}

impl<S: Subject> Side<S> {
    async fn new(subject: S) -> Side<S> {
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

    fn store(&self) -> Arc<dyn ObjectStore> {
        self.subject.store()
    }

    /// An answer as it can be compared.
    fn tell<T: Common + Debug>(&mut self, answer: Result<T>) -> String {
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

    fn version(&self, pick: Pick) -> VersionSelector {
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

    /// The `n`-th upload ever and its key; before the first, one that never was.
    fn upload(&self, n: usize) -> (usize, String, UploadId) {
        match self.names.uploads.len() {
            0 => (0, "a".to_owned(), UploadId(WriteId([9; 16]))),
            len => {
                // The newest ones are the ones still open.
                let place = len - 1 - n % len;
                (place, self.keys[&place].clone(), self.names.uploads[place])
            }
        }
    }

    async fn run(&mut self, op: &Op) -> String {
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
            Op::RenewBucket => {
                let answer = store.delete_bucket(bucket).await;
                if answer.is_ok() {
                    self.bucket = create(&*store).await.unwrap();
                }
                self.tell(answer)
            }
            Op::List { what, .. } => match what {
                Listing::Objects => self.list_objects(op).await,
                Listing::Versions => self.list_versions(op).await,
                Listing::Uploads => self.list_uploads(op).await,
            },
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
                let Some(request) = self.completions.get(&place).cloned() else {
                    return "never completed".to_owned();
                };
                let answer = store.complete_upload(bucket, request).await;
                self.tell_written(answer)
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

    async fn get(&mut self, key: &str, version: Pick, (a, b): (u8, u8)) -> String {
        let opened = self
            .store()
            .open_object(self.bucket, key, self.version(version))
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
        let source = match store.open_object(self.bucket, from, version).await {
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
        // Which of the two is told, when both would be, is left to the store.
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

    async fn list_objects(&mut self, op: &Op) -> String {
        let Op::List {
            prefix,
            delimiter,
            after,
            max,
            ..
        } = op
        else {
            unreachable!("only called for listings");
        };
        let mut request = ListObjects {
            prefix: (*prefix).to_owned(),
            delimiter: (*delimiter).to_owned(),
            after: (*after).to_owned(),
            max: 1000,
        };
        let whole = self
            .store()
            .list_objects(self.bucket, request.clone())
            .await
            .unwrap();
        let mut sum = ObjectPage::default();
        request.max = *max;
        loop {
            let page = self
                .store()
                .list_objects(self.bucket, request.clone())
                .await
                .unwrap();
            sum.objects.extend(page.objects);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            request.after = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
    }

    async fn list_versions(&mut self, op: &Op) -> String {
        let Op::List {
            prefix,
            delimiter,
            after,
            marker,
            max,
            ..
        } = op
        else {
            unreachable!("only called for listings");
        };
        let marker = marker.map(|n| match self.version(Pick::Nth(n)) {
            VersionSelector::Id(id) => id,
            VersionSelector::Latest => unreachable!("a picked version has an id"),
        });
        let mut request = ListVersions {
            prefix: (*prefix).to_owned(),
            delimiter: (*delimiter).to_owned(),
            key_after: (*after).to_owned(),
            version_after: marker,
            max: 1000,
        };
        let whole = self
            .store()
            .list_versions(self.bucket, request.clone())
            .await
            .unwrap();
        let mut sum = VersionPage::default();
        request.max = *max;
        loop {
            let page = self
                .store()
                .list_versions(self.bucket, request.clone())
                .await
                .unwrap();
            sum.versions.extend(page.versions);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            (request.key_after, request.version_after) = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
    }

    async fn list_uploads(&mut self, op: &Op) -> String {
        let Op::List {
            prefix,
            delimiter,
            after,
            marker,
            max,
            ..
        } = op
        else {
            unreachable!("only called for listings");
        };
        let marker = marker.map(|n| self.upload(n).2);
        let mut request = ListUploads {
            prefix: (*prefix).to_owned(),
            delimiter: (*delimiter).to_owned(),
            key_after: (*after).to_owned(),
            upload_after: marker,
            max: 1000,
        };
        let whole = self
            .store()
            .list_uploads(self.bucket, request.clone())
            .await
            .unwrap();
        let mut sum = UploadPage::default();
        request.max = *max;
        loop {
            let page = self
                .store()
                .list_uploads(self.bucket, request.clone())
                .await
                .unwrap();
            sum.uploads.extend(page.uploads);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            (request.key_after, request.upload_after) = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
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

    /// Reads all there is and holds it against itself: what is listed as current is what is the
    /// latest and no marker; one latest and at most one `null` version for each key; every version
    /// opens and has the bytes its ETag says. Answers all of it, for the other side's sake.
    async fn audit(&mut self) -> String {
        let (store, bucket) = (self.store(), self.bucket);
        let versions = crate::versions::all_versions(&*store, bucket).await;
        let current = crate::versions::all_objects(&*store, bucket).await;
        let latest: Vec<&Version> = versions
            .iter()
            .filter(|version| version.is_latest)
            .collect();
        let latest_objects = latest.iter().filter(|version| version.object.is_some());
        assert!(latest_objects.map(|version| &version.key).eq(&current));
        let mut keys: Vec<&str> = versions
            .iter()
            .map(|version| version.key.as_str())
            .collect();
        keys.dedup();
        assert!(keys.is_sorted());
        assert!(
            latest
                .iter()
                .map(|version| version.key.as_str())
                .eq(keys.iter().copied())
        );
        for key in keys {
            let of_key = versions.iter().filter(|version| version.key == key);
            assert!(
                of_key
                    .filter(|version| version.id == VersionId::Null)
                    .count()
                    <= 1
            );
        }
        for version in &versions {
            let id = VersionSelector::Id(version.id);
            let opened = store.open_object(bucket, &version.key, id).await;
            match opened {
                Ok(handle) => check_bytes(&*handle, version).await,
                Err(Error::Refused(Refusal::DeleteMarker { .. })) => {
                    assert!(version.object.is_none());
                }
                Err(other) => panic!("{}: {other:?}", version.key),
            }
        }
        let mut told = self.tell(Ok(versions));
        for place in 0..self.names.uploads.len() {
            let (key, id) = (self.keys[&place].clone(), self.names.uploads[place]);
            let parts = store.list_parts(bucket, &key, id, 0, 1000).await;
            told += &self.tell(parts);
        }
        told
    }
}

async fn check_bytes(handle: &dyn ObjectHandle, listed: &Version) {
    assert_eq!(handle.version(), listed);
    let bytes = read_all(handle).await;
    if handle.parts_count() == 0 {
        assert_eq!(etag(&bytes), handle.object().etag);
    }
    let parts = handle.parts(0, 1000).await.unwrap();
    assert_eq!(parts.len(), handle.parts_count() as usize);
    let mut offset = 0;
    for part in parts {
        assert_eq!(part.offset, offset);
        offset += part.size;
        let range = part.offset as usize..offset as usize;
        if let Some(sum) = part.checksum {
            let own = drystone_storage::checksum::checksum(sum.algorithm, &bytes[range]);
            assert_eq!(own.value, sum.value);
        }
    }
}

async fn create(store: &dyn ObjectStore) -> Result<BucketId> {
    let request = CreateBucket {
        name: "stones".to_owned(),
        owner: AccountId("111122223333".to_owned()),
        location: String::new(),
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

/// Gives both stores the operations, one by one, and compares.
fn drive<S: Subject, F: Future<Output = S>>(factory: impl Fn() -> F, ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut reference = Side::new(model().await).await;
        let mut other = Side::new(factory().await).await;
        for (step, op) in ops.iter().enumerate() {
            let expected = reference.run(op).await;
            let found = other.run(op).await;
            assert_eq!(found, expected, "step {step}: {op:?}");
        }
        let expected = reference.audit().await;
        assert_eq!(other.audit().await, expected, "what is left");
        other.store().close().await;
    });
}

proptest! {
    #![proptest_config(Config {
        cases: CASES,
        max_shrink_iters: SHRINK_STEPS_MAX,
        ..Config::default()
    })]

    /// Alone the model can only be held against itself.
    #[test]
    fn b_33_random_operations_on_the_model(ops in ops()) {
        drive(model, &ops);
    }
}
