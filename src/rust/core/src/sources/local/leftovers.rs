//! Programs that a server has run for single requests, and which are still there though it was killed.
//!
//! The system ends the program itself with its server, but nobody ends the program's children then. They have what they were
//! told in their environment: whose temporary folder they use. R workers notice by themselves that they are alone.

use std::path::Path;

/// What a program is told to be, under the name that tells workers how to serve.
pub const KIND: (&str, &str) = ("FAUCET_WORKER_TYPE", "command");

/// Kills the programs that were run for requests of the server whose temporary folders are in `folder`. Those that have
/// begun a session of their own want to outlive it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn end(folder: &Path) {
    // One may have started another meanwhile, which was not yet there to be seen.
    const LOOKS: usize = 5;
    for _ in 0..LOOKS {
        if system::look(folder) == 0 {
            return;
        }
    }
}

/// They cannot be told from others.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn end(_: &Path) {}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};

    use super::KIND;

    /// Kills those that are there now; how many were.
    pub fn look(folder: &Path) -> usize {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id| kill(*id, folder).is_some()).count()
    }

    fn kill(id: i32, folder: &Path) -> Option<()> {
        // First: what is looked at by its number afterwards is this process, or one that is not ended by this.
        let process = pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()?;
        let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
        if !is_told(&environment, folder) || is_detached(id)? {
            return None;
        }
        pidfd_send_signal(process, Signal::KILL).ok()
    }

    /// Whether it was told to run as a program, with a folder in `folder`.
    fn is_told(environment: &[u8], folder: &Path) -> bool {
        let value = |name: &str| {
            environment
                .split(|byte| *byte == 0)
                .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        };
        let temporary = value("TMPDIR").map(|path| Path::new(OsStr::from_bytes(path)));
        value(KIND.0) == Some(KIND.1.as_bytes()) && temporary.and_then(Path::parent) == Some(folder)
    }

    /// Whether its session is its own group's.
    fn is_detached(id: i32) -> Option<bool> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Behind the name, which may hold anything: state, ppid, pgrp, session.
        let mut fields = stat.rsplit(") ").next()?.split(' ');
        let (group, session) = (fields.nth(2)?, fields.next()?);
        Some(group == session)
    }
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell with a child, as a server starts it, and the child's number.
    fn start(temporary: &Path, kind: &str, shell: &str) -> (Child, i32) {
        let mut child = Command::new("sh")
            .args(["-c", shell])
            .env("TMPDIR", temporary)
            .env(KIND.0, kind)
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        output.read_line(&mut line).expect("a line");
        (child, line.trim().parse().expect("a number"))
    }

    fn runs(id: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.is_some_and(|state| state != 'Z')
    }

    #[test]
    fn only_what_ran_for_that_server_is_ended() {
        const CHILD: &str = "sleep 300 & echo $!; wait";
        const DETACHED: &str = "setsid sleep 300 & echo $!; wait";
        let parent = tempfile::tempdir().expect("a folder");
        let (folder, other) = (parent.path().join("a"), parent.path().join("b"));
        let (mut gone, child) = start(&folder.join("1"), KIND.1, CHILD);
        let left = [
            start(&other.join("1"), KIND.1, CHILD),
            start(&folder.join("2"), "native", CHILD),
        ];
        let (mut shell, detached) = start(&folder.join("3"), KIND.1, DETACHED);
        // It has its session a moment after it was started.
        while std::fs::read_to_string(format!("/proc/{detached}/comm"))
            .is_ok_and(|it| it != "sleep\n")
        {
            std::thread::yield_now();
        }
        end(&folder);
        gone.wait().expect("reaped");
        shell.wait().expect("reaped");
        while runs(child) {
            std::thread::yield_now();
        }
        assert!(runs(detached));
        let mut stay = vec![detached];
        for (mut process, child) in left {
            assert!(runs(process.id() as i32) && runs(child));
            stay.push(child);
            process.kill().expect("it runs");
            process.wait().expect("reaped");
        }
        for id in stay {
            let id = nix::unistd::Pid::from_raw(id);
            nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL).expect("it runs");
        }
    }
}
