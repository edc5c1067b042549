//! One process: its pid, its output, its end.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{kill, killpg, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Level;

use super::death::{is_ending, Death};
use super::memory::{private_memory, resident_memory};
use super::output::{follow, Outlet, Tail};
use super::spawn::{Launch, Spawner};
use super::streams::Streams;
use super::template::Line;
use crate::environment::SystemError;
use crate::signals;

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
    _stdin: Option<OwnedFd>,
    forked: bool,
}

/// Our ends of a process's pipes.
pub struct Pipes {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
}

/// Starts a process, and before it the thread that waits for it: there is never one for which nobody waits.
async fn spawn(spawner: &Spawner, launch: Launch) -> io::Result<(Waiter, Child)> {
    let waiter = Waiter::start()?;
    Ok((waiter, spawner.spawn(launch).await?))
}

fn take(stream: &mut Option<impl Into<OwnedFd>>) -> Option<OwnedFd> {
    stream.take().map(Into::into)
}

/// How a process ended.
pub struct Exit {
    pub status: io::Result<ExitStatus>,
}

impl Exit {
    /// Whether it says that all went well.
    pub fn is_success(&self) -> bool {
        matches!(&self.status, Ok(status) if status.success())
    }

    /// In words: "exited with status 1", "was killed by signal 9".
    pub fn describe(&self) -> String {
        use std::os::unix::process::ExitStatusExt;
        match &self.status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
            Err(error) => format!("ended ({})", SystemError(error)),
        }
    }
}

