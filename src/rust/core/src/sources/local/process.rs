//! One process: its pid, its output, its end.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{kill, killpg, Signal};
use nix::unistd::Pid;
use tokio::sync::oneshot;
use tracing::Level;

use super::output::{follow, Tail};
use super::spawn::{Launch, Spawner};
use crate::ops::log::Log;

/// Enough for a thread that only waits.
const WAITER_STACK: usize = 128 * 1024;

/// Between two requests to end. One interrupt may only abort what R is doing; the next one ends it.
const NUDGE: Duration = Duration::from_millis(200);

/// How long the last lines of a process that has ended are waited for: a grandchild may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The pid, as long as it names our process and no other.
type LivePid = Arc<Mutex<Option<Pid>>>;

/// A running process. Dropping it kills it and its group.
pub struct Process {
    pid: Pid,
    live: LivePid,
    pub tail: Tail,
    /// Its end of file tells the worker that we are gone.
    _stdin: Option<ChildStdin>,
}

/// How a process ended.
pub struct Exit {
    pub status: io::Result<ExitStatus>,
}

impl Exit {
    /// In words: "exited with status 1", "was killed by signal 9".
    pub fn describe(&self) -> String {
        use std::os::unix::process::ExitStatusExt;
        match &self.status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
            Err(error) => format!("ended ({error})"),
        }
    }
}

impl Process {
    /// Starts a process; the receiver resolves when it has ended and its output was read.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(
        spawner: &Spawner,
        launch: Launch,
        worker: u32,
        log: Arc<Log>,
    ) -> io::Result<(Self, oneshot::Receiver<Exit>)> {
        // First, so that there is never a process for which nobody waits.
        let waiter = Waiter::start()?;
        let mut child = spawner.spawn(launch).await?;
        let pid = Pid::from_raw(child.id() as i32);
        let live: LivePid = Arc::new(Mutex::new(Some(pid)));
        let tail = Tail::default();
        let streams = [
            (child.stdout.take().map(OwnedFd::from), Level::INFO),
            (child.stderr.take().map(OwnedFd::from), Level::WARN),
        ];
        let readers: Vec<_> = streams
            .into_iter()
            .filter_map(|(stream, level)| Some((stream?, level)))
            .map(|(stream, level)| {
                tokio::spawn(follow(stream, worker, level, log.clone(), tail.clone()))
            })
            .collect();
        let process = Self {
            pid,
            live: live.clone(),
            tail,
            _stdin: child.stdin.take(),
        };
        let waited = waiter.wait(child, live);
        let (ended, exit) = oneshot::channel();
        tokio::spawn(async move {
            let status = waited
                .await
                .unwrap_or_else(|_| Err(io::Error::other("its waiting thread is gone")));
            let all = async {
                for reader in readers {
                    let _ = reader.await;
                }
            };
            // What is not read by then stays in the pipe of whoever holds it.
            let _ = tokio::time::timeout(LAST_WORDS, all).await;
            // Nobody listens when the pool is gone.
            let _ = ended.send(Exit { status });
        });
        Ok((process, exit))
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// A handle for ending the process from a task of its own.
    pub fn ender(&self) -> Ender {
        Ender {
            live: self.live.clone(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.ender().kill();
    }
}

/// Ends a process, and only that one: signals are sent while its pid is known not to be reused.
#[derive(Clone)]
pub struct Ender {
    live: LivePid,
}

impl Ender {
    fn with_pid(&self, f: impl FnOnce(Pid)) -> bool {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.map(f).is_some()
    }

    /// Kills the process and its group at once.
    pub fn kill(&self) {
        self.with_pid(|pid| {
            // Already ended is as good.
            let _ = killpg(pid, Signal::SIGKILL);
        });
    }

    /// Asks R to end, again and again (its exit hooks run); kills it after `grace`.
    pub async fn stop(self, grace: Duration) {
        let deadline = tokio::time::Instant::now() + grace;
        while tokio::time::Instant::now() < deadline {
            let alive = self.with_pid(|pid| {
                let _ = kill(pid, Signal::SIGINT);
            });
            if !alive {
                return;
            }
            tokio::time::sleep(NUDGE).await;
        }
        self.kill();
    }
}

/// A thread that waits for one pid: no SIGCHLD handler, which R's own packages install too. It ends
/// with the process, or at once if it gets none.
struct Waiter {
    task: std::sync::mpsc::Sender<(Child, LivePid)>,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
}

impl Waiter {
    fn start() -> io::Result<Self> {
        let (task, tasks) = std::sync::mpsc::channel();
        let (sender, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("faucet-wait".into())
            .stack_size(WAITER_STACK)
            .spawn(move || {
                if let Ok((child, live)) = tasks.recv() {
                    // Nobody listens when the runtime is gone.
                    let _ = sender.send(wait(child, &live));
                }
            })?;
        Ok(Self { task, ended })
    }

    fn wait(self, child: Child, live: LivePid) -> oneshot::Receiver<io::Result<ExitStatus>> {
        // The thread cannot have ended: it has had nothing to do yet.
        let _ = self.task.send((child, live));
        self.ended
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn wait(mut child: Child, live: &LivePid) -> io::Result<ExitStatus> {
    use nix::sys::wait::{waitid, Id, WaitPidFlag};
    let pid = Pid::from_raw(child.id() as i32);
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    // Ended but not reaped: the pid is still ours, so its group can be cleared safely.
    while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
    let _ = killpg(pid, Signal::SIGKILL);
    let mut pid = live.lock().unwrap_or_else(PoisonError::into_inner);
    let status = child.wait();
    *pid = None;
    status
}

/// Without waitid the lock must not be held while waiting: a signal could hit a reused pid in the
/// moment after.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn wait(mut child: Child, live: &LivePid) -> io::Result<ExitStatus> {
    let status = child.wait();
    *live.lock().unwrap_or_else(PoisonError::into_inner) = None;
    status
}
