//! Random commands against a model of versions, with every invariant checked after each.

use std::collections::BTreeMap;

use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use super::listing::{ListEntry, entries};
use super::{B, TestReplica};
use crate::db::{Db, DbShared, StateId};
use crate::meta::command::{Change, ChosenPart, Command, Outcome, Reply};
use drystone_store::error::Refusal;
use drystone_store::objects::WriteCondition;
use drystone_store::types::{
    Epoch, Quota, QuotaChange, UploadId, Usage, VersionId, Versioning, WriteId,
};

#[derive(Clone, Debug)]
enum Op {
    SetVersioning(Versioning),
    SetQuota(QuotaChange),
    Put {
        key: String,
        inline: bool,
    },
    /// Links some version's bytes to another key.
    Link {
        from: usize,
        key: String,
    },
    Delete {
        key: String,
    },
    /// Deletes some version; `missing` changes its id to one that does not exist.
    DeleteVersion {
        which: usize,
        missing: bool,
    },
    Tag {
        key: String,
    },
    CreateUpload {
        key: String,
    },
    PutPart {
        upload: usize,
        number: u16,
        inline: bool,
    },
    Complete {
        upload: usize,
        odd: bool,
    },
    Abort {
        upload: usize,
    },
    RaiseEpoch,
    RaiseFloor,
    /// Releases some parts of the oldest part list that is garbage.
    ReleaseParts {
        max: u32,
    },
    /// Re-encodes some undersized write.
    Reencode {
        which: usize,
    },
    /// Repeats the last command.
    Repeat,
}

fn key() -> impl Strategy<Value = String> {
    let letter = prop_oneof![Just('a'), Just('/'), Just('\0'), Just('é')];
    proptest::collection::vec(letter, 1..4).prop_map(String::from_iter)
}

/// Generates quotas that are low enough to be met, and often removed.
fn quota() -> impl Strategy<Value = QuotaChange> {
    let limit = |most: u64| {
        prop_oneof![
            Just(None),
            Just(Some(None)),
            (0..most).prop_map(|n| Some(Some(n)))
        ]
    };
    (limit(400), limit(6), limit(400), limit(6)).prop_map(
        |(hard_bytes, hard_objects, soft_bytes, soft_objects)| QuotaChange {
            hard_bytes,
            hard_objects,
            soft_bytes,
            soft_objects,
        },
    )
}

fn op() -> BoxedStrategy<Op> {
    let n = || any::<usize>();
    prop_oneof![
        1 => prop_oneof![Just(Versioning::Enabled), Just(Versioning::Suspended)]
            .prop_map(Op::SetVersioning),
        1 => quota().prop_map(Op::SetQuota),
        6 => (key(), any::<bool>()).prop_map(|(key, inline)| Op::Put { key, inline }),
        2 => (n(), key()).prop_map(|(from, key)| Op::Link { from, key }),
        4 => key().prop_map(|key| Op::Delete { key }),
        4 => (n(), any::<bool>()).prop_map(|(which, missing)| Op::DeleteVersion { which, missing }),
        1 => key().prop_map(|key| Op::Tag { key }),
        2 => key().prop_map(|key| Op::CreateUpload { key }),
        4 => (n(), 1..5u16, any::<bool>())
            .prop_map(|(upload, number, inline)| Op::PutPart { upload, number, inline }),
        2 => (n(), any::<bool>()).prop_map(|(upload, odd)| Op::Complete { upload, odd }),
        1 => n().prop_map(|upload| Op::Abort { upload }),
        1 => Just(Op::RaiseEpoch),
        1 => Just(Op::RaiseFloor),
        2 => (1..4u32).prop_map(|max| Op::ReleaseParts { max }),
        3 => n().prop_map(|which| Op::Reencode { which }),
        2 => Just(Op::Repeat),
    ]
    .boxed()
}

#[derive(Clone, Debug)]
struct ModelVersion {
    id: VersionId,
    bytes: Option<WriteId>,
    size: u64,
}

struct Model {
    replica: TestReplica,
    versioning: Versioning,
    quota: Quota,
    /// Newest first.
    keys: BTreeMap<String, Vec<ModelVersion>>,
    uploads: Vec<(String, UploadId)>,
    parts: BTreeMap<(UploadId, u16), ChosenPart>,
    last: Option<(Command, Outcome)>,
}

