//! How much memory there is, and how much of it is free: the machine's, or what the cgroups that this process is in
//! leave of it.

use std::fs;
use std::path::{Path, PathBuf};

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
    least(Path::new("/"), "MemTotal:", |group| group.limit())
}

/// What of it nobody uses, in bytes: what the system can give to a new process without swapping.
pub fn available() -> Option<u64> {
    least(Path::new("/"), "MemAvailable:", Group::left)
}

/// The least of what the machine and all groups say.
fn least(root: &Path, field: &str, of: impl Fn(&Group) -> Option<u64>) -> Option<u64> {
    let of_groups = groups(root).iter().filter_map(of).min();
    machine(root, field).into_iter().chain(of_groups).min()
}

fn machine(root: &Path, field: &str) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    value_of(&text, field)?.checked_mul(1024)
}

/// The number that follows a name in a file of such lines.
fn value_of(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// A cgroup that limits memory.
struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

impl Group {
    fn number(&self, file: &str) -> Option<u64> {
        // `max`, or a number beyond all memory: none.
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.trim().parse().ok()
    }

    fn limit(&self) -> Option<u64> {
        self.number(match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        })
    }

    /// What is left of its limit. Files that were read and may be forgotten do not count as used.
    fn left(&self) -> Option<u64> {
        let (used, files) = match self.version {
            Version::One => ("memory.usage_in_bytes", "total_inactive_file "),
            Version::Two => ("memory.current", "inactive_file "),
        };
        let limit = self.limit()?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let files = value_of(&stat, files).unwrap_or(0);
        Some(limit.saturating_sub(self.number(used)?.saturating_sub(files)))
    }
}

/// All groups that this process is in, and those above them.
fn groups(root: &Path) -> Vec<Group> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounted = root.join("sys/fs/cgroup");
    let mut groups = Vec::new();
    for line in text.lines() {
        // `hierarchy:controllers:path`; version 2 has the hierarchy 0 and no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            // Where both versions are mounted, the second is in a folder of its own.
            for part in ["", "unified"] {
                climb(&mounted.join(part), path, Version::Two, &mut groups);
            }
        } else if controllers.split(',').any(|name| name == "memory") {
            climb(&mounted.join("memory"), path, Version::One, &mut groups);
        }
    }
    groups
}

/// From `path` up to the root of what is mounted. In a container that root often is our own group, and `path` is that of
/// the host.
fn climb(mounted: &Path, path: &str, version: Version, groups: &mut Vec<Group>) {
    let mut folder: PathBuf = mounted.join(path.trim_start_matches('/'));
    loop {
        groups.push(Group {
            folder: folder.clone(),
            version,
        });
        if folder == mounted || !folder.pop() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    fn limit(root: &Path) -> Option<u64> {
        groups(root).iter().filter_map(Group::limit).min()
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
        let left = |root: &Path| least(root, "MemAvailable:", Group::left);
        assert_eq!(left(root.path()), Some(5000));
        let root = tree(&[
            ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 3 kB\n"),
            ("proc/self/cgroup", "5:memory:/a\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "10000\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000\n"),
        ]);
        assert_eq!(left(root.path()), Some(3072), "the machine has less");
        let root = tree(&[("proc/self/cgroup", "nonsense\n\n:\n0::\n")]);
        assert_eq!(left(root.path()), None);
    }

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/a/b/c\n"),
            ("sys/fs/cgroup/a/memory.max", "4096\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/c/memory.max", "8192\n"),
        ]);
        assert_eq!(limit(root.path()), Some(4096));
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
        assert_eq!(limit(root.path()), Some(1000));
        let root = tree(&[
            ("proc/self/cgroup", "0::/kubepods/pod1/2\n"),
            ("sys/fs/cgroup/memory.max", "2000\n"),
        ]);
        assert_eq!(limit(root.path()), Some(2000));
    }

    #[test]
    fn a_machine_without_limits_has_its_memory() {
        let root = tree(&[
            ("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n"),
            ("proc/self/cgroup", "0::/\n"),
        ]);
        assert_eq!(machine(root.path(), "MemTotal:"), Some(1_024_000));
        assert_eq!(limit(root.path()), None);
        assert!(for_bodies() > 0);
    }
}
