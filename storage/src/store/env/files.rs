//! The file system as the storage engine uses it.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Env, Mount};

/// The names in a directory, in any order.
pub type Names = Box<dyn Iterator<Item = io::Result<OsString>>>;

/// Purpose of opening a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// To be read. It must be there.
    Read,
    /// To be read and written. It must be there.
    Write,
    /// To be read and written. It is made where it is not there, and keeps what it has.
    Create,
    /// To be read and written. It is made, or emptied where it is there.
    CreateEmpty,
    /// To be read and written. It is made, and must not be there.
    CreateNew,
}

/// Tells two names of one file or directory from two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// Capacity of a file system, and the part of it that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub bytes: u64,
    pub bytes_free: u64,
    /// The number of files that it can hold; 0 where it makes room for them as they come.
    pub inodes: u64,
    pub inodes_free: u64,
}

/// The file system that a path leads to. File systems have no name that lasts: the numbers may
/// change when the machine starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub device: u64,
    pub id: u64,
    /// Nanoseconds since 1970, UTC: when what the path leads to was made, where that is kept. For a
    /// mount point it is when the file system was made.
    pub made_ns: Option<u64>,
}

/// A file system. All calls block.
///
/// # What an implementation must guarantee
///
/// - Without a crash, each reader of a file reads what was written, also under a new name.
/// - After a crash of the machine a file has what it had at its last sync that returned `Ok`. Of
///   each byte written later, either the old or the new one is there, in any combination. The
///   length may be any between the two.
/// - A name that was made, changed or removed is durable once [`Files::sync_dir`] of its directory
///   has returned `Ok`. Before that a crash leaves each such change or undoes it. [`Files::rename`]
///   is atomic: a crash leaves the old name or the new one, and for a target that was there, its
///   old file or the new one, never none.
/// - A sync that failed says nothing of the file from then on: the next one may return `Ok`
///   although what was written is lost.
/// - A crash of the process alone loses nothing.
/// - Errors have the `ErrorKind` that the system gives them (`NotFound`, `AlreadyExists`,
///   `StorageFull`, …). Callers decide by it.
pub trait Files: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Returns the names in a directory.
    fn list(&self, dir: &Path) -> io::Result<Names>;

    /// Returns the file or directory that the path leads to, over links.
    fn identify(&self, path: &Path) -> io::Result<FileId>;

    /// Returns the path without links and relative parts. It must lead somewhere.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;

    /// Makes a directory, which must not be there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a directory and those above it, where they are not there.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file or directory another name, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file, and the file with its last name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it. Links are removed, not followed.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Copies a file's content to a new file.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes a symbolic link to `target`.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;

    /// Returns the capacity of the file system that the path leads to.
    fn capacity(&self, path: &Path) -> io::Result<Capacity>;

    /// Returns the file system that the path leads to.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;

    /// Returns all mounts that the process sees, in their order: of two at one directory the last
    /// one counts.
    fn mounts(&self) -> io::Result<Vec<Mount>>;

    /// Makes an empty directory for temporary files. [`ScratchDir`] removes it again.
    fn create_scratch_dir(&self, prefix: &str) -> io::Result<PathBuf>;
}

/// An open file. All calls block.
pub trait File: Debug + Send + Sync {
    /// Reads into the buffers, in turn, and returns how many bytes; fewer than they hold only at
    /// the file's end or for a reason of the system's.
    fn read_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize>;

    /// Writes from the buffers, in turn, and returns how many bytes.
    fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Returns the file's length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Makes the content durable, and the length.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the content and all else that the file system keeps of the file durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Begins to write a span of the content to the disk, so that less is left for the next sync.
    /// Waits for nothing and promises nothing.
    fn start_writeback(&self, span: Range<u64>);

    /// Drops what memory has of a file that was synced, so that the next read is from the disk.
    fn drop_cache(&self) -> io::Result<()>;

    /// Locks the file against all other processes, and other openings of it in this one, until it
    /// is dropped. Returns false where another has the lock.
    fn try_lock(&self) -> io::Result<bool>;
}

impl dyn Files + '_ {
    /// Returns whether the path leads to something that can be looked at.
    pub fn exists(&self, path: &Path) -> bool {
        self.identify(path).is_ok()
    }

    /// Reads the whole content of a file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.open(path, OpenMode::Read)?.read_all()
    }
}

impl dyn File + '_ {
    /// Reads the whole content.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.size()?).map_err(io::Error::other)?;
        let mut content = vec![0; size];
        self.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    /// Fills the buffer.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_vectored_at(&mut [IoSliceMut::new(buffer)], offset)
    }

    /// Fills all the buffers, in turn.
    pub fn read_exact_vectored_at(
        &self,
        mut buffers: &mut [IoSliceMut<'_>],
        mut offset: u64,
    ) -> io::Result<()> {
        IoSliceMut::advance_slices(&mut buffers, 0);
        while !buffers.is_empty() {
            match self.read_at(buffers, offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    offset += n as u64;
                    IoSliceMut::advance_slices(&mut buffers, n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all the bytes.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [IoSlice::new(bytes)], offset)
    }

    /// Writes all the buffers, in turn.
    pub fn write_all_vectored_at(
        &self,
        mut buffers: &mut [IoSlice<'_>],
        mut offset: u64,
    ) -> io::Result<()> {
        IoSlice::advance_slices(&mut buffers, 0);
        while !buffers.is_empty() {
            match self.write_at(buffers, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    offset += n as u64;
                    IoSlice::advance_slices(&mut buffers, n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Reads a file from its beginning on.
#[derive(Debug)]
pub struct FileReader {
    file: Arc<dyn File>,
    offset: u64,
}

impl FileReader {
    pub fn new(file: Arc<dyn File>) -> FileReader {
        FileReader { file, offset: 0 }
    }
}

impl io::Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self
            .file
            .read_at(&mut [IoSliceMut::new(buffer)], self.offset)?;
        self.offset += bytes as u64;
        Ok(bytes)
    }
}

/// A directory for temporary files; dropped, it is removed with all that is in it.
pub struct ScratchDir {
    env: Arc<dyn Env>,
    path: PathBuf,
}

impl ScratchDir {
    /// Makes it where the system keeps temporary files; `prefix` begins its name.
    pub fn create(env: Arc<dyn Env>, prefix: &str) -> io::Result<ScratchDir> {
        let path = env.files().create_scratch_dir(prefix)?;
        Ok(ScratchDir { env, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if let Err(error) = self.env.files().remove_dir_all(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "temporary files stay");
        }
    }
}
