//! Multipart uploads.

use super::{B, Reply, TestReplica, id};
use crate::meta::command::{Change, ChosenPart, NewData, Outcome};
use crate::meta::view::content::{Content, PARTS_AT_ONCE};
use drystone_store::error::Refusal;
use drystone_store::listings::ListUploads;
use drystone_store::objects::{ETagCondition, ReadScope, WriteCondition};
use drystone_store::types::{
    Attributes, ByteRange, ETag, Epoch, RangeSpec, UploadId, VersionSelector, Versioning, WriteId,
};
use drystone_store::uploads::PART_NUMBER_MAX;

impl TestReplica {
    pub fn create_upload(&mut self, key: &str) -> UploadId {
        let upload = UploadId(id(1 << 50 | self.next()));
        let created = self.propose(Change::CreateUpload {
            bucket: B,
            key: key.into(),
            upload,
            attributes: Attributes {
                storage_class: "GLACIER_IR".into(),
                owner: super::owner(),
                ..Attributes::default()
            },
            checksum: None,
        });
        assert!(matches!(created, Ok(Reply::Timed { .. })), "{created:?}");
        upload
    }

    pub fn put_part(&mut self, key: &str, upload: UploadId, number: u16, data: NewData) -> Outcome {
        let digest = super::digest(data.size);
        self.propose(Change::PutPart {
            bucket: B,
            key: key.into(),
            upload,
            number,
            data,
            digest,
        })
    }

    fn part(&mut self, key: &str, upload: UploadId, number: u16, size: u64) -> ChosenPart {
        let data = self.sharded(size);
        let write_id = data.write_id;
        let put = self.put_part(key, upload, number, data);
        assert!(matches!(put, Ok(Reply::Timed { .. })), "{put:?}");
        ChosenPart {
            number,
            write_id,
            size,
        }
    }

    pub fn complete(
        &mut self,
        key: &str,
        upload: UploadId,
        parts: &[ChosenPart],
        condition: WriteCondition,
    ) -> Outcome {
        let nonce = self.next();
        self.propose(Change::CompleteUpload {
            bucket: B,
            key: key.into(),
            upload,
            parts: parts.to_vec(),
            etag: ETag {
                md5: [9; 16],
                parts: parts.len() as u32,
            },
            checksum: None,
            condition,
            nonce,
        })
    }
}

impl TestReplica {
    /// Releases all parts of a list that became garbage in this epoch, `max` with each command.
    /// Returns the number of commands.
    fn release(&mut self, list: WriteId, max: u32) -> usize {
        let epoch = self.epoch;
        let release = || Change::ReleaseParts { epoch, list, max };
        // A reader of this epoch may still read the list.
        assert_eq!(self.propose(release()), Err(Refusal::Conflict));
        self.epoch.0 += 1;
        let to = self.epoch;
        assert!(self.propose(Change::RaiseEpoch { to }).is_ok());
        assert!(self.propose(Change::RaiseFloor { to }).is_ok());
        for count in 1.. {
            match self.propose(release()) {
                Ok(Reply::Emptied { more: true }) => {}
                Ok(Reply::Emptied { more: false }) => return count,
                other => panic!("{other:?}"),
            }
        }
        unreachable!()
    }

    /// Makes an object of parts of this size.
    fn of_parts(&mut self, key: &str, count: u16, size: u64) -> UploadId {
        let upload = self.create_upload(key);
        let numbers = 1..=count;
        let parts: Vec<_> = numbers.map(|n| self.part(key, upload, n, size)).collect();
        let finished = self.complete(key, upload, &parts, WriteCondition::default());
        assert!(finished.is_ok());
        upload
    }
}

fn bytes(start: u64, end: u64) -> ByteRange {
    ByteRange { start, end }
}

fn garbage(replica: &TestReplica) -> Vec<WriteId> {
    let garbage = replica
        .state
        .view()
        .garbage(None, Epoch(u64::MAX), 99)
        .unwrap();
    garbage.rows.into_iter().map(|row| row.write_id).collect()
}

