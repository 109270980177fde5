//! Proof that what is read, rebuilt and examined is what was committed, and not only what verifies.

use std::path::Path;

use tokio::sync::watch;

use super::*;
use crate::disk::shard_file::{self, Writer};
use crate::disk::{
    Blocks, DiskError, DiskState, ShardHeader, ShardName, ShardReader, ShardShape, ShardWriter,
    Space, UnconfirmedShard, block_span, blocks_of,
};
use crate::shards::WriteRef;
use drystone_store::env::Operations;
use drystone_store::lock::Mutex;

/// A disk between which and its users bits flip, and that remembers how shards were read.
struct FlippingDisk {
    inner: Arc<dyn Disk>,
    flips: bool,
    reads: Arc<Mutex<Vec<&'static str>>>,
}

struct FlippingWriter(Box<dyn ShardWriter>);

#[async_trait]
impl ShardWriter for FlippingWriter {
    async fn write(&mut self, chunks: Vec<Bytes>) -> Result<(), DiskError> {
        let flipped = chunks.into_iter().map(|chunk| {
            let mut chunk = chunk.to_vec();
            chunk[0] ^= 1;
            Bytes::from(chunk)
        });
        self.0.write(flipped.collect()).await
    }

    async fn finish(self: Box<Self>, object_size: u64) -> Result<u64, DiskError> {
        self.0.finish(object_size).await
    }
}

struct WatchedReader {
    inner: Box<dyn ShardReader>,
    reads: Arc<Mutex<Vec<&'static str>>>,
}

#[async_trait]
impl ShardReader for WatchedReader {
    async fn read(&self, blocks: std::ops::Range<u64>) -> Result<Blocks, DiskError> {
        self.reads.lock().push("read");
        self.inner.read(blocks).await
    }

    async fn seal(&self) -> Result<u64, DiskError> {
        self.inner.seal().await
    }

    async fn drop_cache(&self) -> Result<(), DiskError> {
        self.reads.lock().push("drop cache");
        self.inner.drop_cache().await
    }
}

#[async_trait]
impl Disk for FlippingDisk {
    fn id(&self) -> DiskId {
        self.inner.id()
    }

    fn state(&self) -> watch::Receiver<DiskState> {
        self.inner.state()
    }

    fn fail(&self, why: &str) {
        self.inner.fail(why);
    }

    fn space(&self) -> Result<Space, DiskError> {
        self.inner.space()
    }

    fn operations(&self) -> Arc<Operations> {
        self.inner.operations()
    }

    fn syncs(&self) -> (u64, f64) {
        self.inner.syncs()
    }

    fn give_up(&self, why: &str) {
        self.inner.give_up(why);
    }

    async fn create(&self, header: ShardHeader) -> Result<Box<dyn ShardWriter>, DiskError> {
        let writer = self.inner.create(header).await?;
        Ok(match self.flips {
            true => Box::new(FlippingWriter(writer)),
            false => writer,
        })
    }

    async fn open(
        &self,
        name: ShardName,
        shape: ShardShape,
    ) -> Result<Box<dyn ShardReader>, DiskError> {
        let inner = self.inner.open(name, shape).await?;
        let reads = self.reads.clone();
        Ok(Box::new(WatchedReader { inner, reads }))
    }

    async fn remove(&self, shards: Vec<ShardName>) -> Result<(), DiskError> {
        self.inner.remove(shards).await
    }

    async fn unconfirmed(
        &self,
        below: Epoch,
        max: usize,
    ) -> Result<Vec<UnconfirmedShard>, DiskError> {
        self.inner.unconfirmed(below, max).await
    }

    async fn unlisted(&self, folder: u8) -> Result<Vec<ShardName>, DiskError> {
        self.inner.unlisted(folder).await
    }

    async fn mark_unconfirmed(
        &self,
        shards: Vec<ShardName>,
        epoch: Epoch,
    ) -> Result<(), DiskError> {
        self.inner.mark_unconfirmed(shards, epoch).await
    }

    fn confirm(&self, shards: &[ShardName]) {
        self.inner.confirm(shards);
    }
}

type Written = (WriteId, ShardSet);

impl Bench {
    fn pace(&self) -> Pace {
        Pace::new(self.shards.env.clone(), 0, false)
    }

