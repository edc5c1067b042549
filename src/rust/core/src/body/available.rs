//! How much memory there is: the machine's, or what the cgroups that this process is in leave of it.

use std::fs;
use std::path::{Path, PathBuf};

/// Part of the memory (1 / n) that bodies may take together unless told otherwise.
const PART: u64 = 4;

/// Where nothing tells how much there is.
const UNKNOWN: u64 = 1024 * 1024 * 1024;

/// A quarter of the memory that this process may use.
pub fn default_total() -> u64 {
    let root = Path::new("/");
    let limits = [machine(root), cgroups(root)];
    limits.into_iter().flatten().min().unwrap_or(UNKNOWN) / PART
}

fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The least that any of our cgroups, or one above it, allows.
fn cgroups(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounted = root.join("sys/fs/cgroup");
    text.lines()
        .filter_map(|line| {
            // `hierarchy:controllers:path`; version 2 has the hierarchy 0 and no controllers.
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            if controllers.is_empty() {
                // Where both versions are mounted, the second is in a folder of its own.
                ["", "unified"]
                    .iter()
                    .filter_map(|part| least(&mounted.join(part), path, "memory.max"))
                    .min()
            } else if controllers.split(',').any(|name| name == "memory") {
                least(&mounted.join("memory"), path, "memory.limit_in_bytes")
            } else {
                None
            }
        })
        .min()
}

/// The least limit from `path` up to the root of what is mounted. In a container that root often is our own group, and
/// `path` is that of the host.
fn least(mounted: &Path, path: &str, file: &str) -> Option<u64> {
    let mut folder: PathBuf = mounted.join(path.trim_start_matches('/'));
    let mut least = None;
    loop {
        let limit = fs::read_to_string(folder.join(file)).ok();
        // `max`, or a number beyond all memory: none.
        let limit: Option<u64> = limit.and_then(|text| text.trim().parse().ok());
        least = match (least, limit) {
            (Some(least), Some(limit)) => Some(limit.min(least)),
            (least, limit) => least.or(limit),
        };
        if folder == mounted || !folder.pop() {
            return least;
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

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/a/b/c\n"),
            ("sys/fs/cgroup/a/memory.max", "4096\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/c/memory.max", "8192\n"),
        ]);
        assert_eq!(cgroups(root.path()), Some(4096));
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
        assert_eq!(cgroups(root.path()), Some(1000));
        let root = tree(&[
            ("proc/self/cgroup", "0::/kubepods/pod1/2\n"),
            ("sys/fs/cgroup/memory.max", "2000\n"),
        ]);
        assert_eq!(cgroups(root.path()), Some(2000));
    }

    #[test]
    fn a_machine_without_limits_has_its_memory() {
        let root = tree(&[
            ("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n"),
            ("proc/self/cgroup", "0::/\n"),
        ]);
        assert_eq!(machine(root.path()), Some(1_024_000));
        assert_eq!(cgroups(root.path()), None);
        assert!(default_total() > 0);
    }
}
