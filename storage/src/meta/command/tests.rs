//! The bytes of commands in the log, of answers, and of every enum in them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde::Serialize;

use super::*;
use crate::meta::keys::hex;
use crate::meta::record::{AnswerRow, Availability, DataKind, NameState, QueueProgress, Record};
use drystone_store::error::{Precondition, QuotaUnit};
use drystone_store::objects::ETagCondition;
use drystone_store::shard_set::ShardPlace;
use drystone_store::types::Order;

const BUCKET: BucketId = BucketId(5);
const WRITE: WriteId = WriteId([0xaa; 16]);
const DISK: DiskId = DiskId([0xdd; 16]);
const TIME: Timestamp = Timestamp(-2);
const ETAG: ETag = ETag {
    md5: [0xee; 16],
    parts: 2,
};
const AT: ShardAt = ShardAt {
    disk: DISK,
    generation: 3,
};
const VERSION: VersionId = VersionId::Ordered {
    order: Order(300),
    nonce: 1,
};

fn owner() -> AccountId {
    AccountId("7".into())
}

fn checksum() -> Checksum {
    Checksum {
        algorithm: ChecksumAlgorithm::Sha1,
        kind: ChecksumType::Composite,
        value: vec![1, 2],
    }
}

fn digest() -> Digest {
    Digest {
        md5: [0xee; 16],
        checksum: Some(checksum()),
        crc64nvme: Some(300),
    }
}

fn attributes() -> Attributes {
    Attributes {
        system: vec![("a".into(), "b".into())],
        user: vec![("c".into(), vec![0xff])],
        tags: vec![("t".into(), "u".into())],
        storage_class: "X".into(),
        owner: owner(),
    }
}

fn condition() -> WriteCondition {
    WriteCondition {
        if_match: Some(ETagCondition::Any),
        if_none_match: Some(ETagCondition::OneOf(vec![ETAG])),
        if_match_size: Some(300),
        if_match_modified: Some(TIME),
    }
}

fn shards() -> ShardSet {
    ShardSet {
        data_shards: 1,
        parity_shards: 0,
        chunk_size: 131_072,
        class: "S".into(),
        undersized: true,
        shards: vec![ShardPlace {
            disk: DISK,
            generation: 3,
            checksum: 300,
            payload_checksum: 600,
            missing: true,
        }],
    }
}

fn data(location: Location) -> NewData {
    NewData {
        write_id: WRITE,
        size: 300,
        location,
    }
}

fn system_changes() -> Vec<Change> {
    vec![
        Change::PutAccount(Account {
            id: owner(),
            canonical_id: "c".into(),
            display_name: "d".into(),
        }),
        Change::ReserveBucket {
            name: "n".into(),
            owner: owner(),
        },
        Change::ActivateBucket {
            name: "n".into(),
            id: BUCKET,
        },
        Change::ReleaseBucket {
            name: "n".into(),
            id: BUCKET,
        },
        Change::RegisterDisks {
            disks: vec![(DISK, "/d".into())],
        },
        Change::MarkOffline { disk: DISK },
        Change::ReplaceDisk {
            old: DISK,
            new: Some((DISK, "/d".into())),
        },
        Change::SetUpkeep(SettingsChange {
            remove_after_seconds: Some(300),
            heal_paused: Some(true),
            heal_bytes_per_second: None,
            scrub_paused: Some(false),
            scrub_period_seconds: None,
        }),
    ]
}

fn bucket_changes() -> Vec<Change> {
    vec![
        Change::CreateBucket {
            id: BUCKET,
            name: "n".into(),
            owner: owner(),
            location: "l".into(),
            settings: vec![(BucketSetting::Tagging, vec![9])],
        },
        Change::SealBucket { id: BUCKET },
        Change::EmptyBucket {
            id: BUCKET,
            max: 300,
        },
        Change::SetVersioning {
            bucket: BUCKET,
            versioning: Versioning::Suspended,
        },
        Change::PutBucketSetting {
            bucket: BUCKET,
            setting: BucketSetting::Tagging,
            document: Some(vec![9]),
        },
        Change::SetQuota {
            bucket: BUCKET,
            change: QuotaChange {
                hard_bytes: Some(Some(300)),
                hard_objects: Some(None),
                ..QuotaChange::default()
            },
        },
    ]
}