impl Model {
    fn usage(&self) -> Usage {
        let versions = || self.keys.values().flatten();
        let objects = || versions().filter(|version| version.bytes.is_some());
        let open = |id: &UploadId| self.uploads.iter().any(|(_, open)| open == id);
        let parts = self.parts.iter().filter(|((id, _), _)| open(id));
        Usage {
            objects: objects().count() as u64,
            markers: (versions().count() - objects().count()) as u64,
            uploads: self.uploads.len() as u64,
            object_bytes: objects().map(|version| version.size).sum(),
            part_bytes: parts.map(|(_, part)| part.size).sum(),
        }
    }

    /// Returns the quota's refusal of a new version with `size` bytes, which may end an upload.
    fn refusal(&self, key: &str, size: u64, ended: Option<UploadId>) -> Option<Refusal> {
        let used = self.usage();
        let mut wanted = used;
        wanted.objects += 1;
        wanted.object_bytes += size;
        let null =
            |version: &&ModelVersion| version.id == VersionId::Null && version.bytes.is_some();
        if self.versioning != Versioning::Enabled
            && let Some(old) = self
                .keys
                .get(key)
                .and_then(|of_key| of_key.iter().find(null))
        {
            wanted.objects -= 1;
            wanted.object_bytes -= old.size;
        }
        let of_upload = self.parts.iter().filter(|((id, _), _)| Some(*id) == ended);
        wanted.part_bytes -= of_upload.map(|(_, part)| part.size).sum::<u64>();
        self.quota.allows(&used, &wanted).err()
    }

    fn write(&mut self, key: &str, version: Option<VersionId>, bytes: Option<(WriteId, u64)>) {
        let id = version.unwrap_or(VersionId::Null);
        let versions = self.keys.entry(key.to_owned()).or_default();
        assert_eq!(
            id == VersionId::Null,
            self.versioning != Versioning::Enabled
        );
        versions.retain(|version| id != VersionId::Null || version.id != VersionId::Null);
        let (bytes, size) = (bytes.map(|(id, _)| id), bytes.map_or(0, |(_, size)| size));
        versions.insert(0, ModelVersion { id, bytes, size });
    }

    fn nth(&self, n: usize) -> Option<(String, ModelVersion)> {
        let all = || {
            self.keys
                .iter()
                .flat_map(|(key, versions)| versions.iter().map(move |v| (key, v)))
        };
        let (key, version) = all().nth(n % all().count().max(1))?;
        Some((key.clone(), version.clone()))
    }

    fn upload(&self, n: usize) -> Option<(String, UploadId)> {
        self.uploads.get(n % self.uploads.len().max(1)).cloned()
    }