impl Process {
    /// Starts a process, whose lines go to `outlet`; the receiver resolves when it has ended and
    /// its output was read.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(
        spawner: &Spawner,
        launch: Launch,
        outlet: &Outlet,
    ) -> io::Result<(Self, oneshot::Receiver<Exit>)> {
        let (waiter, mut child) = spawn(spawner, launch).await?;
        let (stdin, stdout) = (take(&mut child.stdin), take(&mut child.stdout));
        let (mut process, ended) = Self::follow(waiter, child, stdout, outlet);
        process._stdin = stdin;
        Ok((process, ended))
    }

    /// The same for a process whose input and output somebody else writes and reads: only what it prints on its standard
    /// error goes to `outlet`.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start_piped(
        spawner: &Spawner,
        launch: Launch,
        outlet: &Outlet,
    ) -> io::Result<(Self, Pipes, oneshot::Receiver<Exit>)> {
        let (waiter, mut child) = spawn(spawner, launch).await?;
        let (stdin, stdout) = (take(&mut child.stdin), take(&mut child.stdout));
        // From here on it is killed with its group if something is wrong.
        let (process, ended) = Self::follow(waiter, child, None, outlet);
        let none = || io::Error::other("it has no pipes");
        let pipes = Pipes {
            stdin: stdin.ok_or_else(none)?,
            stdout: stdout.ok_or_else(none)?,
        };
        Ok((process, pipes, ended))
    }

    fn follow(
        waiter: Waiter,
        mut child: Child,
        stdout: Option<OwnedFd>,
        outlet: &Outlet,
    ) -> (Self, oneshot::Receiver<Exit>) {
        let pid = Pid::from_raw(child.id() as i32);
        let live: LivePid = Arc::new(Mutex::new(Some(pid)));
        let tail = Tail::default();
        let readers = Readers::start(stdout, take(&mut child.stderr), outlet, &tail);
        let process = Self {
            pid,
            live: live.clone(),
            tail,
            _stdin: None,
            forked: false,
        };
        let waited = waiter.wait(child, live);
        let (ended, exit) = oneshot::channel();
        tokio::spawn(async move {
            let status = waited
                .await
                .unwrap_or_else(|_| Err(io::Error::other("its waiting thread is gone")));
            readers.end().await;
            // Nobody listens when the pool is gone.
            let _ = ended.send(Exit { status });
        });
        (process, exit)
    }

    /// The same for a process that a template has forked.
    ///
    /// # Errors
    /// It cannot be watched; it is told to end.
    pub fn adopt(
        pid: u32,
        streams: Streams,
        template: Line,
        outlet: &Outlet,
    ) -> io::Result<(Self, oneshot::Receiver<Exit>)> {
        let death = Death::of(pid)?;
        let own = Pid::from_raw(pid as i32);
        let live: LivePid = Arc::new(Mutex::new(Some(own)));
        let tail = Tail::default();
        let readers = Readers::start(Some(streams.stdout), Some(streams.stderr), outlet, &tail);
        let process = Self {
            pid: own,
            live: live.clone(),
            tail,
            _stdin: Some(streams.stdin),
            forked: true,
        };
        let (ended, exit) = oneshot::channel();
        tokio::spawn(async move {
            death.wait().await;
            {
                let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
                // Not reaped while its template lives, so the pid is still ours. Without template the system has
                // reaped it a moment ago, too short for another group of that number.
                let _ = killpg(own, Signal::SIGKILL);
                *live = None;
            }
            let status = match template.reap(pid).await {
                Some(status) => Ok(status),
                None => reap_orphan(own),
            };
            drop(template);
            readers.end().await;
            // Nobody listens when the pool is gone.
            let _ = ended.send(Exit { status });
        });
        Ok((process, exit))
    }

    /// A look at the memory that it alone needs, in bytes.
    pub fn own_memory(&self) -> impl Fn() -> Option<u64> + Send + 'static {
        let (pid, forked) = (self.pid(), self.forked);
        move || match forked {
            // What it shares with its template would be there without it.
            true => private_memory(pid).or_else(|| resident_memory(pid)),
            false => resident_memory(pid),
        }
    }

    /// A look at whether it runs, and is not about to end; None if the system does not say.
    pub fn pulse(&self) -> impl Fn() -> Option<bool> + Send + Sync + 'static {
        let live = self.live.clone();
        move || {
            let live = live.lock().unwrap_or_else(PoisonError::into_inner);
            match *live {
                Some(pid) => is_ending(pid.as_raw() as u32).map(|ending| !ending),
                None => Some(false),
            }
        }
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
            // One that was forked just now may not have a group yet.
            let _ = kill(pid, Signal::SIGKILL);
        });
    }

    /// Asks the process and its group to end; kills them after `grace`.
    pub async fn terminate(self, grace: Duration) {
        let alive = self.with_pid(|pid| {
            // Already ended is as good.
            let _ = killpg(pid, Signal::SIGTERM);
        });
        if alive {
            tokio::time::sleep(grace).await;
            self.kill();
        }
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

/// The tasks that read what a process prints.
struct Readers(Vec<JoinHandle<()>>);

impl Readers {
    fn start(
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
        outlet: &Outlet,
        tail: &Tail,
    ) -> Self {
        let streams = [(stdout, Level::INFO), (stderr, Level::WARN)];
        let read =
            |stream, level| tokio::spawn(follow(stream, level, outlet.clone(), tail.clone()));
        let readers = streams
            .into_iter()
            .filter_map(|(stream, level)| Some(read(stream?, level)));
        Self(readers.collect())
    }

    /// Waits until all is read. What is not read by then stays in the pipe of whoever holds it.
    async fn end(self) {
        let all = async {
            for reader in self.0 {
                let _ = reader.await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, all).await;
    }
}

/// How a process ended whose template was gone before. As process 1 of a container we inherit it, and
/// nobody else would ever reap it.
fn reap_orphan(pid: Pid) -> io::Result<ExitStatus> {
    use std::os::unix::process::ExitStatusExt;
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Ok(ExitStatus::from_raw(code << 8)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(ExitStatus::from_raw(signal as i32)),
        _ => Err(io::Error::other("after its template")),
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
        signals::start_thread("faucet-wait", signals::SMALL_STACK, move || {
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
    use nix::sys::wait::{waitid, Id};
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