    /// Puts a wrapper in the place of each disk. Returns what they remember of reads.
    fn wrap(&self, flips: bool) -> Arc<Mutex<Vec<&'static str>>> {
        let reads: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        for inner in self.shards.disks() {
            self.shards.add_disk(Arc::new(FlippingDisk {
                inner,
                flips,
                reads: reads.clone(),
            }));
        }
        reads
    }

    /// Replaces a shard by one with another payload that verifies, as an earlier mistake of heal
    /// would have left it.
    fn forge(&self, of: &mut Written, rank: usize) {
        let path = self.file(of, rank);
        of.1.shards[rank].checksum = forge(&path);
    }

    async fn rebuild(&self, of: &Written, size: u64, rank: u8) -> Result<ShardPlace, HealError> {
        let shard = shard(of, size, rank);
        let rebuilt = self.shards.rebuild(shard, Epoch(5), &self.pace()).await?;
        Ok(ShardPlace {
            disk: rebuilt.at.disk,
            generation: rebuilt.at.generation,
            checksum: rebuilt.checksum,
            ..of.1.shards[usize::from(rank)].clone()
        })
    }

    async fn examine(&self, of: &Written, size: u64, rank: u8) -> ShardCondition {
        let pace = self.pace();
        let examined = self.shards.examine(shard(of, size, rank), &pace);
        examined.await.unwrap()
    }
}

fn shard(of: &Written, size: u64, rank: u8) -> ShardRef<'_> {
    ShardRef {
        write_id: of.0,
        bucket: BUCKET,
        size,
        set: &of.1,
        rank,
    }
}

/// Writes a shard's file again with one bit of the payload changed and with checksums that fit.
fn forge(path: &Path) -> u64 {
    let file = fs::read(path).unwrap();
    let header = shard_file::decode_header(&file[..64].try_into().unwrap()).unwrap();
    let footer = &file[file.len() - 40..];
    let number = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().unwrap());
    let (size, len) = (number(0), number(8));
    let blocks = blocks_of(&(0..len)).map(|block| {
        let span = block_span(block, len);
        let start = 64 + block as usize * (BLOCK as usize + 8) + 8;
        let mut bytes = file[start..start + (span.end - span.start) as usize].to_vec();
        if block == 0 {
            bytes[7] ^= 1;
        }
        Bytes::from(bytes)
    });
    let blocks: Vec<Bytes> = blocks.collect();
    fs::remove_file(path).unwrap();
    let mut writer = Writer::create(&SystemEnv, path, &header).unwrap();
    writer.append(&blocks).unwrap();
    writer.seal(size).unwrap()
}

fn is_damaged(found: &ShardCondition) -> bool {
    matches!(found, ShardCondition::Damaged(_))
}

/// Once the bytes that were rebuilt were compared with themselves alone: one wrong shard made
/// others wrong, for good.
#[tokio::test]
async fn r_12_what_is_rebuilt_from_a_wrong_shard_is_not_used_and_the_wrong_one_is_healed() {
    let mut bench = Bench::new(4);
    let object = bytes(5 * CHUNK + 77);
    let size = object.len() as u64;
    let mut written = bench.write(&object).await;
    bench.forge(&mut written, 1);
    fs::remove_file(bench.file(&written, 0)).unwrap();
    let rebuilt = bench.rebuild(&written, size, 0).await;
    assert!(
        matches!(rebuilt, Err(HealError::Unproven(_))),
        "{rebuilt:?}"
    );
    assert_eq!(bench.reported(), HashSet::from([1]));
    assert_eq!(bench.files(), 3, "nothing is left of it");

    assert!(is_damaged(&bench.examine(&written, size, 1).await));
    for rank in [1, 0] {
        let place = bench.rebuild(&written, size, rank).await.unwrap();
        written.1.shards[usize::from(rank)] = place;
        let found = bench.examine(&written, size, rank).await;
        assert_eq!(found, ShardCondition::Whole);
    }
    bench.assert_reads_back(&written, &object).await;
}

/// Once such a shard was served for good: every block of it verifies.
#[tokio::test]
async fn r_10_a_whole_read_of_a_shard_that_verifies_and_is_wrong_never_ends_well() {
    for size in [100, BLOCK + 1, 24 * CHUNK + 1] {
        let mut bench = Bench::new(4);
        let object = bytes(size);
        let mut written = bench.write(&object).await;
        bench.forge(&mut written, 0);
        let range = ByteRange {
            start: 0,
            end: size,
        };
        let read = bench.read(&written, size, range).await;
        assert!(matches!(read, Err(Error::Unavailable(_))), "{size}");
        assert_eq!(bench.reported(), HashSet::from([0]));
        let place = bench.rebuild(&written, size, 0).await.unwrap();
        written.1.shards[0] = place;
        bench.assert_reads_back(&written, &object).await;
    }
}

