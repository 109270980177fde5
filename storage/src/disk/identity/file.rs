//! The file `identity`, which makes a directory a disk, and its copy.

use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::error::IdentityError;
use drystone_store::crash::{Crash, DiskPoint};
use drystone_store::env::{Files, OpenMode};
use drystone_store::types::DiskId;

pub(super) const FILE: &str = "identity";
/// The same content again, for when a bit of the first has flipped.
pub(super) const COPY_FILE: &str = "identity.copy";
pub(super) const NEW_FILE: &str = "identity.new";

const MAGIC: [u8; 8] = *b"\x89ecdisk\n";
/// The format version of everything on the disk, not of this file alone. It rises with the first
/// row, entry or file that an older program does not know, and is written first. So an older
/// program refuses the store before it opens anything else.
pub(super) const VERSION: u16 = 1;
const BORN: u16 = 1;
const LEN: usize = 104;

/// The content of the file `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: [u8; 16],
    pub node: [u8; 16],
    pub disk: DiskId,
    /// Names the first start that created this disk, and the number of disks that it was to create;
    /// zero if the disk was added later.
    pub birth: [u8; 16],
    pub birth_disks: u32,
    /// Counts how often the disk was rebuilt under its id.
    pub generation: u64,
    /// Counts the store's recoveries: a disk with a lower count returns as an empty one.
    pub incarnation: u64,
    pub born: bool,
}

/// The content of an identity's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Known(Identity),
    /// A newer version of the program wrote the disk.
    Newer(u16),
    Damaged,
}

/// Reads the identity in `dir`, or its copy if it is damaged. The copy counts only if the first
/// file exists: an operator who removed that file meant to remove the disk.
pub(super) fn read(files: &dyn Files, dir: &Path) -> io::Result<Content> {
    match content(&files.read(&dir.join(FILE))?) {
        Content::Damaged => {
            let copy = files.read(&dir.join(COPY_FILE));
            Ok(copy.map_or(Content::Damaged, |bytes| content(&bytes)))
        }
        content => Ok(content),
    }
}

/// In every version the file begins with the magic and the version, and ends with the checksum of
/// all bytes before it.
fn content(bytes: &[u8]) -> Content {
    if let Some(identity) = decode(bytes) {
        return Content::Known(identity);
    }
    let Some((rest, checksum)) = bytes.split_last_chunk::<8>() else {
        return Content::Damaged;
    };
    let is_whole = xxh3_64(rest) == u64::from_le_bytes(*checksum);
    let version = rest.strip_prefix(&MAGIC).and_then(<[u8]>::first_chunk);
    match version.map(|version| u16::from_le_bytes(*version)) {
        Some(version) if is_whole && version > VERSION => Content::Newer(version),
        _ => Content::Damaged,
    }
}

fn read_copy(files: &dyn Files, dir: &Path) -> Option<Identity> {
    decode(&files.read(&dir.join(COPY_FILE)).ok()?)
}

/// Writes a disk's identity again if it or its copy differs from the identity that was read.
pub(super) fn repair(files: &dyn Files, dir: &Path, identity: &Identity, crash: &Crash) {
    let first = files.read(&dir.join(FILE)).ok();
    let whole = first.and_then(|bytes| decode(&bytes)) == Some(*identity);
    if whole && read_copy(files, dir) == Some(*identity) {
        return;
    }
    match write(files, dir, identity, crash) {
        Ok(()) => tracing::warn!(dir = %dir.display(), "a disk's identity is written again"),
        Err(error) => tracing::warn!(%error, "a disk's identity stays damaged"),
    }
}

/// Power goes before the first rename: the old identity, or none, and `identity.new`, which the
/// next write replaces. After it: the new one, or the old one until the folder is synced; an older
/// copy, which counts only if the first file is damaged, is written again at the next start.
pub(super) fn write(
    files: &dyn Files,
    dir: &Path,
    identity: &Identity,
    crash: &Crash,
) -> Result<(), IdentityError> {
    let write = || -> io::Result<()> {
        let new = dir.join(NEW_FILE);
        for name in [FILE, COPY_FILE] {
            let file = files.open(&new, OpenMode::CreateEmpty)?;
            file.write_all_at(&encode(identity), 0)?;
            file.sync_all()?;
            crash.pass_disk(DiskPoint::IdentityWritten);
            files.rename(&new, &dir.join(name))?;
            crash.pass_disk(DiskPoint::IdentityRenamed);
        }
        files.sync_dir(dir)?;
        crash.pass_disk(DiskPoint::IdentityDurable);
        Ok(())
    };
    write().map_err(|source| IdentityError::io(dir, source))
}

fn encode(identity: &Identity) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[10..12].copy_from_slice(&if identity.born { BORN } else { 0 }.to_le_bytes());
    bytes[12..28].copy_from_slice(&identity.cluster);
    bytes[28..44].copy_from_slice(&identity.node);
    bytes[44..60].copy_from_slice(&identity.disk.0);
    bytes[60..76].copy_from_slice(&identity.birth);
    bytes[76..80].copy_from_slice(&identity.birth_disks.to_le_bytes());
    bytes[80..88].copy_from_slice(&identity.generation.to_le_bytes());
    bytes[88..96].copy_from_slice(&identity.incarnation.to_le_bytes());
    let checksum = xxh3_64(&bytes[..96]);
    bytes[96..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<Identity> {
    let bytes: &[u8; LEN] = bytes.try_into().ok()?;
    let array16 = |at: usize| -> [u8; 16] { bytes[at..at + 16].try_into().expect("16 bytes") };
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if bytes[..8] != MAGIC || short(8) != VERSION || number(96) != xxh3_64(&bytes[..96]) {
        return None;
    }
    Some(Identity {
        cluster: array16(12),
        node: array16(28),
        disk: DiskId(array16(44)),
        birth: array16(60),
        birth_disks: u32::from_le_bytes(bytes[76..80].try_into().expect("4 bytes")),
        generation: number(80),
        incarnation: number(88),
        born: short(10) & BORN != 0,
    })
}