    fn written(&mut self, key: &str, outcome: Outcome, bytes: WriteId, size: u64) {
        match (outcome, self.refusal(key, size, None)) {
            (Ok(Reply::Written { version_id, .. }), None) => {
                self.write(key, version_id, Some((bytes, size)));
            }
            (Err(refused), Some(expected)) => assert_eq!(refused, expected),
            other => panic!("{other:?}"),
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::SetVersioning(to) => {
                self.replica.set_versioning(*to);
                self.versioning = *to;
            }
            Op::SetQuota(change) => {
                let change = *change;
                self.replica.done(Change::SetQuota { bucket: B, change });
                self.quota = self.quota.changed(change);
            }
            Op::Put { key, inline } => {
                let data = match inline {
                    true => self.replica.inline(key),
                    false if key.len() % 2 == 0 => self.replica.undersized(100),
                    false => self.replica.sharded(100),
                };
                let (bytes, size) = (data.write_id, data.size);
                let nonce = self.replica.next();
                let change = Change::PutObject {
                    bucket: B,
                    key: key.clone(),
                    attributes: Default::default(),
                    condition: WriteCondition::default(),
                    digest: super::digest(data.size),
                    data,
                    nonce,
                };
                let command = self.replica.command(change);
                let outcome = self.replica.apply(&command);
                self.last = Some((command, outcome.clone()));
                self.written(key, outcome, bytes, size);
            }
            Op::Link { from, key } => {
                let Some(source) = self.nth(*from).and_then(|(_, v)| v.bytes) else {
                    return;
                };
                let nonce = self.replica.next();
                let change = Change::LinkObject {
                    bucket: B,
                    key: key.clone(),
                    attributes: Default::default(),
                    condition: WriteCondition::default(),
                    source,
                    size: 3,
                    etag: super::etag(3),
                    checksum: None,
                    nonce,
                };
                let outcome = self.replica.propose(change);
                self.written(key, outcome, source, 3);
            }
            Op::Delete { key } => {
                let deleted = self.replica.delete(key, None);
                match self.versioning {
                    Versioning::Off => drop(self.keys.remove(key)),
                    _ => self.write(key, deleted.version_id, None),
                }
            }
            Op::DeleteVersion { which, missing } => self.delete_version(*which, *missing),
            Op::Tag { key } => drop(self.replica.propose(Change::PutTags {
                bucket: B,
                key: key.clone(),
                version: None,
                tags: vec![("a".into(), "b".into())],
            })),
            Op::CreateUpload { key } => {
                let upload = self.replica.create_upload(key);
                self.uploads.push((key.clone(), upload));
            }
            Op::PutPart {
                upload,
                number,
                inline,
            } => self.put_part(*upload, *number, *inline),
            Op::Complete { upload, odd } => self.complete(*upload, *odd),
            Op::Abort { upload } => {
                if let Some((key, upload)) = self.upload(*upload) {
                    self.replica.done(Change::AbortUpload {
                        bucket: B,
                        key,
                        upload,
                    });
                    self.uploads.retain(|(_, id)| *id != upload);
                }
            }
            Op::RaiseEpoch => {
                self.replica.epoch.0 += 1;
                let to = self.replica.epoch;
                drop(self.replica.propose(Change::RaiseEpoch { to }));
            }
            Op::RaiseFloor => {
                let to = Epoch(self.replica.epoch.0.saturating_sub(1));
                drop(self.replica.propose(Change::RaiseFloor { to }));
            }
            Op::ReleaseParts { max } => self.release_parts(*max),
            Op::Reencode { which } => {
                let waiting = self
                    .replica
                    .state
                    .view()
                    .undersized_writes(None, 99)
                    .unwrap();
                if let Some(id) = waiting.get(which % waiting.len().max(1)) {
                    let reencoding = self.replica.reencoding(*id);
                    self.replica.done(Change::ReencodeData(reencoding));
                }
            }
            Op::Repeat => {
                if let Some((command, outcome)) = self.last.clone() {
                    let below = command.epoch < Epoch(self.replica.epoch.0.saturating_sub(1));
                    let again = self.replica.apply(&command);
                    assert!(again == outcome || below, "{again:?}");
                }
            }
        }
    }

    fn release_parts(&mut self, max: u32) {
        let view = self.replica.state.view();
        let page = view.garbage(None, Epoch(u64::MAX), 99).unwrap();
        let floor = view.epochs().unwrap().floor;
        drop(view);
        let Some(row) = page.rows.into_iter().find(|row| row.is_part_list) else {
            return;
        };
        let (epoch, list) = (row.epoch, row.write_id);
        let change = Change::ReleaseParts { epoch, list, max };
        match self.replica.propose(change) {
            Ok(Reply::Emptied { .. }) => assert!(epoch < floor),
            other => assert_eq!((other, epoch >= floor), (Err(Refusal::Conflict), true)),
        }
    }

    fn delete_version(&mut self, which: usize, missing: bool) {
        let Some((key, version)) = self.nth(which) else {
            return;
        };
        let mut id = version.id;
        if let (true, VersionId::Ordered { nonce, .. }) = (missing, &mut id) {
            *nonce ^= 1;
        }
        let deleted = self.replica.delete(&key, Some(id));
        assert_eq!(deleted.version_id, Some(id));
        let there = id == version.id;
        assert_eq!(deleted.is_marker, there && version.bytes.is_none());
        let versions = self.keys.get_mut(&key).unwrap();
        versions.retain(|version| version.id != id);
        self.keys.retain(|_, versions| !versions.is_empty());
    }

