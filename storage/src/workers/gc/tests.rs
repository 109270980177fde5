#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::engine::testing::{self, Whole};
use crate::engine::{Engine, Options};
use crate::meta::command::ChosenPart;
use crate::meta::record::{DataKind, GarbageRow, GarbageShard};
use crate::meta::view::View;
use crate::raft::epochs::Epochs;
use drystone_store::body::BodyReader;
use drystone_store::buckets::Buckets as _;
use drystone_store::checksum;
use drystone_store::error::{Error, Refusal};
use drystone_store::instance::Instance as _;
use drystone_store::objects::{DeleteObject, Objects as _, ReadScope};
use drystone_store::types::{BucketId, ByteRange, UploadedPart, VersionSelector, WriteId};
use drystone_store::uploads::{CompleteUpload, CompletedPart, Uploads as _};

/// Enough for several blocks, so that a reader has not all of it at once.
const LEN: usize = 9_000_000;

fn bytes(seed: u8) -> Bytes {
    (0..LEN).map(|n| (n / 251) as u8 ^ seed).collect()
}

/// A collector of the objects' group that is not run, for a process that holds `epochs`.
fn collector(engine: &Engine, epochs: Arc<Epochs>) -> Collector {
    let objects = Proposer {
        epochs,
        env: engine.env.clone(),
        group: engine.objects.group.clone(),
    };
    let shards = Some(engine.shards.clone());
    Collector::new("test", objects, shards, Duration::from_secs(600))
}

/// A store on two disks and a collector whose rounds are the test's.
struct Bench {
    _root: tempfile::TempDir,
    directories: Vec<PathBuf>,
    engine: Arc<Engine>,
    bucket: BucketId,
    collector: Collector,
}

impl Bench {
    async fn new() -> Bench {
        let root = tempfile::tempdir().unwrap();
        let directories: Vec<_> = (0..2).map(|n| root.path().join(format!("{n}"))).collect();
        let engine = Engine::open(Options::new(directories.clone()))
            .await
            .unwrap();
        let bucket = testing::create_bucket(&engine).await;
        let collector = collector(&engine, engine.objects.epochs.clone());
        Bench {
            _root: root,
            directories,
            engine,
            bucket,
            collector,
        }
    }

    async fn put(&self, key: &str, seed: u8) {
        let mut body = Whole::new(bytes(seed));
        testing::put(&self.engine, self.bucket, key, &mut body).await;
    }

    async fn reader(&self, key: &str) -> Result<Box<dyn BodyReader>> {
        let latest = VersionSelector::Latest;
        let handle = self
            .engine
            .open_object(self.bucket, key, latest, ReadScope::Whole)
            .await?;
        let end = LEN as u64;
        handle.read(ByteRange { start: 0, end }).await
    }

    async fn delete(&self, key: &str) {
        let delete = DeleteObject {
            key: key.into(),
            version: VersionSelector::Latest,
            condition: Default::default(),
        };
        self.engine
            .delete_object(self.bucket, delete)
            .await
            .unwrap();
    }

    async fn part(&self, key: &str, seed: u8) -> (drystone_store::types::UploadId, UploadedPart) {
        let upload = testing::create_upload(&self.engine, self.bucket, key).await;
        let mut body = Whole::new(bytes(seed));
        let put = self
            .engine
            .upload_part(self.bucket, key, upload, 1, &mut body);
        (upload, put.await.unwrap())
    }

    /// More rounds than any epoch lasts that nobody holds.
    async fn collect(&self) {
        for _ in 0..3 {
            self.collector.round().await.unwrap();
        }
    }

    fn files(&self) -> usize {
        let folders = self.directories.iter().flat_map(|dir| {
            let folders = fs::read_dir(dir.join("shards")).unwrap();
            folders.map(|folder| folder.unwrap().path())
        });
        folders
            .map(|folder| fs::read_dir(folder).unwrap().count())
            .sum()
    }
}

#[tokio::test]
async fn b_19_a_slow_reader_keeps_what_it_reads_and_no_longer() {
    let bench = Bench::new().await;
    bench.put("k", 1).await;
    let mut reader = bench.reader("k").await.unwrap();
    let first = reader.next().await.unwrap().unwrap();
    assert!(first.len() < LEN);
    bench.delete("k").await;
    bench.collect().await;
    assert_eq!(bench.files(), 2);
    let rest = testing::rest(reader).await;
    assert!([&first[..], &rest].concat() == bytes(1));
    bench.collect().await;
    assert_eq!(bench.files(), 0);
    bench.engine.close().await;
}

