#![allow(clippy::unwrap_used)]

use super::*;
use crate::meta::keys::hex;
use drystone_store::error::Refusal;
use drystone_store::shard_set::ShardPlace;
use drystone_store::types::DiskId;

fn pinned<R: Record + PartialEq + std::fmt::Debug>(record: &R, bytes: &str) {
    assert_eq!(hex(&record.encode()), bytes, "{record:?}");
    assert_eq!(&R::decode(&record.encode()).unwrap(), record);
}

fn shards() -> ShardSet {
    ShardSet {
        data_shards: 1,
        parity_shards: 0,
        chunk_size: 131_072,
        class: "S".into(),
        undersized: true,
        shards: vec![ShardPlace {
            disk: DiskId([0xdd; 16]),
            generation: 3,
            checksum: 300,
            payload_checksum: 600,
            missing: true,
        }],
    }
}

const BUCKET: BucketId = BucketId(5);
const MODIFIED: Timestamp = Timestamp(-2);
const ETAG: ETag = ETag {
    md5: [0xee; 16],
    parts: 2,
};
const WRITE: WriteId = WriteId([0xaa; 16]);

fn owner() -> AccountId {
    AccountId("7".into())
}

fn checksum() -> Option<Checksum> {
    Some(Checksum {
        algorithm: ChecksumAlgorithm::Crc64Nvme,
        kind: ChecksumType::Composite,
        value: vec![1, 2],
    })
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

/// These bytes are on disks. If one of these lines fails, the record needs a new version.
#[test]
fn version_1_records_are_encoded_as_ever() {
    pinned(
        &EpochsRow {
            epoch: Epoch(300),
            floor: Epoch(1),
            answers: Epoch(2),
            clock: MODIFIED,
        },
        "01ac02010203",
    );
    pinned(&AnswerRow(Ok(Reply::Done)), "010000");
    pinned(&AnswerRow(Err(Refusal::NoSuchKey)), "010103");
    pinned(
        &CountersRow {
            next_bucket: BUCKET,
        },
        "0105",
    );
    pinned(
        &NameRow {
            id: BUCKET,
            owner: owner(),
            state: NameState::Active,
        },
        "0105013701",
    );
    pinned(
        &AccountRow {
            canonical_id: "c".into(),
            display_name: "d".into(),
        },
        "0101630164",
    );
    pinned(
        &BucketRow {
            name: "n".into(),
            owner: owner(),
            created: MODIFIED,
            location: String::new(),
            versioning: Versioning::Suspended,
            quota: Quota {
                hard_bytes: Some(300),
                ..Quota::default()
            },
            sealed: true,
        },
        "01016e013703000201ac0200000001",
    );
    pinned(&SettingRow(vec![9]), "010109");
    pinned(
        &UsageRow {
            objects: 1,
            markers: 2,
            uploads: 3,
            bytes: 300,
            part_bytes: 4,
        },
        "01010203ac0204",
    );
    pinned(&OverQuotaRow { since: MODIFIED }, "0103");
}

#[test]
fn version_1_records_of_objects_are_encoded_as_ever() {
    pinned(
        &VersionRow {
            id: VersionId::Null,
            modified: MODIFIED,
            owner: owner(),
            object: None,
        },
        "010003013700",
    );
    pinned(
        &VersionRow {
            id: VersionId::Ordered {
                order: Order(300),
                nonce: 1,
            },
            modified: MODIFIED,
            owner: owner(),
            object: Some(ObjectRow {
                size: 300,
                etag: ETAG,
                checksum: checksum(),
                attributes: attributes(),
                write_id: WRITE,
            }),
        },
        "0101ac020103013701ac02eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee020102010201020101\
         61016201016301ff010174017501580137aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    );
    pinned(
        &CurrentRow {
            order: Order(300),
            size: 1,
            etag: ETAG,
            modified: MODIFIED,
            storage_class: String::new(),
            owner: owner(),
            checksum: Some((ChecksumAlgorithm::Sha1, ChecksumType::FullObject)),
        },
        "01ac0201eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee0203000137010300",
    );
    pinned(&OrderRow(Order(300)), "01ac02");
    pinned(
        &DataRow {
            bucket: BUCKET,
            epoch: Epoch(1),
            refs: 2,
            size: 300,
            kind: DataKind::Inline,
        },
        "01050102ac0200",
    );
    pinned(
        &DataRow {
            bucket: BUCKET,
            epoch: Epoch(1),
            refs: 2,
            size: 300,
            kind: DataKind::Shards(shards()),
        },
        "01050102ac0201010080800801530101dddddddddddddddddddddddddddddddd\
         032c01000000000000580200000000000001",
    );
    pinned(
        &DataRow {
            bucket: BUCKET,
            epoch: Epoch(1),
            refs: 2,
            size: 300,
            kind: DataKind::Parts {
                count: 300,
                crc64nvme: Some(300),
            },
        },
        "01050102ac0202ac0201ac02",
    );
    pinned(
        &PartRow {
            write_id: WRITE,
            size: 300,
            etag: ETAG,
            checksum: checksum(),
        },
        "01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac02eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee02010201020102",
    );
    pinned(&OffsetRow(300), "01ac02");
}

#[test]
fn version_1_records_of_uploads_are_encoded_as_ever() {
    pinned(
        &UploadRow {
            id: UploadId(WRITE),
            initiated: MODIFIED,
            attributes: attributes(),
            checksum: None,
        },
        "01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa03010161016201016301ff01017401750158013700",
    );
    pinned(
        &UploadAt {
            bucket: BUCKET,
            key: "k".into(),
            order: Order(300),
        },
        "0105016bac02",
    );
    pinned(
        &UploadPartRow {
            write_id: WRITE,
            size: 300,
            etag: ETAG,
            checksum: None,
            modified: MODIFIED,
            crc64nvme: Some(300),
        },
        "01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac02eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee02000301ac02",
    );
    pinned(
        &FinishedRow {
            bucket: BUCKET,
            key: "k".into(),
            numbers: vec![1, 300],
            reply: Reply::Written {
                version_id: None,
                etag: ETAG,
                size: 300,
                checksum: None,
                modified: MODIFIED,
            },
        },
        "0105016b0201ac020300eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee02ac020003",
    );
    pinned(&FinishedTimeRow, "01");
}

#[test]
fn version_1_records_of_upkeep_are_encoded_as_ever() {
    pinned(
        &GarbageRow {
            bucket: BUCKET,
            shards: GarbageShard::all_of(&shards()),
            is_part_list: false,
        },
        "01050100dddddddddddddddddddddddddddddddd0300",
    );
    pinned(
        &HealRow {
            bucket: BUCKET,
            since: MODIFIED,
        },
        "010503",
    );
    pinned(
        &DiskRow {
            directory: "/d".into(),
            availability: Availability::Removed,
            since: MODIFIED,
            replaced_by: Some(DiskId([0xdd; 16])),
        },
        "01022f64020301dddddddddddddddddddddddddddddddd",
    );
    pinned(
        &UpkeepRow(UpkeepSettings {
            heal_paused: true,
            ..UpkeepSettings::default()
        }),
        "01901c01000080ea49",
    );
    pinned(
        &ScrubRow(ScrubState {
            started: MODIFIED,
            after: Some(WRITE),
            shards: 300,
            findings: 1,
            finished: None,
        }),
        "010301aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac020100",
    );
    pinned(&UndersizedRow { since: MODIFIED }, "0103");
    let removed = |progress| RemovedDisk {
        disk: DiskId([0xdd; 16]),
        progress,
    };
    pinned(
        &RemovedDisksRow(vec![
            removed(QueueProgress::NotStarted),
            removed(QueueProgress::UpTo(WRITE)),
            removed(QueueProgress::Complete),
        ]),
        "0103dddddddddddddddddddddddddddddddd00\
         dddddddddddddddddddddddddddddddd01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
         dddddddddddddddddddddddddddddddd02",
    );
}

#[test]
fn what_is_no_record_is_an_error() {
    let row = OffsetRow(300).encode();
    assert!(matches!(OffsetRow::decode(&[]), Err(Undecodable::Empty)));
    let unknown = |bytes: &[u8]| {
        matches!(
            OffsetRow::decode(bytes),
            Err(Undecodable::UnknownVersion(version)) if version == bytes[0]
        )
    };
    assert!(unknown(&[2, 1]) && unknown(&[0, 1]));
    let malformed = |bytes: &[u8]| matches!(OffsetRow::decode(bytes), Err(Undecodable::Malformed));
    assert!(malformed(&row[..row.len() - 1]));
    assert!(malformed(&[&row[..], &[0]].concat()));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newer {
    offset: u64,
    since: Option<u8>,
}

impl From<OffsetRow> for Newer {
    fn from(OffsetRow(offset): OffsetRow) -> Newer {
        Newer {
            offset,
            since: None,
        }
    }
}

impl Record for Newer {
    const VERSION: u8 = 2;
    type Previous = OffsetRow;
}

#[test]
fn an_older_record_decodes_through_the_chain() {
    let (offset, since) = (9, None);
    let newer = Newer::decode(&OffsetRow(9).encode()).unwrap();
    assert_eq!(newer, Newer { offset, since });
    assert_eq!(newer.encode()[0], 2);
}
