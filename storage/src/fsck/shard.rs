//! Reads a shard's file from FORMAT.md alone: header, every block and footer, and compares them
//! with the row.

use std::io::{self, BufReader, Read};
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::disk::ShardName;
use drystone_store::checksum::Crc64;
use drystone_store::env::{FileReader, Files, OpenMode};

const HEADER_MAGIC: &[u8] = b"\x89shard\r\n";
const FOOTER_MAGIC: &[u8] = b"\x89sealed\n";
const VERSION: u16 = 1;
const HEADER_BYTES: u64 = 64;
const FOOTER_BYTES: u64 = 40;
const BLOCK_BYTES: u64 = 32 << 10;
const READ_BYTES: usize = 1 << 20;
/// The block number that seeds the checksum over the whole shard.
const WHOLE: u64 = u64::MAX;

/// The contents that a shard should have, as its data row says.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedShard {
    pub name: ShardName,
    pub bucket: u64,
    pub data_shards: u8,
    pub parity_shards: u8,
    pub chunk_size: u32,
    pub object_size: u64,
    pub checksum: u64,
    pub payload_checksum: u64,
}

impl ExpectedShard {
    /// The bytes of the shard's payload.
    fn payload(&self) -> u64 {
        let data = u64::from(self.data_shards);
        let chunk = u64::from(self.chunk_size);
        let rest = self.object_size % (data * chunk);
        self.object_size / (data * chunk) * chunk + rest.div_ceil(data)
    }

    pub fn blocks(&self) -> u64 {
        self.payload().div_ceil(BLOCK_BYTES)
    }

    /// Returns whether the lengths above can be computed.
    pub fn is_sound(&self) -> bool {
        self.data_shards > 0 && self.chunk_size > 0
    }
}

/// The reason why a shard is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Missing,
    /// Nothing of it is usable.
    Useless(String),
    /// All but these blocks are good.
    Blocks(Vec<u64>),
    /// Every block is good, but the footer or the checksum over the whole is not.
    Frame(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Missing => f.write_str("missing"),
            Fault::Useless(why) | Fault::Frame(why) => f.write_str(why),
            Fault::Blocks(blocks) => write!(f, "{} damaged blocks", blocks.len()),
        }
    }
}

/// Reads the whole file and verifies it.
pub fn verify(files: &dyn Files, path: &Path, expected: &ExpectedShard) -> Result<(), Fault> {
    let file = match files.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Fault::Missing),
        other => other.map_err(unreadable)?,
    };
    let found = file.size().map_err(unreadable)?;
    let payload = expected.payload();
    let length = HEADER_BYTES + payload + 8 * expected.blocks() + FOOTER_BYTES;
    if found != length {
        return Err(Fault::Useless(format!("{found} bytes instead of {length}")));
    }
    let mut file = BufReader::with_capacity(READ_BYTES, FileReader::new(file));
    let header: [u8; HEADER_BYTES as usize] = take(&mut file)?;
    check_header(&header, expected)?;

    let mut whole = Xxh3::with_seed(seed(&expected.name, WHOLE));
    whole.update(&header);
    let mut contents = Crc64::default();
    let mut bad = Vec::new();
    for block in 0..expected.blocks() {
        let checksum: [u8; 8] = take(&mut file)?;
        let len = (payload - block * BLOCK_BYTES).min(BLOCK_BYTES);
        let mut bytes = vec![0; len as usize];
        file.read_exact(&mut bytes).map_err(unreadable)?;
        contents.update(&bytes);
        let found = xxh3_64_with_seed(&bytes, seed(&expected.name, block));
        if found.to_le_bytes() != checksum {
            bad.push(block);
        }
        whole.update(&checksum);
    }
    if !bad.is_empty() {
        return Err(Fault::Blocks(bad));
    }
    if contents.value() != expected.payload_checksum {
        return Err(Fault::Useless(
            "payload is not the one that was written".into(),
        ));
    }
    let footer: [u8; FOOTER_BYTES as usize] = take(&mut file)?;
    whole.update(&footer[..16]);
    check_footer(&footer, expected, whole.digest())
}

fn check_header(header: &[u8; 64], expected: &ExpectedShard) -> Result<(), Fault> {
    if header[..8] != *HEADER_MAGIC || number(&header[56..]) != xxh3_64(&header[..56]) {
        return Err(Fault::Useless("header does not verify".into()));
    }
    if header[8..10] != VERSION.to_le_bytes() {
        return Err(Fault::Useless("header has an unknown version".into()));
    }
    let is = [
        header[10] == expected.data_shards,
        header[11] == expected.parity_shards,
        header[12] == expected.name.rank,
        header[13..16] == [0; 3],
        header[16..32] == expected.name.write_id.0,
        number(&header[40..]) == expected.bucket,
        header[48..52] == expected.chunk_size.to_le_bytes(),
        header[52..56] == expected.name.generation.to_le_bytes(),
    ];
    match is.iter().all(|is| *is) {
        true => Ok(()),
        false => Err(Fault::Useless("header is another shard's".into())),
    }
}

fn check_footer(footer: &[u8; 40], expected: &ExpectedShard, whole: u64) -> Result<(), Fault> {
    let frame = |what: &str| Err(Fault::Frame(what.into()));
    if footer[24..32] != *FOOTER_MAGIC || number(&footer[32..]) != xxh3_64(&footer[..32]) {
        return frame("footer does not verify");
    }
    if number(footer) != expected.object_size || number(&footer[8..]) != expected.payload() {
        return frame("footer has other sizes");
    }
    if number(&footer[16..]) != whole {
        return frame("checksum over the whole shard does not verify");
    }
    if expected.checksum != whole {
        return frame("checksum is not the one in the data row");
    }
    Ok(())
}

fn seed(name: &ShardName, block: u64) -> u64 {
    let mut bytes = name.write_id.0.to_vec();
    bytes.push(name.rank);
    bytes.extend_from_slice(&name.generation.to_le_bytes());
    bytes.extend_from_slice(&block.to_le_bytes());
    xxh3_64(&bytes)
}

/// Reads the first eight bytes as a little-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .rev()
        .fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn take<const N: usize>(file: &mut impl Read) -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn unreadable(error: io::Error) -> Fault {
    Fault::Useless(format!("unreadable: {error}"))
}
