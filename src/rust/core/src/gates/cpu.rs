//! How many cores are idle: of the machine, and of what the cgroups leave to this process.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::cgroup::{groups, value_of, Group, Version};

/// What is idle is a mean over this time: long enough for the ticks that the system counts in (10 ms), short enough for cores
/// that are free to be offered within two seconds.
const WINDOW: Duration = Duration::from_secs(1);

/// Looks at the system now and then, and tells what was idle in between.
pub struct Meter {
    root: PathBuf,
    /// Those of the last `WINDOW`, and the last one before it.
    looks: VecDeque<Look>,
}

/// What has been counted up to some moment.
struct Look {
    at: Instant,
    machine: Machine,
    groups: Vec<Usage>,
}

/// Ticks of the cores that this process may run on.
struct Machine {
    cores: u32,
    idle: u64,
    total: u64,
}

/// Of a group with a limit.
struct Usage {
    /// The cores that it may use.
    limit: f64,
    /// The seconds of cores that it has used. `None`: nothing tells, and all of the limit counts as idle.
    used: Option<f64>,
}

impl Meter {
    /// `root` is `/`, but for tests.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            looks: VecDeque::new(),
        }
    }

    /// How many cores are idle. `None` at the first look, and if the system does not tell.
    pub fn idle(&mut self, now: Instant) -> Option<f64> {
        let Some(machine) = Machine::look(&self.root) else {
            self.looks.clear();
            return None;
        };
        let look = Look {
            at: now,
            machine,
            groups: groups(&self.root, "cpu")
                .iter()
                .filter_map(Usage::look)
                .collect(),
        };
        while self
            .looks
            .get(1)
            .is_some_and(|next| now.duration_since(next.at) >= WINDOW)
        {
            self.looks.pop_front();
        }
        let idle = self
            .looks
            .front()
            .and_then(|before| look.idle_since(before));
        self.looks.push_back(look);
        idle
    }
}

impl Look {
    fn idle_since(&self, before: &Look) -> Option<f64> {
        let machine = self.machine.idle_since(&before.machine)?;
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        // Whoever moves this process to another group meanwhile has the machine count alone, for a window.
        let comparable = self.groups.len() == before.groups.len() && seconds > 0.0;
        let groups = self.groups.iter().zip(&before.groups);
        let of_groups = groups.filter(|_| comparable).map(|(now, before)| {
            let used = now.used.zip(before.used);
            now.limit - used.map_or(0.0, |(now, before)| (now - before).max(0.0) / seconds)
        });
        Some(of_groups.fold(machine, f64::min).max(0.0))
    }
}

impl Machine {
    fn look(root: &Path) -> Option<Self> {
        let stat = fs::read_to_string(root.join("proc/stat")).ok()?;
        let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
        let allowed = value_of::<String>(&status, "Cpus_allowed_list:");
        let mut machine = Self {
            cores: 0,
            idle: 0,
            total: 0,
        };
        for line in stat.lines() {
            let Some((core, ticks)) = line
                .strip_prefix("cpu")
                .and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            // The first line is the sum of all.
            let Ok(core) = core.parse() else { continue };
            if !allowed.as_deref().map_or(true, |list| holds(list, core)) {
                continue;
            }
            // user nice system idle iowait irq softirq steal; what guests use is in the first two.
            let ticks = ticks.split_whitespace().take(8).map(str::parse);
            let ticks: Vec<u64> = ticks.collect::<Result<_, _>>().ok()?;
            machine.cores += 1;
            machine.idle += ticks.get(3)? + ticks.get(4).unwrap_or(&0);
            machine.total += ticks.iter().sum::<u64>();
        }
        (machine.cores > 0).then_some(machine)
    }

    /// `None` if no tick has passed, or if cores came or went.
    fn idle_since(&self, before: &Self) -> Option<f64> {
        let total = self.total.checked_sub(before.total)?;
        // The time that a core waits for a disk may be counted backwards.
        let idle = self.idle.saturating_sub(before.idle).min(total);
        (self.cores == before.cores && total > 0)
            .then(|| f64::from(self.cores) * idle as f64 / total as f64)
    }
}

impl Usage {
    /// `None` for a group without a limit.
    fn look(group: &Group) -> Option<Self> {
        let (limit, used) = match group.version {
            Version::One => {
                let quota: f64 = group.number("cpu", "cpu.cfs_quota_us")?;
                let period: f64 = group.number("cpu", "cpu.cfs_period_us")?;
                let nanoseconds: Option<f64> = group.number("cpuacct", "cpuacct.usage");
                (quota / period, nanoseconds.map(|used| used / 1e9))
            }
            Version::Two => {
                let text = group.text("cpu", "cpu.max")?;
                // `max 100000`: none.
                let (quota, period) = text.trim().split_once(' ')?;
                let limit = quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?;
                let stat = group.text("cpu", "cpu.stat").unwrap_or_default();
                let microseconds: Option<f64> = value_of(&stat, "usage_usec ");
                (limit, microseconds.map(|used| used / 1e6))
            }
        };
        // Version 1 has -1 for none.
        (limit.is_finite() && limit > 0.0).then_some(Self { limit, used })
    }
}

/// Whether a list such as `0-3,8` has a number.
fn holds(list: &str, number: u32) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let within = |first: u32, last: u32| (first..=last).contains(&number);
        first
            .trim()
            .parse()
            .ok()
            .zip(last.trim().parse().ok())
            .is_some_and(|(first, last)| within(first, last))
    })
}