    fn put_part(&mut self, upload: usize, number: u16, inline: bool) {
        let Some((key, upload)) = self.upload(upload) else {
            return;
        };
        let data = match inline {
            true => self.replica.inline("part"),
            false if number.is_multiple_of(2) => self.replica.undersized(50),
            false => self.replica.sharded(50),
        };
        let chosen = ChosenPart {
            number,
            write_id: data.write_id,
            size: data.size,
        };
        let used = self.usage();
        let mut wanted = used;
        let replaced = self.parts.get(&(upload, number));
        wanted.part_bytes += chosen.size;
        wanted.part_bytes -= replaced.map_or(0, |part| part.size);
        let expected = self.quota.allows(&used, &wanted);
        let done = self.replica.put_part(&key, upload, number, data);
        assert_eq!(done.clone().map(drop), expected);
        if done.is_err() {
            return;
        }
        self.parts.insert((upload, number), chosen);
    }

    fn complete(&mut self, upload: usize, odd: bool) {
        let Some((key, upload)) = self.upload(upload) else {
            return;
        };
        let of_upload = self.parts.range((upload, 0)..=(upload, u16::MAX));
        let chosen: Vec<ChosenPart> = of_upload
            .map(|(_, part)| part.clone())
            .filter(|part| !odd || part.number % 2 == 1)
            .collect();
        let size = chosen.iter().map(|part| part.size).sum();
        let refusal = self.refusal(&key, size, Some(upload));
        let done = self
            .replica
            .complete(&key, upload, &chosen, WriteCondition::default());
        match done {
            Err(refused) if !chosen.is_empty() && refusal.is_some() => {
                assert_eq!(Some(refused), refusal);
            }
            Ok(Reply::Written { version_id, .. }) => {
                assert_eq!(refusal, None);
                self.write(&key, version_id, Some((upload.0, size)));
                self.uploads.retain(|(_, id)| *id != upload);
            }
            other => assert!(chosen.is_empty(), "{other:?}"),
        }
    }

    fn compare(&self, prefix: &str, delimiter: &str, after: &str, max: usize) {
        self.replica.check();
        assert_eq!(self.replica.state.view().usage(B).unwrap(), self.usage());
        let objects: Vec<String> = self
            .keys
            .iter()
            .filter(|(_, versions)| versions[0].bytes.is_some())
            .map(|(key, _)| key.clone())
            .collect();
        let expected: Vec<ListEntry> = entries(&objects, prefix, delimiter, after);
        assert_eq!(self.replica.list(prefix, delimiter, after, max), expected);
        let mut versions = Vec::new();
        for (key, of_key) in self.keys.iter().filter(|(key, _)| key.starts_with(prefix)) {
            for (n, version) in of_key.iter().enumerate() {
                versions.push((key.clone(), version.id, n == 0));
            }
        }
        assert_eq!(self.replica.list_versions(prefix, max), versions);
    }
}

#[test]
fn random_commands_keep_every_invariant_and_agree_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    let states = std::cell::Cell::new(0);
    let listing = || {
        let delimiter = prop_oneof![Just(""), Just("/"), Just("é"), Just("a/")];
        let prefix = prop_oneof![Just(String::new()), key()];
        let after = prop_oneof![Just(String::new()), key()];
        (prefix, delimiter, after, 1..6usize)
    };
    let strategy = proptest::collection::vec((op(), listing()), 1..40);
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(64)
    });
    let result = runner.run(&strategy, |steps| {
        // Each case runs beside the rows of earlier cases.
        states.set(states.get() + 1);
        let mut model = Model {
            replica: TestReplica::on(&db, StateId(states.get())),
            versioning: Versioning::Off,
            quota: Quota::default(),
            keys: BTreeMap::new(),
            uploads: Vec::new(),
            parts: BTreeMap::new(),
            last: None,
        };
        model.replica.serial = 10;
        for (op, (prefix, delimiter, after, max)) in &steps {
            model.step(op);
            model.compare(prefix, delimiter, after, *max);
        }
        Ok(())
    });
    result.unwrap();
}