fn object_changes() -> Vec<Change> {
    vec![
        Change::PutObject {
            bucket: BUCKET,
            key: "k".into(),
            attributes: attributes(),
            condition: condition(),
            data: data(Location::Inline(vec![9])),
            digest: digest(),
            nonce: 300,
        },
        Change::LinkObject {
            bucket: BUCKET,
            key: "k".into(),
            attributes: attributes(),
            condition: WriteCondition::default(),
            source: WRITE,
            size: 300,
            etag: ETAG,
            checksum: Some(checksum()),
            nonce: 1,
        },
        Change::DeleteObjects {
            bucket: BUCKET,
            keys: vec![DeleteKey {
                key: "k".into(),
                version: Some(VERSION),
                condition: WriteCondition::default(),
                nonce: 1,
            }],
        },
        Change::PutTags {
            bucket: BUCKET,
            key: "k".into(),
            version: Some(VersionId::Null),
            tags: vec![("t".into(), "u".into())],
        },
        Change::CreateUpload {
            bucket: BUCKET,
            key: "k".into(),
            upload: UploadId(WRITE),
            attributes: attributes(),
            checksum: Some((ChecksumAlgorithm::Crc32, ChecksumType::FullObject)),
        },
        Change::PutPart {
            bucket: BUCKET,
            key: "k".into(),
            upload: UploadId(WRITE),
            number: 300,
            data: data(Location::Shards(shards())),
            digest: digest(),
        },
        Change::CompleteUpload {
            bucket: BUCKET,
            key: "k".into(),
            upload: UploadId(WRITE),
            parts: vec![ChosenPart {
                number: 300,
                write_id: WRITE,
                size: 300,
            }],
            etag: ETAG,
            checksum: None,
            condition: WriteCondition::default(),
            nonce: 1,
        },
        Change::AbortUpload {
            bucket: BUCKET,
            key: "k".into(),
            upload: UploadId(WRITE),
        },
    ]
}

fn upkeep_changes() -> Vec<Change> {
    let shard = ShardId {
        write_id: WRITE,
        rank: 4,
    };
    vec![
        Change::RaiseEpoch { to: Epoch(300) },
        Change::RaiseFloor { to: Epoch(300) },
        Change::DropAnswers {
            issued_below: Epoch(300),
            finished_ms: 300,
            max: 300,
        },
        Change::ForgetGarbage {
            entries: vec![(Epoch(300), WRITE)],
        },
        Change::QueueHeal {
            entries: vec![shard],
        },
        Change::SwapShard(ShardSwap {
            write_id: WRITE,
            rank: 4,
            from: AT,
            to: AT,
            checksum: 300,
        }),
        Change::SettleHeals {
            entries: vec![(shard, AT)],
        },
        Change::RemoveDisk { disk: DISK },
        Change::QueueDisk {
            disk: DISK,
            max: 300,
        },
        Change::NoteScrub(ScrubState {
            started: TIME,
            after: Some(WRITE),
            shards: 300,
            findings: 1,
            finished: Some(TIME),
        }),
        Change::ReencodeData(Reencoding {
            write_id: WRITE,
            from: vec![AT],
            to: Some(shards()),
        }),
        Change::ReleaseParts {
            epoch: Epoch(300),
            list: WRITE,
            max: 300,
        },
    ]
}

fn replies() -> Vec<Reply> {
    vec![
        Reply::Done,
        Reply::Reserved { id: BUCKET },
        Reply::Emptied { more: true },
        Reply::Written {
            version_id: Some(VERSION),
            etag: ETAG,
            size: 300,
            checksum: Some(checksum()),
            modified: TIME,
        },
        Reply::Deleted(vec![
            Ok(Deleted {
                version_id: Some(VERSION),
                is_marker: true,
            }),
            Err(Refusal::NoSuchKey),
        ]),
        Reply::Tagged {
            version_id: Some(VersionId::Null),
        },
        Reply::Timed { time: TIME },
        Reply::Dropped { more: true },
        Reply::Epochs {
            epoch: Epoch(300),
            floor: Epoch(1),
        },
        Reply::Queued {
            shards: 300,
            more: true,
        },
    ]
}