/// Once the first checksum of a shard was taken by the thread that writes it.
#[tokio::test]
async fn r_12_a_bit_that_flips_on_the_way_to_a_disk_is_found() {
    let mut bench = Bench::new(4);
    let object = bytes(5 * CHUNK + 77);
    let size = object.len() as u64;
    bench.wrap(true);
    let written = bench.write(&object).await;
    for rank in 0..4 {
        assert!(is_damaged(&bench.examine(&written, size, rank).await));
    }
    let range = ByteRange {
        start: 0,
        end: size,
    };
    let read = bench.read(&written, size, range).await;
    assert!(matches!(read, Err(Error::Unavailable(_))));
    assert_eq!(bench.reported(), HashSet::from([0, 1]));

    let mut bench = Bench::new(4);
    let written = bench.write(&object).await;
    bench.wrap(true);
    let rebuilt = bench.rebuild(&written, size, 3).await;
    assert!(
        matches!(rebuilt, Err(HealError::Disk { .. })),
        "{rebuilt:?}"
    );
    assert!(bench.reported().is_empty());
}

/// Once it was read from memory, where it was whatever the disk had made of it.
#[tokio::test]
async fn r_12_what_was_rebuilt_is_read_back_from_the_disk() {
    let bench = Bench::new(4);
    let object = bytes(20 * CHUNK);
    let size = object.len() as u64;
    let written = bench.write(&object).await;
    let reads = bench.wrap(false);
    bench.rebuild(&written, size, 3).await.unwrap();
    let reads = std::mem::take(&mut *reads.lock());
    let first = reads.iter().position(|read| *read == "drop cache");
    let read_back = &reads[first.unwrap()..];
    assert_eq!(read_back.first(), Some(&"drop cache"));
    assert_eq!(read_back.last(), Some(&"drop cache"));
    let blocks = blocks_of(&(0..10 * CHUNK)).end as usize;
    let steps = read_back.iter().filter(|read| **read == "read").count();
    assert_eq!(steps, blocks.div_ceil(32));
}

/// Once parity was read, and compared with nothing but its own checksums.
#[tokio::test]
async fn r_22_parity_that_is_not_the_code_of_its_data_is_found() {
    for size in [100, 5 * CHUNK + 77, 40 * CHUNK] {
        let bench = Bench::new(4);
        let object = bytes(size);
        let mut written = bench.write(&object).await;
        let pace = bench.pace();
        let examine = async |of: &Written| {
            let write = WriteRef {
                write_id: of.0,
                bucket: BUCKET,
                size,
                set: &of.1,
            };
            bench.shards.examine_write(write, &pace).await.unwrap()
        };
        let whole = examine(&written).await;
        assert_eq!(whole.shards, vec![Some(ShardCondition::Whole); 4]);
        assert!(!whole.has_wrong_parity);

        bench.forge(&mut written, 3);
        let forged = examine(&written).await;
        assert!(is_damaged(forged.shards[3].as_ref().unwrap()));
        assert!(
            !forged.has_wrong_parity,
            "one shard is damaged, not the code"
        );

        // As if it had been coded so.
        written.1.shards[3].payload_checksum = payload_checksum(&bench.file(&written, 3));
        let coded = examine(&written).await;
        assert_eq!(coded.shards, vec![Some(ShardCondition::Whole); 4]);
        assert!(coded.has_wrong_parity);
        bench.assert_reads_back(&written, &object).await;

        // What was never written is not read, and without it the code cannot be compared.
        written.1.shards[1].missing = true;
        let found = examine(&written).await;
        let read: Vec<bool> = found.shards.iter().map(Option::is_some).collect();
        assert_eq!(read, [true, false, true, true]);
        assert!(!found.has_wrong_parity);
    }
}

fn payload_checksum(path: &Path) -> u64 {
    let file = fs::read(path).unwrap();
    let mut sum = drystone_store::checksum::Crc64::default();
    for frame in file[64..file.len() - 40].chunks(BLOCK as usize + 8) {
        sum.update(&frame[8..]);
    }
    sum.value()
}