/// Whether this system tells how busy its cores are.
pub fn is_told() -> bool {
    Machine::look(Path::new("/")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::{tree, write};

    /// Of each core, its ticks when busy and when idle.
    fn stat(cores: &[(u64, u64)]) -> String {
        let mut text = "cpu  1 2 3 4 5 6 7 8 9 10\n".to_owned();
        for (core, (busy, idle)) in cores.iter().enumerate() {
            // Half of it waits for a disk.
            let (idle, waiting) = (idle - idle / 2, idle / 2);
            text += &format!("cpu{core} {busy} 0 0 {idle} {waiting} 0 0 0 {busy} 0\n");
        }
        text + "intr 1 2 3\nctxt 4\n"
    }

    struct Fake {
        root: tempfile::TempDir,
        meter: Meter,
        now: Instant,
    }

    impl Fake {
        fn new(files: &[(&str, &str)]) -> Self {
            let root = tree(files);
            Self {
                meter: Meter::new(root.path()),
                root,
                now: Instant::now(),
            }
        }

        fn set(&self, path: &str, text: &str) {
            write(self.root.path(), path, text);
        }

        fn idle_after(&mut self, milliseconds: u64) -> Option<f64> {
            self.now += Duration::from_millis(milliseconds);
            let idle = self.meter.idle(self.now);
            idle.map(|idle| (idle * 100.0).round() / 100.0)
        }
    }

    #[test]
    fn idle_cores_are_those_of_the_last_second() {
        let mut fake = Fake::new(&[("proc/stat", &stat(&[(0, 0), (0, 0)]))]);
        assert_eq!(fake.idle_after(0), None, "nothing to compare with");
        fake.set("proc/stat", &stat(&[(25, 0), (0, 25)]));
        assert_eq!(fake.idle_after(250), Some(1.0));
        fake.set("proc/stat", &stat(&[(25, 75), (25, 75)]));
        assert_eq!(fake.idle_after(750), Some(1.5));
        fake.set("proc/stat", &stat(&[(25, 175), (25, 175)]));
        assert_eq!(fake.idle_after(1000), Some(2.0), "the past is forgotten");
        assert_eq!(fake.idle_after(0), Some(2.0));
    }

    #[test]
    fn cores_that_this_process_may_not_use_do_not_count() {
        let status = "Name:\tR\nCpus_allowed_list:\t1-2,5\n";
        let mut fake = Fake::new(&[
            ("proc/stat", &stat(&[(0, 0); 6])),
            ("proc/self/status", status),
        ]);
        fake.idle_after(0);
        fake.set(
            "proc/stat",
            &stat(&[(0, 9), (10, 0), (0, 10), (0, 9), (0, 9), (5, 5)]),
        );
        assert_eq!(fake.idle_after(100), Some(1.5));
    }

    #[test]
    fn the_least_of_all_groups_and_the_machine_counts() {
        let mut fake = Fake::new(&[
            ("proc/stat", &stat(&[(0, 0); 8])),
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/cpu.max", "200000 100000\n"),
            ("sys/fs/cgroup/a/cpu.stat", "usage_usec 1000000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
        ]);
        fake.idle_after(0);
        fake.set("proc/stat", &stat(&[(50, 50); 8]));
        fake.set(
            "sys/fs/cgroup/a/cpu.stat",
            "usage_usec 1500000\nuser_usec 9\n",
        );
        assert_eq!(fake.idle_after(1000), Some(1.5));
        fake.set("proc/stat", &stat(&[(150, 50); 8]));
        fake.set("sys/fs/cgroup/a/cpu.stat", "usage_usec 1500000\n");
        assert_eq!(fake.idle_after(1000), Some(0.0), "others are busy");
        fake.set("proc/stat", &stat(&[(150, 150); 8]));
        fake.set("sys/fs/cgroup/a/cpu.stat", "usage_usec 9500000\n");
        assert_eq!(fake.idle_after(1000), Some(0.0), "never less than none");
    }

    #[test]
    fn the_first_version_has_a_folder_for_each_controller() {
        let mut fake = Fake::new(&[
            ("proc/stat", &stat(&[(0, 0); 8])),
            ("proc/self/cgroup", "4:cpu,cpuacct:/x\n0::/\n"),
            ("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "150000\n"),
            ("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "50000\n"),
            ("sys/fs/cgroup/cpuacct/x/cpuacct.usage", "1000000000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        fake.idle_after(0);
        fake.set("proc/stat", &stat(&[(0, 100); 8]));
        fake.set("sys/fs/cgroup/cpuacct/x/cpuacct.usage", "2250000000\n");
        assert_eq!(fake.idle_after(1000), Some(1.75));
    }

    #[test]
    fn what_the_system_does_not_tell_is_not_known() {
        let mut fake = Fake::new(&[("proc/stat", "cpu 1 2 3\ncpu0 1 x 3 4\n")]);
        assert_eq!(fake.idle_after(0), None);
        fake.set("proc/stat", "");
        assert_eq!(fake.idle_after(100), None);
        fake.set("proc/stat", &stat(&[(1, 1)]));
        assert_eq!(fake.idle_after(100), None);
        assert_eq!(fake.idle_after(100), None, "no tick has passed");
        fake.set("proc/stat", &stat(&[(1, 2)]));
        assert_eq!(fake.idle_after(100), Some(1.0));
        fake.set("proc/stat", &stat(&[(1, 3), (0, 9)]));
        assert_eq!(fake.idle_after(100), None, "a core has come");
    }

    #[test]
    fn lists_of_cores() {
        assert!(holds("0-3,8", 2) && holds("0-3,8", 8) && holds("4", 4));
        assert!(!holds("0-3,8", 4) && !holds("", 0) && !holds("x-y,3-1", 2));
    }
}
