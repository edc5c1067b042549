//! How much memory a worker's process has.

/// Resident memory of a process, in bytes; `None` when it is gone or the system does not say.
pub fn resident_memory(pid: u32) -> Option<u64> {
    if cfg!(target_os = "linux") {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    } else {
        #[allow(clippy::disallowed_methods)]
        let output = std::process::Command::new("/bin/ps")
            // Not to read it while R may change it.
            .env_clear()
            .args(["-o", "rss=", "-p", &pid.to_string()])
            .output()
            .ok()?;
        let kib: u64 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
        Some(kib * 1024)
    }
}

/// Memory that a process shares with no other, in bytes; `None` when the system does not say.
pub fn private_memory(pid: u32) -> Option<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = maps
        .lines()
        .filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"))
        .map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_a_part_of_what_is_resident() {
        let own = std::process::id();
        let (private, resident) = (private_memory(own), resident_memory(own));
        assert!(private.is_some_and(|bytes| bytes > 0));
        assert!(private < resident, "{private:?} {resident:?}");
        assert_eq!(private_memory(u32::MAX), None);
    }
}
