//! Tests of the state machine, called as the Raft layer calls it, on a real database.

#![allow(clippy::unwrap_used)]

mod apply;
mod failures;
mod heal;
mod invariants;
mod listing;
mod random;
mod undersized;
mod uploads;
mod versions;

use std::sync::Arc;

use tempfile::TempDir;

use super::State;
use crate::db::{Db, DbShared, StateId};
use crate::meta::command::{Change, Command, DeleteKey, Location, NewData, Outcome, Reply};
use drystone_store::error::{Error, Refusal};
use drystone_store::objects::{Deleted, WriteCondition};
use drystone_store::shard_set::{ShardPlace, ShardSet};
use drystone_store::types::{
    AccountId, Attributes, BucketId, Digest, DiskId, ETag, Epoch, Timestamp, VersionId,
    VersionSelector, Versioning, WriteId,
};

const B: BucketId = BucketId(1);

fn owner() -> AccountId {
    AccountId("123456789012".into())
}

fn id(n: u64) -> WriteId {
    WriteId(u128::from(n).to_be_bytes())
}

/// A state with a log of its own.
struct TestReplica {
    db: Arc<Db>,
    state: State,
    /// The index of the last applied entry.
    index: u64,
    epoch: Epoch,
    /// Counts write ids, request ids and nonces.
    serial: u64,
    dir: Option<TempDir>,
}

impl TestReplica {
    fn new() -> TestReplica {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(dir.path(), &DbShared::system()).unwrap();
        let mut replica = TestReplica::on(&db, StateId(1));
        replica.dir = Some(dir);
        replica
    }

    /// Makes a replica with one bucket, `B`.
    fn on(db: &Arc<Db>, id: StateId) -> TestReplica {
        let mut replica = TestReplica {
            db: db.clone(),
            state: State::new(db.clone(), id),
            index: 0,
            epoch: Epoch(0),
            serial: 0,
            dir: None,
        };
        let created = Change::CreateBucket {
            id: B,
            name: "b".into(),
            owner: owner(),
            location: String::new(),
            settings: Vec::new(),
        };
        replica.done(created);
        replica
    }

    fn with(versioning: Versioning) -> TestReplica {
        let mut replica = TestReplica::new();
        replica.set_versioning(versioning);
        replica
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn command(&mut self, change: Change) -> Command {
        Command {
            request: id(1 << 40 | self.next()),
            epoch: self.epoch,
            issued: self.epoch,
            time: Timestamp(1_000_000 + 1000 * self.serial as i64),
            change,
        }
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.index += 1;
        let applied = self.index.to_be_bytes();
        self.state.apply(self.index, command, &applied).unwrap()
    }

    fn propose(&mut self, change: Change) -> Outcome {
        let command = self.command(change);
        self.apply(&command)
    }

    fn done(&mut self, change: Change) {
        assert_eq!(self.propose(change), Ok(Reply::Done));
    }

    fn set_versioning(&mut self, versioning: Versioning) {
        self.done(Change::SetVersioning {
            bucket: B,
            versioning,
        });
    }

    fn inline(&mut self, value: &str) -> NewData {
        NewData {
            write_id: id(self.next()),
            size: value.len() as u64,
            location: Location::Inline(value.into()),
        }
    }

    fn sharded(&mut self, size: u64) -> NewData {
        let shard = |disk| ShardPlace {
            disk: DiskId([disk; 16]),
            generation: 0,
            checksum: 7,
            payload_checksum: 600,
            missing: disk == 2,
        };
        NewData {
            write_id: id(self.next()),
            size,
            location: Location::Shards(ShardSet {
                data_shards: 2,
                parity_shards: 1,
                chunk_size: 128 << 10,
                class: "STANDARD".into(),
                undersized: false,
                shards: (0..3).map(shard).collect(),
            }),
        }
    }

    /// Makes data with three shards, as if its class had four.
    fn undersized(&mut self, size: u64) -> NewData {
        let mut data = self.sharded(size);
        if let Location::Shards(set) = &mut data.location {
            set.undersized = true;
            set.shards
                .iter_mut()
                .for_each(|place| place.missing = false);
        }
        data
    }

    fn put_data(&mut self, key: &str, data: NewData, condition: WriteCondition) -> Outcome {
        let nonce = self.next();
        let digest = digest(data.size);
        self.propose(Change::PutObject {
            bucket: B,
            key: key.into(),
            attributes: Attributes {
                owner: owner(),
                ..Attributes::default()
            },
            condition,
            data,
            digest,
            nonce,
        })
    }

    fn put_if(&mut self, key: &str, condition: WriteCondition) -> Outcome {
        let data = self.inline(key);
        self.put_data(key, data, condition)
    }

    /// Returns the new version's id, `Null` if none is shown.
    fn put(&mut self, key: &str) -> VersionId {
        match self.put_if(key, WriteCondition::default()) {
            Ok(Reply::Written { version_id, .. }) => version_id.unwrap_or(VersionId::Null),
            other => panic!("{other:?}"),
        }
    }

    fn delete_if(
        &mut self,
        key: &str,
        version: Option<VersionId>,
        condition: WriteCondition,
    ) -> Result<Deleted, Refusal> {
        let keys = vec![DeleteKey {
            key: key.into(),
            version,
            condition,
            nonce: self.next(),
        }];
        match self.propose(Change::DeleteObjects { bucket: B, keys }) {
            Ok(Reply::Deleted(mut answers)) => answers.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, key: &str, version: Option<VersionId>) -> Deleted {
        self.delete_if(key, version, WriteCondition::default())
            .unwrap()
    }

    /// Returns the ids of a key's versions, newest first, with `true` for markers.
    fn versions(&self, key: &str) -> Vec<(VersionId, bool)> {
        let request = drystone_store::listings::ListVersions {
            prefix: key.into(),
            delimiter: String::new(),
            key_after: String::new(),
            version_after: None,
            max: 1000,
        };
        let page = self.state.view().list_versions(B, &request).unwrap();
        page.versions
            .into_iter()
            .filter(|version| version.key == key)
            .map(|version| (version.id, version.object.is_none()))
            .collect()
    }

    fn read(&self, key: &str, selector: VersionSelector) -> Result<VersionId, Refusal> {
        refusal(self.state.view().version(B, key, selector)).map(|version| version.id)
    }

    fn latest(&self, key: &str) -> Result<VersionId, Refusal> {
        self.read(key, VersionSelector::Latest)
    }
}

fn digest(size: u64) -> Digest {
    Digest {
        md5: [size as u8; 16],
        checksum: None,
        crc64nvme: None,
    }
}

fn etag(size: u64) -> ETag {
    ETag {
        md5: digest(size).md5,
        parts: 0,
    }
}

fn refusal<T>(result: drystone_store::error::Result<T>) -> Result<T, Refusal> {
    result.map_err(|error| match error {
        Error::Refused(refusal) => refusal,
        other => panic!("{other}"),
    })
}
