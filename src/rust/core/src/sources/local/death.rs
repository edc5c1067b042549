//! Tells when a process has ended that is not our child.

pub use system::{is_ending, Death};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::process::{pidfd_open, PidfdFlags};
    use tokio::io::unix::AsyncFd;
    use tokio::io::Interest;

    /// Between two looks where the system has no pidfd: before Linux 5.3, and in some sandboxes.
    const LOOK: Duration = Duration::from_millis(50);

    /// The end to come of one process, which nobody may reap before [`wait`](Self::wait) resolves.
    pub struct Death(Watched);

    enum Watched {
        Pidfd(AsyncFd<OwnedFd>),
        Pid(u32),
        Gone,
    }

    impl Death {
        /// # Errors
        /// The system refuses to watch it.
        pub fn of(pid: u32) -> io::Result<Self> {
            let id = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            let id = id.ok_or_else(|| io::Error::other("that is no pid"))?;
            Ok(Self(match pidfd_open(id, PidfdFlags::empty()) {
                // Deprecated for values that change their descriptor, which this one cannot; the way that replaces it
                // is unsafe.
                #[allow(deprecated)]
                Ok(pidfd) => Watched::Pidfd(AsyncFd::with_interest(pidfd, Interest::READABLE)?),
                Err(rustix::io::Errno::SRCH) => Watched::Gone,
                Err(_) => Watched::Pid(pid),
            }))
        }

        pub async fn wait(self) {
            match self.0 {
                Watched::Pidfd(pidfd) => drop(pidfd.readable().await),
                Watched::Pid(pid) => {
                    while is_alive(pid) {
                        tokio::time::sleep(LOOK).await;
                    }
                }
                Watched::Gone => {}
            }
        }
    }

    /// In the `flags` of a process: the kernel has begun to take it down. Its sockets are closed only after that.
    const PF_EXITING: u64 = 4;

    /// Whether a process has ended or is about to, though it may still accept connections. None if the system does not
    /// say.
    pub fn is_ending(pid: u32) -> Option<bool> {
        let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Unless there is no such file system.
                return std::path::Path::new("/proc/self/stat")
                    .exists()
                    .then_some(true);
            }
            Err(_) => return None,
        };
        // Behind the name, which may hold anything: state, ppid, pgrp, session, tty_nr, tpgid, flags.
        let mut fields = stat.rsplit(") ").next()?.split(' ');
        let state = fields.next()?;
        let flags: u64 = fields.nth(5)?.parse().ok()?;
        Some(matches!(state, "Z" | "X") || flags & PF_EXITING != 0)
    }

    /// One that has ended but was not yet reaped is not.
    fn is_alive(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test]
        async fn an_end_is_seen_before_it_is_reaped_with_and_without_pidfd() {
            let mut command = std::process::Command::new("sleep");
            let mut child = command.arg("300").spawn().expect("a process");
            let watches = [
                Death::of(child.id()).expect("a watch"),
                Death(Watched::Pid(child.id())),
            ];
            let mut seen = watches.map(|watch| tokio::spawn(watch.wait()));
            tokio::task::yield_now().await;
            assert!(seen.iter().all(|seen| !seen.is_finished()));
            child.kill().expect("killed");
            for seen in &mut seen {
                seen.await.expect("no panic");
            }
            assert_eq!(is_ending(child.id()), Some(true));
            child.wait().expect("reaped");
            assert_eq!(is_ending(child.id()), Some(true));
            assert_eq!(is_ending(std::process::id()), Some(false));
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::io;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::libc::timespec;
    use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};

    /// Between two looks.
    const LOOK: Duration = Duration::from_millis(50);

    /// The end to come of one process, which nobody may reap before [`wait`](Self::wait) resolves.
    pub struct Death(Option<Kqueue>);

    impl Death {
        /// # Errors
        /// The system refuses to watch it.
        pub fn of(pid: u32) -> io::Result<Self> {
            let queue = Kqueue::new()?;
            match queue.kevent(&[exit_of(pid)], &mut [], Some(AT_ONCE)) {
                Ok(_) => Ok(Self(Some(queue))),
                Err(Errno::ESRCH) => Ok(Self(None)),
                Err(error) => Err(error.into()),
            }
        }

        pub async fn wait(self) {
            let Some(queue) = self.0 else {
                return;
            };
            // What is written there is not of interest.
            let mut events = [exit_of(0)];
            while queue.kevent(&[], &mut events, Some(AT_ONCE)) == Ok(0) {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    const AT_ONCE: timespec = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };

    /// Whether a process has ended or is about to. The system does not say.
    pub fn is_ending(_pid: u32) -> Option<bool> {
        None
    }

    fn exit_of(pid: u32) -> KEvent {
        KEvent::new(
            pid as usize,
            EventFilter::EVFILT_PROC,
            EvFlags::EV_ADD | EvFlags::EV_ONESHOT,
            FilterFlag::NOTE_EXIT,
            0,
            0,
        )
    }
}
