//! How much memory there is, and how much of it is free: the machine's, or what the cgroups that this process is in
//! leave of it.

use std::fs;
use std::path::Path;

use crate::cgroup::{groups, value_of, Group, Version};

/// Part of the memory (1 / n) that bodies may take together unless told otherwise.
const FOR_BODIES: u64 = 4;

/// Where nothing tells how much there is.
const UNKNOWN: u64 = 1024 * 1024 * 1024;

/// A quarter of the memory that this process may use, in bytes.
pub fn for_bodies() -> u64 {
    total().unwrap_or(UNKNOWN) / FOR_BODIES
}

/// The memory that this process may use, in bytes; `None` if nothing tells.
pub fn total() -> Option<u64> {
    least(Path::new("/"), "MemTotal:", limit)
}

/// What of it nobody uses, in bytes: what the system can give to a new process without swapping.
pub fn available() -> Option<u64> {
    available_in(Path::new("/"))
}

/// The same where the files of the system are in `root`.
pub(crate) fn available_in(root: &Path) -> Option<u64> {
    least(root, "MemAvailable:", left)
}

/// The least of what the machine and all groups say.
fn least(root: &Path, field: &str, of: impl Fn(&Group) -> Option<u64>) -> Option<u64> {
    let of_groups = groups(root, "memory").iter().filter_map(of).min();
    machine(root, field).into_iter().chain(of_groups).min()
}

fn machine(root: &Path, field: &str) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    value_of::<u64>(&text, field)?.checked_mul(1024)
}

/// A group's limit; `None` for `max`, and version 1 has a number beyond all memory then.
fn limit(group: &Group) -> Option<u64> {
    group.number(
        "memory",
        match group.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        },
    )
}

/// What is left of it. Files that were read and may be forgotten do not count as used.
fn left(group: &Group) -> Option<u64> {
    let (used, files) = match group.version {
        Version::One => ("memory.usage_in_bytes", "total_inactive_file "),
        Version::Two => ("memory.current", "inactive_file "),
    };
    let limit = limit(group)?;
    let stat = group.text("memory", "memory.stat").unwrap_or_default();
    let files = value_of(&stat, files).unwrap_or(0);
    let used: u64 = group.number("memory", used)?;
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::tree;

    fn least_limit(root: &Path) -> Option<u64> {
        groups(root, "memory").iter().filter_map(limit).min()
    }

    #[test]
    fn what_is_used_is_taken_from_the_limit_but_for_files_that_may_be_forgotten() {
        let root = tree(&[
            ("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"),
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "10000\n"),
            ("sys/fs/cgroup/a/memory.current", "9000\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 1\ninactive_file 4000\n",
            ),
        ]);
        assert_eq!(available_in(root.path()), Some(5000));
        let root = tree(&[
            ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 3 kB\n"),
            ("proc/self/cgroup", "5:memory:/a\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "10000\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000\n"),
        ]);
        assert_eq!(
            available_in(root.path()),
            Some(3072),
            "the machine has less"
        );
        let root = tree(&[("proc/self/cgroup", "nonsense\n\n:\n0::\n")]);
        assert_eq!(available_in(root.path()), None);
    }

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/a/b/c\n"),
            ("sys/fs/cgroup/a/memory.max", "4096\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/c/memory.max", "8192\n"),
        ]);
        assert_eq!(least_limit(root.path()), Some(4096));
    }

    #[test]
    fn the_first_version_and_a_container_that_sees_its_own_root_are_read() {
        let root = tree(&[
            (
                "proc/self/cgroup",
                "9:cpu:/x\n5:memory,pids:/docker/1\n0::/\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n"),
        ]);
        assert_eq!(least_limit(root.path()), Some(1000));
        let root = tree(&[
            ("proc/self/cgroup", "0::/kubepods/pod1/2\n"),
            ("sys/fs/cgroup/memory.max", "2000\n"),
        ]);
        assert_eq!(least_limit(root.path()), Some(2000));
    }

    #[test]
    fn a_machine_without_limits_has_its_memory() {
        let root = tree(&[
            ("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n"),
            ("proc/self/cgroup", "0::/\n"),
        ]);
        assert_eq!(machine(root.path(), "MemTotal:"), Some(1_024_000));
        assert_eq!(least_limit(root.path()), None);
        assert!(for_bodies() > 0);
    }
}