#[test]
fn s_20_completion_takes_the_chosen_parts_and_frees_the_others() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let upload = replica.create_upload("k");
    let replaced = replica.part("k", upload, 2, 50);
    let two = replica.part("k", upload, 2, 60);
    let unused = replica.part("k", upload, 5, 5);
    let seven = replica.part("k", upload, 7, 8);
    let thousand = replica.part("k", upload, 1000, 0);
    assert_eq!(garbage(&replica), [replaced.write_id]);
    replica.check();

    let chosen = [two, seven, thousand];
    let none = WriteCondition::default;
    let stale = [replaced.clone()];
    let refused = replica.complete("k", upload, &stale, none());
    assert_eq!(refused, Err(Refusal::InvalidPart { number: 2 }));
    let unordered = [chosen[1].clone(), chosen[0].clone()];
    let refused = replica.complete("k", upload, &unordered, none());
    assert_eq!(refused, Err(Refusal::InvalidPart { number: 2 }));
    let only_old = WriteCondition {
        if_match: Some(ETagCondition::Any),
        ..none()
    };
    let refused = replica.complete("k", upload, &chosen, only_old.clone());
    assert_eq!(refused, Err(Refusal::NoSuchKey));
    replica.check();

    let finished = replica.complete("k", upload, &chosen, none());
    assert!(matches!(finished, Ok(Reply::Written { size: 68, .. })));
    assert_eq!(garbage(&replica), [replaced.write_id, unused.write_id]);
    replica.check();
    // Another request, with any condition, gets the same answer, and there is one version.
    assert_eq!(replica.complete("k", upload, &chosen, only_old), finished);
    assert_eq!(replica.versions("k").len(), 1);
    let others = replica.complete("k", upload, &chosen[..1], none());
    assert_eq!(others, Err(Refusal::NoSuchUpload));
    let view = replica.state.view();
    let (numbers, reply) = view.finished(B, "k", upload).unwrap().unwrap();
    assert_eq!((numbers, Ok(reply)), (vec![2, 7, 1000], finished));
    let found = view.version(B, "k", VersionSelector::Latest).unwrap();
    assert_eq!(found.object.unwrap().attributes.storage_class, "GLACIER_IR");
}

#[test]
fn part_lists_are_read_by_offset_and_by_number() {
    let mut replica = TestReplica::new();
    let upload = replica.create_upload("k");
    let sizes = [(1, 10), (4, 20), (9, 5), (10, 0)];
    let parts = sizes.map(|(number, size)| replica.part("k", upload, number, size));
    let done = replica.complete("k", upload, &parts, WriteCondition::default());
    assert!(done.is_ok());
    let list = upload.0;
    let view = replica.state.view();
    let at = |offset| view.part_at(list, offset).unwrap().map(|part| part.number);
    assert_eq!(
        [0, 9, 10, 29, 30, 34, 35].map(at),
        [Some(1), Some(1), Some(4), Some(4), Some(9), Some(9), None]
    );
    let numbers = |parts: Vec<crate::meta::view::PartEntry>| -> Vec<(u16, u64)> {
        parts.into_iter().map(|p| (p.number, p.offset)).collect()
    };
    assert_eq!(
        numbers(view.parts(list, 0, 99).unwrap()),
        [(1, 0), (4, 10), (9, 30), (10, 35)]
    );
    assert_eq!(numbers(view.parts(list, 4, 1).unwrap()), [(9, 30)]);
    assert_eq!(numbers(view.parts(list, 10, 9).unwrap()), []);
    assert_eq!(
        numbers(view.parts_within(list, bytes(12, 35), 2).unwrap()),
        [(4, 10), (9, 30)]
    );
    assert_eq!(
        numbers(view.parts_within(list, bytes(12, 30), 9).unwrap()),
        [(4, 10)]
    );
    assert_eq!(
        numbers(view.parts_within(list, bytes(35, 35), 9).unwrap()),
        []
    );
    let four = view.part(list, 4).unwrap().unwrap();
    assert_eq!((four.size, four.write_id), (20, parts[1].write_id));
    assert_eq!(view.part(list, 5).unwrap(), None);
    drop(view);
    replica.delete("k", None);
    assert_eq!(garbage(&replica), [list]);
    replica.check();
    replica.release(list, 9);
    assert_eq!(garbage(&replica).len(), 4);
    replica.check();
}

