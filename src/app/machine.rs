//! The memory, the cores and the descriptors that this machine gives the process.

use std::fs;
use std::path::Path;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The memory that is assumed if the system does not report it.
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;
/// The number of descriptors that is assumed if there is no limit.
const DESCRIPTORS_MANY: u64 = 1 << 20;

/// Returns the memory that the process may use: the machine's, or less if its control group has a
/// limit.
pub fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total_memory);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let found = machine.into_iter().chain(group_memory(&groups));
    found.min().unwrap_or(MEMORY_BYTES_UNKNOWN)
}

/// Parses the line `MemTotal:  8131000 kB`.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Returns the lowest limit of the process's control groups and their parents, of both versions of
/// control groups. `max` means no limit.
fn group_memory(groups: &str) -> Option<u64> {
    let bounds = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = path.strip_prefix('/')?;
        let is_memory = controllers
            .split(',')
            .any(|controller| controller == "memory");
        match (controllers, is_memory) {
            ("", _) => group_limit(Path::new("/sys/fs/cgroup"), path, "memory.max"),
            (_, true) => {
                let root = Path::new("/sys/fs/cgroup/memory");
                group_limit(root, path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    bounds.min()
}

/// Returns the lowest number in the files of this name, from the group's folder up to the root's.
fn group_limit(root: &Path, path: &str, file: &str) -> Option<u64> {
    let group = root.join(path);
    let within = group
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    let bounds = within.filter_map(|folder| {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    });
    bounds.min()
}

/// Returns the number of cores that the process may use, which its control group may limit.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Raises the limit of open descriptors as far as allowed, and returns it.
pub fn descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let got = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files could not be raised");
            current
        }
    };
    got.unwrap_or(DESCRIPTORS_MANY).min(DESCRIPTORS_MANY)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_a_group_and_its_parents_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("a/b");
        fs::create_dir_all(&group).unwrap();
        let limit = || group_limit(root.path(), "a/b", "memory.max");
        assert_eq!(limit(), None);
        fs::write(group.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "1000000\n").unwrap();
        assert_eq!(limit(), Some(1_000_000));
        fs::write(group.join("memory.max"), "70000\n").unwrap();
        assert_eq!(limit(), Some(70_000));
        // A group of a container lies below another root there.
        assert_eq!(group_limit(root.path(), "far/away", "memory.max"), None);
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemFree: 1 kB\nMemTotal:        8131000 kB\n";
        assert_eq!(total_memory(text), Some(8_131_000 << 10));
        assert_eq!(total_memory("MemFree: 1 kB"), None);
        assert_eq!(group_memory("12:cpu:/x\n"), None);
        assert!(memory_bytes() > 1 << 20);
        assert!(descriptors() >= 64);
        assert!(cores() >= 1);
    }
}