/// Fails to compile if a variant is added, so that it is pinned here as well.
fn number_of_reply(reply: &Reply) -> usize {
    match reply {
        Reply::Done => 0,
        Reply::Reserved { .. } => 1,
        Reply::Emptied { .. } => 2,
        Reply::Written { .. } => 3,
        Reply::Deleted(_) => 4,
        Reply::Tagged { .. } => 5,
        Reply::Timed { .. } => 6,
        Reply::Dropped { .. } => 7,
        Reply::Epochs { .. } => 8,
        Reply::Queued { .. } => 9,
    }
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::NoSuchBucket,
        Refusal::BucketExists { owner: owner() },
        Refusal::BucketNotEmpty,
        Refusal::NoSuchKey,
        Refusal::NoSuchVersion,
        Refusal::DeleteMarker {
            id: VERSION,
            modified: TIME,
            latest: true,
        },
        Refusal::NoSuchUpload,
        Refusal::InvalidPart { number: 300 },
        Refusal::PartTooSmall {
            number: 300,
            size: 1,
            minimum: 2,
            etag: ETAG,
        },
        Refusal::ChecksumMismatch,
        Refusal::SizeMismatch {
            expected: 300,
            total: 1,
        },
        Refusal::PreconditionFailed(Precondition::Source),
        Refusal::Conflict,
        Refusal::EpochBelowFloor,
        Refusal::TooLarge,
        Refusal::QuotaExceeded {
            counted: QuotaUnit::Objects,
            limit: 300,
            used: 1,
            wanted: 2,
        },
        Refusal::BadRow,
    ]
}

/// As [`number_of_reply`].
fn number_of_refusal(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::NoSuchBucket => 0,
        Refusal::BucketExists { .. } => 1,
        Refusal::BucketNotEmpty => 2,
        Refusal::NoSuchKey => 3,
        Refusal::NoSuchVersion => 4,
        Refusal::DeleteMarker { .. } => 5,
        Refusal::NoSuchUpload => 6,
        Refusal::InvalidPart { .. } => 7,
        Refusal::PartTooSmall { .. } => 8,
        Refusal::ChecksumMismatch => 9,
        Refusal::SizeMismatch { .. } => 10,
        Refusal::PreconditionFailed(_) => 11,
        Refusal::Conflict => 12,
        Refusal::EpochBelowFloor => 13,
        Refusal::TooLarge => 14,
        Refusal::QuotaExceeded { .. } => 15,
        Refusal::BadRow => 16,
    }
}

/// Compares bytes with those that stores have on their disks.
fn check(encoded: &[Vec<u8>], pinned: &str) {
    let found: Vec<_> = encoded.iter().map(|bytes| hex(bytes)).collect();
    let pinned: Vec<_> = pinned.split_whitespace().collect();
    assert!(found == pinned, "the bytes now:\n{}", found.join("\n"));
}

/// Compares commands without their heads, which are the same in all.
fn check_changes(changes: Vec<Change>, pinned: &str) {
    let mut encoded = Vec::new();
    for change in changes {
        let command = Command {
            request: WRITE,
            epoch: Epoch(300),
            issued: Epoch(1),
            time: TIME,
            change,
        };
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes).unwrap(), command);
        let head = "01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac020103";
        assert_eq!(hex(&bytes[..20 + 1]), head);
        encoded.push(bytes[21..].to_vec());
    }
    check(&encoded, pinned);
}