#[test]
fn s_20_an_abort_frees_every_part_and_ends_the_upload() {
    let mut replica = TestReplica::new();
    let upload = replica.create_upload("k");
    let parts = [1, 2].map(|number| replica.part("k", upload, number, 9));
    let abort = |key: &str| Change::AbortUpload {
        bucket: B,
        key: key.into(),
        upload,
    };
    assert_eq!(replica.propose(abort("other")), Err(Refusal::NoSuchUpload));
    replica.done(abort("k"));
    assert_eq!(replica.propose(abort("k")), Err(Refusal::NoSuchUpload));
    assert_eq!(garbage(&replica), parts.map(|part| part.write_id));
    let data = replica.inline("late");
    let late = replica.put_part("k", upload, 3, data);
    assert_eq!(late, Err(Refusal::NoSuchUpload));
    replica.check();
    replica.done(Change::SealBucket { id: B });
}

/// The rows of a bucket with very many parts are removed in steps.
#[test]
fn s_03_uploads_of_a_sealed_bucket_are_removed_step_by_step() {
    for max in [1, 2, 3, 5, 100] {
        let mut replica = TestReplica::new();
        let mut parts = Vec::new();
        for key in ["a", "b", "b"] {
            let upload = replica.create_upload(key);
            parts.extend([1, 2, 5].map(|number| replica.part(key, upload, number, 9).write_id));
        }
        replica.create_upload("empty");
        replica.done(Change::SealBucket { id: B });
        let mut steps = 0;
        let empty = Change::EmptyBucket { id: B, max };
        while replica.propose(empty.clone()) == Ok(Reply::Emptied { more: true }) {
            steps += 1;
            replica.check();
        }
        // Nine parts and four uploads, of which one may come with the step's last part.
        assert!(steps >= 9 / max && steps <= 13, "{max}: {steps}");
        let mut found = garbage(&replica);
        found.sort_unstable();
        parts.sort_unstable();
        assert_eq!(found, parts);
        replica.check();
    }
}

#[test]
fn uploads_are_listed_by_key_and_start_and_pages_meet() {
    let mut replica = TestReplica::new();
    let keys = ["b/1", "a", "b/2", "a", "c", "a"];
    let ids = keys.map(|key| (key, replica.create_upload(key)));
    let mut sorted = ids.to_vec();
    sorted.sort_by_key(|(key, _)| *key);
    for max in 1..8 {
        let mut request = ListUploads {
            prefix: String::new(),
            delimiter: String::new(),
            key_after: String::new(),
            upload_after: None,
            max,
        };
        let mut found = Vec::new();
        loop {
            let page = replica.state.view().list_uploads(B, &request).unwrap();
            found.extend(page.uploads.into_iter().map(|u| (u.key, u.id)));
            let Some((key, upload)) = page.next else {
                break;
            };
            (request.key_after, request.upload_after) = (key, upload);
        }
        let expected: Vec<_> = sorted.iter().map(|(k, id)| (k.to_string(), *id)).collect();
        assert_eq!(found, expected, "pages of {max}");
    }
    let request = ListUploads {
        prefix: String::new(),
        delimiter: "/".into(),
        key_after: "a".into(),
        upload_after: None,
        max: 1,
    };
    let page = replica.state.view().list_uploads(B, &request).unwrap();
    assert_eq!(page.prefixes, ["b/"]);
    assert_eq!(page.next, Some(("b/".into(), None)));
    let view = replica.state.view();
    assert!(view.upload(B, "a", ids[1].1).is_ok());
    let foreign = super::refusal(view.upload(B, "c", ids[1].1));
    assert_eq!(foreign, Err(Refusal::NoSuchUpload));
}