#[tokio::test]
async fn b_19_r_02_a_writer_slower_than_the_floor_is_refused_and_names_nothing() {
    let bench = Bench::new().await;
    let engine = &bench.engine;
    let epoch = engine.objects.epochs.begin();
    let mut body = Whole::new(bytes(1));
    let written = engine.write_body(&epoch, bench.bucket, "", &mut body).await;
    let (data, digest) = written.unwrap();
    // As if this process had not held its epoch: another one raises the floor past it.
    let other = collector(engine, Arc::new(Epochs::new(epoch.epoch())));
    other.round().await.unwrap();
    assert_eq!(bench.files(), 0, "unnamed and below the floor");
    let change = Change::PutObject {
        bucket: bench.bucket,
        key: "k".into(),
        attributes: Default::default(),
        condition: Default::default(),
        data: data.clone(),
        digest,
        nonce: 0,
    };
    let refused = engine.commit_data(epoch, data, change).await;
    assert!(
        matches!(
            refused,
            Err(Error::Refused(Refusal::EpochBelowFloor) | Error::Expired)
        ),
        "{refused:?}"
    );
    let gone = bench.reader("k").await.map(drop);
    assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchKey))));
    engine.close().await;
}

#[tokio::test]
async fn b_20_a_copy_keeps_the_bytes_that_it_shares() {
    let bench = Bench::new().await;
    bench.put("k", 1).await;
    let latest = VersionSelector::Latest;
    let source = bench
        .engine
        .open_object(bench.bucket, "k", latest, ReadScope::Whole)
        .await
        .unwrap();
    let copy = testing::object("copy");
    let linked = bench
        .engine
        .link_object(bench.bucket, source.as_ref(), copy);
    linked.await.unwrap();
    drop(source);
    bench.delete("k").await;
    bench.collect().await;
    let reader = bench.reader("copy").await.unwrap();
    assert!(testing::rest(reader).await == bytes(1));
    bench.delete("copy").await;
    bench.collect().await;
    assert_eq!(bench.files(), 0);
    bench.engine.close().await;
}

#[tokio::test]
async fn b_21_aborting_an_upload_takes_nothing_that_an_object_uses() {
    let bench = Bench::new().await;
    let (done, part) = bench.part("k", 1).await;
    let complete = CompleteUpload {
        key: "k".into(),
        upload: done,
        parts: vec![CompletedPart {
            number: 1,
            etag: part.etag,
            checksum: None,
        }],
        checksum: None,
        size: None,
        condition: Default::default(),
    };
    bench
        .engine
        .complete_upload(bench.bucket, complete)
        .await
        .unwrap();
    let (given_up, _) = bench.part("k", 2).await;
    assert_eq!(bench.files(), 4);
    let abort = bench.engine.abort_upload(bench.bucket, "k", given_up);
    abort.await.unwrap();
    // The one that became the object is no upload any more.
    let gone = bench.engine.abort_upload(bench.bucket, "k", done).await;
    assert!(gone.is_err());
    bench.collect().await;
    assert_eq!(bench.files(), 2);
    let reader = bench.reader("k").await.unwrap();
    assert!(testing::rest(reader).await == bytes(1));
    bench.engine.close().await;
}

#[tokio::test]
async fn s_03_the_parts_of_uploads_go_with_their_bucket() {
    let bench = Bench::new().await;
    for key in ["a", "b"] {
        bench.part(key, 1).await;
    }
    assert_eq!(bench.files(), 4);
    bench.engine.delete_bucket(bench.bucket).await.unwrap();
    bench.collect().await;
    assert_eq!(bench.files(), 0);
    bench.engine.close().await;
}

