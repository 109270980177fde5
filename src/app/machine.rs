//! The memory and the descriptors that this machine gives the process.

use std::fs;
use std::path::Path;

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

/// Returns the lowest limit of the process's control group and its parents. `max` means no limit.
fn group_memory(groups: &str) -> Option<u64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let group = root.join(path);
    let within = group
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    let bounds = within.filter_map(|folder| {
        let text = fs::read_to_string(folder.join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    bounds.min()
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
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemFree: 1 kB\nMemTotal:        8131000 kB\n";
        assert_eq!(total_memory(text), Some(8_131_000 << 10));
        assert_eq!(total_memory("MemFree: 1 kB"), None);
        assert_eq!(group_memory("12:cpu:/x\n"), None);
        assert!(memory_bytes() > 1 << 20);
        assert!(descriptors() >= 64);
    }
}