#[test]
fn parts_of_an_upload_are_listed_by_number() {
    let mut replica = TestReplica::new();
    let upload = replica.create_upload("k");
    for number in [300, 2, 10] {
        replica.part("k", upload, number, u64::from(number));
    }
    let view = replica.state.view();
    let numbers = |after, max| -> Vec<u16> {
        let parts = view.upload_parts(upload, after, max).unwrap();
        parts.into_iter().map(|part| part.part.number).collect()
    };
    assert_eq!(numbers(0, 9), [2, 10, 300]);
    assert_eq!(numbers(2, 1), [10]);
    assert_eq!(numbers(300, 1), [0; 0]);
    let chosen = view.chosen_parts(upload, &[10, 11]).unwrap();
    assert!(chosen[0].is_some() && chosen[1].is_none());
}

/// Once a round of gc after a restart dropped it, and the client's second try was told that there
/// is no such upload.
#[test]
fn s_20_the_outcome_of_an_upload_is_kept_for_its_time_whatever_the_floor() {
    let mut replica = TestReplica::new();
    let uploads = ["a", "b", "c"].map(|key| {
        let upload = replica.create_upload(key);
        let part = replica.part(key, upload, 1, 5);
        let done = replica.complete(key, upload, &[part], WriteCondition::default());
        assert!(done.is_ok());
        (key, upload)
    });
    let to = Epoch(9);
    replica.epoch = to;
    assert!(replica.propose(Change::RaiseEpoch { to }).is_ok());
    assert!(replica.propose(Change::RaiseFloor { to }).is_ok());
    let kept = |replica: &TestReplica| {
        let is_kept = |(key, upload): &(&'static str, UploadId)| {
            let view = replica.state.view();
            view.finished(B, key, *upload).unwrap().is_some()
        };
        uploads.iter().filter(|upload| is_kept(upload)).count()
    };
    let drop_after = |replica: &mut TestReplica, finished_ms, max| {
        replica.propose(Change::DropAnswers {
            issued_below: to,
            finished_ms,
            max,
        })
    };
    let dropped = |more| Ok(Reply::Dropped { more });
    assert_eq!(drop_after(&mut replica, 3_600_000, 9), dropped(false));
    assert_eq!(kept(&replica), 3);
    // A second passes with each command.
    replica.put("x");
    assert_eq!(drop_after(&mut replica, 0, 2), dropped(true));
    assert_eq!(kept(&replica), 1);
    assert_eq!(drop_after(&mut replica, 0, 2), dropped(false));
    assert_eq!(kept(&replica), 0);
    replica.check();
}

/// No byte is copied, so the largest possible object is completed at once.
#[test]
fn s_20_ten_thousand_parts_of_five_gibibytes() {
    use drystone_store::uploads::PART_SIZE_MAX_BYTES;
    let mut replica = TestReplica::with(Versioning::Off);
    let upload = replica.create_upload("k");
    let parts: Vec<_> = (1..=PART_NUMBER_MAX)
        .map(|number| replica.part("k", upload, number, PART_SIZE_MAX_BYTES))
        .collect();
    let whole = u64::from(PART_NUMBER_MAX) * PART_SIZE_MAX_BYTES;
    let finished = replica.complete("k", upload, &parts, WriteCondition::default());
    assert!(matches!(finished, Ok(Reply::Written { size, .. }) if size == whole));
    let view = replica.state.view();
    let list = upload.0;
    for number in [1, 2, 21, 5_000, 9_999, 10_000] {
        let part = view.part(list, number).unwrap().unwrap();
        let offset = u64::from(number - 1) * PART_SIZE_MAX_BYTES;
        assert_eq!(
            (part.offset, part.write_id),
            (offset, parts[usize::from(number) - 1].write_id)
        );
        for at in [offset, offset + PART_SIZE_MAX_BYTES - 1] {
            let found = view.parts_within(list, bytes(at, whole), 1).unwrap();
            assert_eq!(found[0].number, number);
        }
    }
    let behind = view.parts_within(list, bytes(whole, whole + 1), 1);
    assert_eq!(behind.unwrap(), []);
    let page = view.parts(list, 9_000, 1000).unwrap();
    assert_eq!((page.len(), page[999].number), (1000, 10_000));
}

