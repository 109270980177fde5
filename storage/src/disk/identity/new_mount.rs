//! Whether an empty disk was mounted in the place of a lost one.
//!
//! An empty directory may be a mount that is missing, or one that somebody emptied by mistake. It
//! is a new disk only if a whole file system is mounted there, another one than the state file has
//! for the directory. A folder of a file system, which a container mounts, may be the empty place
//! of a mount that is missing outside. Where the state file knows nothing, nobody knows what was
//! there.

use std::io;
use std::path::Path;

use super::directory::{DirectoryState, inspect};
use super::state_file;
use drystone_store::env::{FileSystem, Files, Mount};

/// Decides it for an empty directory.
fn is_new(before: Option<&FileSystem>, now: &FileSystem, mount: Option<&Mount>) -> bool {
    let is_whole = mount.is_some_and(|mount| mount.is_whole);
    let is_other = |before: &FileSystem| before.id != now.id || before.made_ns != now.made_ns;
    is_whole && before.is_some_and(is_other)
}

/// Returns whether the directory is empty and the mount point of another file system than when it
/// was a disk.
pub fn is_empty_new_mount(state_file: &Path, dir: &Path, files: &dyn Files) -> io::Result<bool> {
    if !matches!(inspect(files, dir)?, DirectoryState::Empty) {
        return Ok(false);
    }
    let before = state_file::noted(state_file, dir, files)?;
    let own = files.canonicalize(dir)?;
    let mounts = files.mounts()?;
    let mount = mounts.iter().rfind(|mount| mount.directory == own);
    let before = before.as_ref().map(|place| &place.file_system);
    Ok(is_new(before, &files.file_system(dir)?, mount))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use drystone_store::env::{Env as _, SystemEnv};

    #[test]
    fn f_14_only_another_whole_file_system_is_a_new_disk() {
        let at = |device, id, made_ns| FileSystem {
            device,
            id,
            made_ns,
        };
        let old = at(5, 50, Some(100));
        let whole = |is_whole| Mount {
            directory: "/mnt/disk1".into(),
            is_whole,
        };
        let (mounted, folder) = (whole(true), whole(false));
        for (before, now, mount, expected) in [
            (Some(old), at(5, 51, Some(200)), Some(&mounted), true),
            // Of some the number is that of the device: it was made at another time.
            (Some(old), at(5, 50, Some(200)), Some(&mounted), true),
            (Some(old), at(6, 51, None), Some(&mounted), true),
            // The same file system, which somebody emptied.
            (Some(old), at(5, 50, Some(100)), Some(&mounted), false),
            (Some(old), at(6, 50, Some(100)), Some(&mounted), false),
            // The mount is missing: its mount point is a directory of another file system.
            (Some(old), at(1, 10, Some(1)), None, false),
            // It is missing outside of the container that this is.
            (Some(old), at(1, 10, Some(1)), Some(&folder), false),
            // Nobody knows what was there.
            (None, at(5, 51, Some(200)), Some(&mounted), false),
        ] {
            let found = is_new(before.as_ref(), &now, mount);
            assert_eq!(found, expected, "{before:?} {now:?} {mount:?}");
        }
    }

    #[test]
    fn f_14_a_directory_that_is_no_mount_point_is_no_new_disk() {
        let root = tempfile::tempdir().unwrap();
        let files = SystemEnv.files();
        let (dir, path) = (root.path().join("disk1"), root.path().join("disk1.state"));
        fs::create_dir(&dir).unwrap();
        let dirs = [dir.clone()];
        state_file::note(&path, [1; 16], &dirs, &dirs, files).unwrap();
        fs::remove_dir(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(!is_empty_new_mount(&path, &dir, files).unwrap());
        assert!(!is_empty_new_mount(&path, &root.path().join("none"), files).unwrap());
        // The machine's root is a mount point, and not empty.
        assert!(!is_empty_new_mount(&path, Path::new("/"), files).unwrap());
    }
}