/// These bytes are in the logs of stores. If one of these lines fails, the command needs a new
/// version, with a conversion from the one before.
#[test]
fn f_36_every_change_of_version_1_is_encoded_as_ever() {
    check_changes(system_changes(), include_str!("golden/system.txt"));
    check_changes(bucket_changes(), include_str!("golden/buckets.txt"));
    check_changes(object_changes(), include_str!("golden/objects.txt"));
    check_changes(upkeep_changes(), include_str!("golden/upkeep.txt"));
    let all = [
        system_changes(),
        bucket_changes(),
        object_changes(),
        upkeep_changes(),
    ];
    let kinds: Vec<_> = all
        .iter()
        .flatten()
        .map(|change| change.kind().name())
        .collect();
    let missing: Vec<_> = CommandKind::ALL
        .iter()
        .filter(|kind| !kinds.contains(&kind.name()))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are not pinned");
}

/// Answers and outcomes of uploads are rows that embed these.
#[test]
fn f_36_every_answer_of_version_1_is_encoded_as_ever() {
    let encode = |outcome: Outcome| {
        let row = AnswerRow(outcome);
        assert_eq!(AnswerRow::decode(&row.encode()).unwrap(), row);
        row.encode()
    };
    let encoded: Vec<_> = replies()
        .into_iter()
        .map(|reply| encode(Ok(reply)))
        .collect();
    check(&encoded, include_str!("golden/replies.txt"));
    let numbers: BTreeSet<_> = replies().iter().map(number_of_reply).collect();
    assert_eq!(numbers, (0..encoded.len()).collect());

    let encoded: Vec<_> = refusals()
        .into_iter()
        .map(|refusal| encode(Err(refusal)))
        .collect();
    check(&encoded, include_str!("golden/refusals.txt"));
    let numbers: BTreeSet<_> = refusals().iter().map(number_of_refusal).collect();
    assert_eq!(numbers, (0..encoded.len()).collect());
}

fn firsts<T: Serialize>(variants: &[T]) -> Vec<u8> {
    let first = |variant| postcard::to_allocvec(variant).unwrap()[0];
    variants.iter().map(first).collect()
}

/// A postcard enum is the number of its variant, so none may move.
#[test]
fn f_36_variants_of_enums_in_records_never_move() {
    use ChecksumAlgorithm::{
        Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256, Sha512, XxHash3, XxHash64, XxHash128,
    };
    let algorithms = [
        Crc32, Crc32c, Crc64Nvme, Sha1, Sha256, Md5, Sha512, XxHash3, XxHash64, XxHash128,
    ];
    assert_eq!(firsts(&algorithms), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(
        firsts(&[ChecksumType::FullObject, ChecksumType::Composite]),
        [0, 1]
    );
    let versionings = [Versioning::Off, Versioning::Enabled, Versioning::Suspended];
    assert_eq!(firsts(&versionings), [0, 1, 2]);
    assert_eq!(firsts(&[VersionId::Null, VERSION]), [0, 1]);
    assert_eq!(firsts(&[BucketSetting::Tagging]), [0]);
    let etags = [ETagCondition::Any, ETagCondition::OneOf(Vec::new())];
    assert_eq!(firsts(&etags), [0, 1]);
    let locations = [Location::Inline(Vec::new()), Location::Shards(shards())];
    assert_eq!(firsts(&locations), [0, 1]);
    assert_eq!(firsts(&[QuotaUnit::Bytes, QuotaUnit::Objects]), [0, 1]);
    let conditions = [
        Precondition::IfMatch,
        Precondition::IfNoneMatch,
        Precondition::IfMatchSize,
        Precondition::IfMatchLastModified,
        Precondition::Source,
    ];
    assert_eq!(firsts(&conditions), [0, 1, 2, 3, 4]);
    let availabilities = [
        Availability::Up,
        Availability::Offline,
        Availability::Removed,
    ];
    assert_eq!(firsts(&availabilities), [0, 1, 2]);
    assert_eq!(firsts(&[NameState::Creating, NameState::Active]), [0, 1]);
    let kinds = [
        DataKind::Inline,
        DataKind::Shards(shards()),
        DataKind::Parts {
            count: 1,
            crc64nvme: None,
        },
    ];
    assert_eq!(firsts(&kinds), [0, 1, 2]);
    let progress = [
        QueueProgress::NotStarted,
        QueueProgress::UpTo(WRITE),
        QueueProgress::Complete,
    ];
    assert_eq!(firsts(&progress), [0, 1, 2]);
}