/// Once a HEAD, and each range of 4 KiB, read the rows of all parts: 20,000 for 10,000 parts.
#[test]
fn f_35_opening_an_object_of_ten_thousand_parts_reads_the_rows_that_it_needs() {
    const SIZE: u64 = 100;
    let mut replica = TestReplica::new();
    replica.of_parts("k", PART_NUMBER_MAX, SIZE);
    let whole = u64::from(PART_NUMBER_MAX) * SIZE;
    let open = |scope| {
        let view = replica.state.view();
        let opened = view.open(B, "k", VersionSelector::Latest, scope);
        let (version, content) = opened.unwrap();
        assert_eq!(version.object.unwrap().size, whole);
        let parts = match content {
            Some(Content::Parts(parts)) => parts.iter().map(|p| p.part.number).collect(),
            Some(Content::OneWrite(_)) => panic!("it has parts"),
            None => Vec::new(),
        };
        (parts, view.reads())
    };
    let (none, head) = open(ReadScope::Nothing);
    assert_eq!(
        (none.len(), head),
        (0, 3),
        "the bucket, the key, the version"
    );
    let range = |first, last| ReadScope::Range(RangeSpec::Between(first, last));
    for (scope, expected) in [
        (range(499_910, 499_950), vec![5_000]),
        (range(499_999, 500_000), vec![5_000, 5_001]),
        (range(0, 0), vec![1]),
        (ReadScope::Range(RangeSpec::Last(1)), vec![10_000]),
        (ReadScope::Range(RangeSpec::From(whole - 1)), vec![10_000]),
        (ReadScope::Range(RangeSpec::From(whole)), vec![]),
        (ReadScope::Part(5_000), vec![5_000]),
        (ReadScope::Part(10_001), vec![]),
    ] {
        let (parts, reads) = open(scope);
        assert_eq!(parts, expected, "{scope:?}");
        // The list's data row, the search for its first part, and two rows of each part.
        let most = head + 4 + 2 * expected.len();
        assert!(reads <= most, "{scope:?}: {reads} rows");
    }
    for scope in [ReadScope::Whole, range(250, whole)] {
        let (parts, reads) = open(scope);
        assert_eq!(parts.len(), PARTS_AT_ONCE);
        assert!(reads <= head + 2 + 2 * PARTS_AT_ONCE, "{reads} rows");
    }
}

/// Found by reading: a thousand keys of ten thousand parts each were deleted in one batch.
#[test]
fn f_31_an_object_of_many_parts_is_deleted_at_once_and_its_parts_some_at_a_time() {
    let mut replica = TestReplica::new();
    let list = replica.of_parts("k", 1000, 9).0;
    let rows = |replica: &TestReplica| {
        let view = replica.state.view();
        let data = view.shard_sets(None, 2000).unwrap().0.len();
        (view.parts(list, 0, 2000).unwrap().len(), data)
    };
    replica.delete("k", None);
    assert_eq!(rows(&replica), (1000, 1000));
    assert_eq!(garbage(&replica), [list]);
    replica.check();
    assert_eq!(replica.release(list, 300), 4);
    assert_eq!(rows(&replica), (0, 0));
    let view = replica.state.view();
    let removed = view.garbage(None, Epoch(u64::MAX), 2000).unwrap().rows;
    assert!(removed.iter().all(|row| row.epoch == replica.epoch));
    assert_eq!(removed.len(), 1000);
    replica.check();
}
