//! A shard as a file: header, then blocks that each follow their checksum, then a footer.
//!
//! The header is written first and says whose shard this is; the footer is written last and has the
//! length, so nothing is ever rewritten. A block's checksum is seeded with the shard's name (write
//! id, rank and generation) and the block's position: a file or block that lies in another's place,
//! is left over or is damaged does not verify. Everything here blocks and runs on a disk's own
//! threads.

use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::disk::{
    BLOCK_SIZE_BYTES, Blocks, DiskError, ShardHeader, ShardName, ShardShape, block_span, blocks_of,
};
use drystone_store::env::{File, Files, OpenMode};
use drystone_store::types::{BucketId, Epoch, WriteId};

const MAGIC: [u8; 8] = *b"\x89shard\r\n";
const FOOTER_MAGIC: [u8; 8] = *b"\x89sealed\n";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 64;
const FOOTER_LEN: usize = 40;
const CHECKSUM_LEN: usize = 8;
const BLOCK_LEN: usize = BLOCK_SIZE_BYTES as usize;
/// The maximum number of blocks of one read: two buffers each, and the system accepts 1024 at once.
const READ_BLOCKS_MAX: u64 = 256;

/// The position that seeds the checksum over a whole shard.
const WHOLE: u64 = u64::MAX;

pub fn encode_header(header: &ShardHeader) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[10] = header.data_shards;
    bytes[11] = header.parity_shards;
    bytes[12] = header.name.rank;
    bytes[16..32].copy_from_slice(&header.name.write_id.0);
    bytes[32..40].copy_from_slice(&header.epoch.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&header.bucket.0.to_le_bytes());
    bytes[48..52].copy_from_slice(&header.chunk_size.to_le_bytes());
    bytes[52..56].copy_from_slice(&header.name.generation.to_le_bytes());
    let checksum = xxh3_64(&bytes[..56]);
    bytes[56..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Returns `None` if these bytes are no header of this version.
pub fn decode_header(bytes: &[u8; HEADER_LEN]) -> Option<ShardHeader> {
    let whole = bytes[..8] == MAGIC
        && bytes[8..10] == VERSION.to_le_bytes()
        && bytes[56..] == xxh3_64(&bytes[..56]).to_le_bytes();
    if !whole {
        return None;
    }
    Some(ShardHeader {
        name: ShardName {
            write_id: WriteId(bytes[16..32].try_into().ok()?),
            rank: bytes[12],
            generation: u32::from_le_bytes(bytes[52..56].try_into().ok()?),
        },
        epoch: Epoch(u64::from_le_bytes(bytes[32..40].try_into().ok()?)),
        bucket: BucketId(u64::from_le_bytes(bytes[40..48].try_into().ok()?)),
        data_shards: bytes[10],
        parity_shards: bytes[11],
        chunk_size: u32::from_le_bytes(bytes[48..52].try_into().ok()?),
    })
}

/// Returns the seed of a block's checksum. It includes the generation, as a re-encoded write has
/// other bytes in the same place.
fn seed(name: &ShardName, position: u64) -> u64 {
    let mut bytes = [0; 29];
    bytes[..16].copy_from_slice(&name.write_id.0);
    bytes[16] = name.rank;
    bytes[17..21].copy_from_slice(&name.generation.to_le_bytes());
    bytes[21..].copy_from_slice(&position.to_le_bytes());
    xxh3_64(&bytes)
}

/// Returns the name of a shard's file, in the folder of its write id's first byte.
pub fn file_name(name: &ShardName) -> String {
    format!("{}.{:02x}.{:x}", name.write_id, name.rank, name.generation)
}

/// A shard being written.
pub struct Writer {
    file: Arc<dyn File>,
    name: ShardName,
    /// The end of the file so far.
    end: u64,
    /// The end of what the kernel was asked to write.
    written_back: u64,
    /// The number of payload bytes so far.
    len: u64,
    /// The hash over the header and all blocks' checksums.
    whole: Xxh3,
}

impl Writer {
    /// Creates the file. Power goes here: it is not there, or is, with any length; in both cases
    /// the list of unconfirmed shards has its name.
    pub fn create(files: &dyn Files, path: &Path, header: &ShardHeader) -> io::Result<Writer> {
        let file = files.open(path, OpenMode::CreateNew)?;
        let bytes = encode_header(header);
        file.write_all_at(&bytes, 0)?;
        let name = header.name;
        let mut whole = Xxh3::with_seed(seed(&name, WHOLE));
        whole.update(&bytes);
        Ok(Writer {
            file,
            name,
            end: bytes.len() as u64,
            written_back: 0,
            len: 0,
            whole,
        })
    }

    /// Returns the file, for a sync in the background.
    pub fn file(&self) -> Arc<dyn File> {
        Arc::clone(&self.file)
    }

    pub fn append(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        let blocks: Vec<&[u8]> = chunks.iter().flat_map(|c| c.chunks(BLOCK_LEN)).collect();
        let mut checksums = Vec::with_capacity(blocks.len());
        for block in &blocks {
            assert!(
                self.len.is_multiple_of(BLOCK_LEN as u64),
                "only a shard's last block is short"
            );
            let position = self.len / BLOCK_LEN as u64;
            let seed = seed(&self.name, position);
            checksums.push(xxh3_64_with_seed(block, seed).to_le_bytes());
            self.len += block.len() as u64;
        }
        checksums.iter().for_each(|sum| self.whole.update(sum));
        let mut slices: Vec<IoSlice<'_>> = checksums
            .iter()
            .zip(&blocks)
            .flat_map(|(sum, block)| [IoSlice::new(sum), IoSlice::new(block)])
            .collect();
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        self.file.write_all_vectored_at(&mut slices, self.end)?;
        self.end += bytes as u64;
        Ok(())
    }

    /// Has the kernel write what it has of the file to the disk, once that is `at_least` so much.
    /// Waits for nothing, and promises nothing.
    pub fn start_writeback(&mut self, at_least: u64) {
        let span = self.written_back..self.end;
        if span.end - span.start >= at_least {
            self.written_back = span.end;
            self.file.start_writeback(span);
        }
    }

    /// Writes the footer; the caller syncs the file and its folder. Power goes before the sync of
    /// the file: it has any length. After: it is complete, and its name may still be missing.
    pub fn seal(mut self, object_size: u64) -> io::Result<u64> {
        let mut footer = [0; FOOTER_LEN];
        footer[..8].copy_from_slice(&object_size.to_le_bytes());
        footer[8..16].copy_from_slice(&self.len.to_le_bytes());
        self.whole.update(&footer[..16]);
        let checksum = self.whole.digest();
        footer[16..24].copy_from_slice(&checksum.to_le_bytes());
        footer[24..32].copy_from_slice(&FOOTER_MAGIC);
        let own = xxh3_64(&footer[..32]);
        footer[32..].copy_from_slice(&own.to_le_bytes());
        self.file.write_all_at(&footer, self.end)?;
        Ok(checksum)
    }
}

/// Returns the length of the file of a shard with this much payload.
fn file_len(shard_len: u64) -> u64 {
    let overhead = (HEADER_LEN + FOOTER_LEN) as u64;
    overhead + shard_len + blocks_of(&(0..shard_len)).end * CHECKSUM_LEN as u64
}

/// A shard opened for reading.
pub struct Reader {
    file: Arc<dyn File>,
    name: ShardName,
    len: u64,
}

impl Reader {
    /// Opens the file and checks that it is the requested shard and has its full length.
    pub fn open(
        files: &dyn Files,
        path: &Path,
        name: ShardName,
        shape: ShardShape,
    ) -> Result<Reader, DiskError> {
        let file = files.open(path, OpenMode::Read)?;
        let (found, expected) = (file.size()?, file_len(shape.len));
        if found != expected {
            return Err(DiskError::Corrupt(format!(
                "{found} bytes long instead of {expected}"
            )));
        }
        let mut bytes = [0; HEADER_LEN];
        file.read_exact_at(&mut bytes, 0)?;
        let header = decode_header(&bytes)
            .ok_or_else(|| DiskError::Corrupt("header does not verify".into()))?;
        let found = ShardShape {
            bucket: header.bucket,
            data_shards: header.data_shards,
            parity_shards: header.parity_shards,
            len: shape.len,
        };
        if header.name != name || found != shape {
            return Err(DiskError::Corrupt("header is another shard's".into()));
        }
        let len = shape.len;
        Ok(Reader { file, name, len })
    }

    /// Returns the shard's checksum, from a footer that verifies.
    pub fn footer(&self) -> Result<u64, DiskError> {
        let mut footer = [0; FOOTER_LEN];
        let at = file_len(self.len) - FOOTER_LEN as u64;
        self.file.read_exact_at(&mut footer, at)?;
        let number = |at: usize| {
            let bytes = footer[at..at + 8].try_into().expect("8 bytes");
            u64::from_le_bytes(bytes)
        };
        let whole = footer[24..32] == FOOTER_MAGIC
            && number(32) == xxh3_64(&footer[..32])
            && number(8) == self.len;
        match whole {
            true => Ok(number(16)),
            false => Err(DiskError::Corrupt("footer does not verify".into())),
        }
    }

    /// Drops what memory has of the file.
    pub fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }

    /// Reads blocks in one system call and verifies each.
    pub fn read(&self, blocks: Range<u64>) -> io::Result<Blocks> {
        assert!(
            blocks.end <= blocks_of(&(0..self.len)).end,
            "blocks lie within their shard"
        );
        assert!(blocks.end - blocks.start <= READ_BLOCKS_MAX);
        let payload_start = block_span(blocks.start, self.len).start;
        let payload_end = block_span(blocks.end, self.len).start;
        let mut payload = vec![0; (payload_end - payload_start) as usize];
        let count = (blocks.end - blocks.start) as usize;
        let mut checksums = vec![[0; CHECKSUM_LEN]; count];

        let frame = (BLOCK_LEN + CHECKSUM_LEN) as u64;
        let mut slices: Vec<IoSliceMut<'_>> = checksums
            .iter_mut()
            .zip(payload.chunks_mut(BLOCK_LEN))
            .flat_map(|(sum, block)| [IoSliceMut::new(sum), IoSliceMut::new(block)])
            .collect();
        let offset = HEADER_LEN as u64 + blocks.start * frame;
        self.file.read_exact_vectored_at(&mut slices, offset)?;

        let verifies = |(position, (block, sum)): (u64, (&[u8], &[u8; CHECKSUM_LEN]))| {
            let seed = seed(&self.name, position);
            (xxh3_64_with_seed(block, seed).to_le_bytes() != *sum).then_some(position)
        };
        let bad = (blocks.start..)
            .zip(payload.chunks(BLOCK_LEN).zip(&checksums))
            .filter_map(verifies)
            .collect();
        Ok(Blocks::new(blocks.start, Bytes::from(payload), bad))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use drystone_store::env::SystemEnv;

    const SIZE: u64 = 3 * BLOCK_LEN as u64 + 77;

    fn name(id: u8, rank: u8) -> ShardName {
        ShardName {
            write_id: WriteId([id; 16]),
            rank,
            generation: 0,
        }
    }

    fn header(name: ShardName) -> ShardHeader {
        ShardHeader {
            name,
            epoch: Epoch(9),
            bucket: BucketId(4),
            data_shards: 1,
            parity_shards: 1,
            chunk_size: 2 * BLOCK_SIZE_BYTES,
        }
    }

    fn shape() -> ShardShape {
        ShardShape {
            bucket: BucketId(4),
            data_shards: 1,
            parity_shards: 1,
            len: SIZE,
        }
    }

    fn payload() -> Bytes {
        (0..SIZE).map(|i| (i * 7 + i / 255) as u8).collect()
    }

    fn write(path: &Path, name: ShardName) -> u64 {
        let mut writer = Writer::create(&SystemEnv, path, &header(name)).unwrap();
        let payload = payload();
        let (first, second) = (2 * BLOCK_LEN, 3 * BLOCK_LEN);
        writer.append(&[payload.slice(..first)]).unwrap();
        let rest = [payload.slice(first..second), payload.slice(second..)];
        writer.append(&rest).unwrap();
        writer.seal(SIZE).unwrap()
    }

    fn read(path: &Path, name: ShardName) -> Result<Option<Bytes>, DiskError> {
        let reader = Reader::open(&SystemEnv, path, name, shape())?;
        let blocks = reader.read(0..4)?;
        Ok(blocks.span(&(0..SIZE)))
    }

    #[test]
    fn what_is_written_is_read_in_any_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        write(&path, name(1, 0));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), file_len(SIZE));
        assert_eq!(read(&path, name(1, 0)).unwrap(), Some(payload()));
        let reader = Reader::open(&SystemEnv, &path, name(1, 0), shape()).unwrap();
        let tail = reader.read(2..4).unwrap();
        let span = 2 * BLOCK_LEN as u64 + 5..SIZE - 1;
        let expected = payload().slice(span.start as usize..span.end as usize);
        assert_eq!(tail.span(&span), Some(expected));
        assert_eq!(tail.span(&(0..5)), None, "not among those read");
    }

    #[test]
    fn f_04_a_flipped_bit_is_never_served() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        write(&path, name(1, 0));
        let good = std::fs::read(&path).unwrap();
        let last = good.len() - FOOTER_LEN - 1;
        for at in [0, 9, 12, 20, 45, 60, 64, 70, 73, 40_000, last] {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            match read(&path, name(1, 0)) {
                Ok(None) | Err(DiskError::Corrupt(_)) => {}
                other => panic!("flip at {at}: {other:?}"),
            }
        }
    }

    #[test]
    fn f_04_a_bad_block_leaves_the_others_readable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        write(&path, name(1, 0));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER_LEN + BLOCK_LEN + CHECKSUM_LEN + 100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let reader = Reader::open(&SystemEnv, &path, name(1, 0), shape()).unwrap();
        let blocks = reader.read(0..4).unwrap();
        assert!(!blocks.is_intact());
        let block = |n: u64| blocks.span(&block_span(n, SIZE)).is_some();
        assert_eq!([0, 1, 2, 3].map(block), [true, false, true, true]);
    }

    #[test]
    fn f_03_short_torn_and_long_files_are_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        write(&path, name(1, 0));
        let good = std::fs::read(&path).unwrap();
        for len in [0, 30, 64, 5000, good.len() - 1, good.len() + 1] {
            let mut bytes = good.clone();
            bytes.resize(len, 0);
            std::fs::write(&path, bytes).unwrap();
            let read = read(&path, name(1, 0));
            assert!(matches!(read, Err(DiskError::Corrupt(_))), "{len}");
        }
        let mut torn = good.clone();
        torn[50_000..54_096].fill(0);
        std::fs::write(&path, torn).unwrap();
        assert!(read(&path, name(1, 0)).unwrap().is_none());
    }

    #[test]
    fn f_07_foreign_swapped_and_moved_files_are_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        write(&path, name(1, 0));
        for other in [name(2, 0), name(1, 1)] {
            assert!(matches!(read(&path, other), Err(DiskError::Corrupt(_))));
        }
        // With the header of this shard in place, the blocks of the other still don't verify.
        let foreign = dir.path().join("foreign");
        write(&foreign, name(2, 0));
        let mut bytes = std::fs::read(&foreign).unwrap();
        bytes[..HEADER_LEN].copy_from_slice(&encode_header(&header(name(1, 0))));
        std::fs::write(&path, &bytes).unwrap();
        assert!(read(&path, name(1, 0)).unwrap().is_none());
        // The blocks of this shard in another generation don't either.
        let older = ShardName {
            generation: 7,
            ..name(1, 0)
        };
        let path_of_older = dir.path().join("older");
        write(&path_of_older, older);
        let mut bytes = std::fs::read(&path_of_older).unwrap();
        assert!(matches!(
            read(&path_of_older, name(1, 0)),
            Err(DiskError::Corrupt(_))
        ));
        bytes[..HEADER_LEN].copy_from_slice(&encode_header(&header(name(1, 0))));
        std::fs::write(&path, &bytes).unwrap();
        assert!(read(&path, name(1, 0)).unwrap().is_none());
        // A shard's own blocks in another place don't either.
        let moved = dir.path().join("moved");
        write(&moved, name(1, 0));
        let mut bytes = std::fs::read(&moved).unwrap();
        let frame = BLOCK_LEN + CHECKSUM_LEN;
        bytes.copy_within(HEADER_LEN..HEADER_LEN + frame, HEADER_LEN + frame);
        std::fs::write(&moved, &bytes).unwrap();
        assert!(read(&moved, name(1, 0)).unwrap().is_none());
    }

    #[test]
    fn b_26_a_shard_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        write(&path, name(1, 0));
        assert!(Writer::create(&SystemEnv, &path, &header(name(1, 0))).is_err());
        assert_eq!(read(&path, name(1, 0)).unwrap(), Some(payload()));
    }
}