/// Opens the store again, as soon as the last user of its disks has released them.
async fn reopened(directories: &[PathBuf]) -> Arc<Engine> {
    loop {
        match Engine::open(Options::new(directories.to_vec())).await {
            Err(error) if error.to_string().contains("in use") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Once the first round of gc after a start dropped the outcomes of all uploads: a client that got
/// no answer before the restart, and asked again after it, was told that there is no such upload.
#[tokio::test]
async fn s_20_a_completion_is_answered_alike_after_a_restart() {
    let bench = Bench::new().await;
    let (upload, part) = bench.part("k", 1).await;
    let complete = CompleteUpload {
        key: "k".into(),
        upload,
        parts: vec![CompletedPart {
            number: 1,
            etag: part.etag,
            checksum: None,
        }],
        checksum: None,
        size: None,
        condition: Default::default(),
    };
    let bucket = bench.bucket;
    let first = bench.engine.complete_upload(bucket, complete.clone()).await;
    let first = first.unwrap();
    bench.engine.close().await;
    let Bench {
        _root,
        directories,
        engine,
        collector,
        ..
    } = bench;
    drop((engine, collector));
    let engine = reopened(&directories).await;
    let collector = self::collector(&engine, engine.objects.epochs.clone());
    for _ in 0..3 {
        collector.round().await.unwrap();
    }
    let again = engine.complete_upload(bucket, complete).await;
    assert_eq!(again.unwrap(), first);
    engine.close().await;
}

#[tokio::test]
async fn b_05_a_garbage_row_stays_until_its_files_are_surely_gone() {
    let bench = Bench::new().await;
    bench.put("k", 1).await;
    bench.delete("k").await;
    let disk = &bench.engine.shards.disks()[1];
    disk.fail("as a test");
    bench.collect().await;
    assert_eq!(bench.files(), 1);
    let most = Epoch(u64::MAX);
    let rows = bench
        .engine
        .objects
        .group
        .read(move |view| view.garbage(None, most, 10));
    let rows = rows.await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_ne!(rows[0].write_id, WriteId([0; 16]));
    bench.engine.close().await;
}

/// Once a reader of many parts held the places of all of them in memory, as their rows were removed
/// with the object.
#[tokio::test]
async fn b_19_a_reader_of_many_parts_gets_all_of_them_after_the_object_is_overwritten() {
    const PARTS: u16 = 100;
    let bench = Bench::new().await;
    let (engine, bucket) = (&bench.engine, bench.bucket);
    let upload = testing::create_upload(engine, bucket, "k").await;
    let (mut parts, mut expected) = (Vec::new(), Vec::new());
    for number in 1..=PARTS {
        // Some in the metadata, some in shards.
        let len = if number % 2 == 0 { 70 } else { 20_000 };
        let bytes = vec![number as u8; len];
        let mut body = Whole::new(bytes.clone());
        let put = engine.upload_part(bucket, "k", upload, number, &mut body);
        parts.push(put.await.unwrap());
        expected.extend(bytes);
    }
    let read = move |view: &View<'_>| {
        let numbers: Vec<u16> = (1..=PARTS).collect();
        view.chosen_parts(upload, &numbers)
    };
    let stored = engine.objects.group.read(read).await.unwrap();
    // The engine would refuse parts that are so small.
    let chosen = stored.into_iter().flatten().map(|stored| ChosenPart {
        number: stored.part.number,
        write_id: stored.write_id,
        size: stored.part.size,
    });
    let complete = Change::CompleteUpload {
        bucket,
        key: "k".into(),
        upload,
        parts: chosen.collect(),
        etag: checksum::multipart_etag(parts.iter().map(|part| part.etag.md5)),
        checksum: None,
        condition: Default::default(),
        nonce: 1,
    };
    engine.objects.propose(complete).await.unwrap();
    let open = async |scope| {
        let handle = engine.open_object(bucket, "k", VersionSelector::Latest, scope);
        handle.await.unwrap()
    };
    let end = expected.len() as u64;
    let whole = ByteRange { start: 0, end };
    let handle = open(ReadScope::Whole).await;
    let mut reader = handle.read(whole).await.unwrap();
    let first = reader.next().await.unwrap().unwrap();
    drop(handle);
    let files = bench.files();
    bench.put("k", 1).await;
    bench.collect().await;
    assert_eq!(bench.files(), files + 2, "nothing of it is removed");
    let rest = testing::rest(reader).await;
    assert!([first.to_vec(), rest].concat() == expected);
    bench.collect().await;
    assert_eq!(bench.files(), 2, "only the new object is left");
    engine.close().await;
}

#[tokio::test]
async fn r_02_garbage_that_a_row_still_names_is_kept_and_counted() {
    let bench = Bench::new().await;
    bench.put("k", 1).await;
    bench.put("gone", 2).await;
    let latest = VersionSelector::Latest;
    let handle = bench
        .engine
        .open_object(bench.bucket, "k", latest, ReadScope::Nothing)
        .await;
    let write_id = handle.unwrap().object().write_id;
    let bucket = bench.bucket;
    let plant = bench.engine.objects.group.read(move |view| {
        let DataKind::Shards(set) = view.data(write_id)?.unwrap().kind else {
            panic!("it has shards");
        };
        let shards = GarbageShard::all_of(&set);
        view.plant_garbage(
            Epoch(0),
            write_id,
            &GarbageRow {
                bucket,
                shards,
                is_part_list: false,
            },
        );
        Ok(())
    });
    plant.await.unwrap();
    bench.delete("gone").await;
    bench.collect().await;
    assert_eq!(bench.files(), 2, "those of the object that is not deleted");
    let reader = bench.reader("k").await.unwrap();
    assert!(testing::rest(reader).await == bytes(1));
    let measures = bench.collector.measures().await;
    let named = bench.collector.counts.garbage_named.load(Ordering::Relaxed);
    assert!(named > 0);
    assert!(
        measures
            .iter()
            .any(|measure| measure.name == "gc_garbage_named_total")
    );
    bench.engine.close().await;
}
