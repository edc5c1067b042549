//! Starts worker processes, from one thread that lives as long as the server.
//!
//! That thread matters: `PR_SET_PDEATHSIG` watches the thread that spawned, not its process. This is
//! the one module of the crate that needs `unsafe`: code between fork and exec.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::{killpg, sigprocmask, SigHandler, SigSet, SigmaskHow, Signal};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use super::confinement::Confined;
use crate::environment::{Environment, Variables};
use crate::signals;

/// All that processes are told by their front. One that is itself a worker has been told the same by its own, and must not
/// pass it on: its workers would serve another app, or end as other processes do.
const TOLD: [&str; 22] = [
    "FAUCET_APP",
    "FAUCET_CALL_TOKEN",
    "FAUCET_COMPILE",
    "FAUCET_CPU_TIME",
    "FAUCET_FILE",
    "FAUCET_FORK",
    "FAUCET_FUNCTION",
    "FAUCET_FUNCTION_FILE",
    "FAUCET_FUNCTION_STREAM",
    "FAUCET_HOST",
    "FAUCET_LIB",
    "FAUCET_METRICS",
    "FAUCET_PACKAGES",
    "FAUCET_PORT",
    "FAUCET_SECRETS",
    "FAUCET_SERVER_NAME",
    "FAUCET_SERVER_PORT",
    "FAUCET_SOCKET",
    "FAUCET_TEMPLATE",
    "FAUCET_TOKEN",
    "FAUCET_WORKER_TYPE",
    "FAUCET_WORKER_ID",
];

/// What systemd tells the front's process, and nobody else in its service.
const OF_SYSTEMD: [&str; 6] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// What to start.
#[derive(Debug)]
pub struct Launch {
    pub command: Vec<String>,
    pub dir: PathBuf,
    pub env: BTreeMap<String, String>,
    /// Its standard input; a pipe if none is given.
    pub stdin: Option<OwnedFd>,
    /// What it gets when the thread that has started it is gone, and so the server.
    pub orphaned: Signal,
    pub confined: Confined,
}

struct Job {
    launch: Launch,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread that spawns. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct Spawner {
    jobs: mpsc::Sender<Job>,
    files: (u64, u64),
}

impl Spawner {
    /// Starts the thread. What it starts gets `environment`, as it is then.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(environment: Environment) -> io::Result<Self> {
        // What the server raises for its clients is not for the workers: R's select() breaks above 1024.
        let files = getrlimit(Resource::RLIMIT_NOFILE)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        signals::start_thread("faucet-spawn", signals::STACK, move || {
            while let Ok(job) = queue.recv() {
                let child = spawn(job.launch, &environment.variables(), files);
                if let Err(Ok(mut orphan)) = job.reply.send(child) {
                    // Nobody will look after it: the server is going down.
                    let group = Pid::from_raw(orphan.id() as i32);
                    let _ = killpg(group, Signal::SIGKILL);
                    let _ = orphan.wait();
                }
            }
        })?;
        Ok(Self { jobs, files })
    }

    /// Starts a process in a group of its own, its standard streams piped.
    ///
    /// # Errors
    /// The program cannot be started.
    pub async fn spawn(&self, launch: Launch) -> io::Result<Child> {
        let (reply, child) = oneshot::channel();
        let gone = || io::Error::other("the spawning thread is gone");
        self.jobs.send(Job { launch, reply }).map_err(|_| gone())?;
        child.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The limits of open files, soft and hard, that workers get.
    pub fn files(&self) -> (u64, u64) {
        self.files
    }
}

fn spawn(launch: Launch, variables: &Variables, files: (u64, u64)) -> io::Result<Child> {
    let (program, arguments) = launch
        .command
        .split_first()
        .ok_or_else(|| io::Error::other("the worker's command is empty"))?;
    let parent = nix::unistd::getpid();
    let orphaned = launch.orphaned;
    let confined = launch.confined;
    let inherited = variables
        .iter()
        .filter(|(name, _)| !TOLD.iter().chain(&OF_SYSTEMD).any(|told| name == told))
        .map(|(name, value)| (name, value));
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&launch.dir)
        // What is inherited is read at this moment, while R may change it: it is handed on instead.
        .env_clear()
        .envs(inherited)
        .envs(&launch.env)
        .stdin(launch.stdin.map_or_else(Stdio::piped, Stdio::from))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal reaches the front alone, which then stops its workers in order.
        .process_group(0);
    // SAFETY: only async-signal-safe system calls between fork and exec, and no allocation.
    unsafe {
        command.pre_exec(move || {
            keep_descriptors();
            // The server's threads block all signals; a worker must hear them, with default actions.
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            for signal in [
                Signal::SIGINT,
                Signal::SIGTERM,
                Signal::SIGHUP,
                Signal::SIGPIPE,
                Signal::SIGUSR1,
                Signal::SIGUSR2,
                Signal::SIGCHLD,
            ] {
                nix::sys::signal::signal(signal, SigHandler::SigDfl)?;
            }
            setrlimit(Resource::RLIMIT_NOFILE, files.0, files.1)?;
            // Before it asks for its parent's end: the system forgets that with another user.
            confined.apply()?;
            #[cfg(any(target_os = "linux", target_os = "android"))]
            {
                nix::sys::prctl::set_pdeathsig(orphaned)?;
                // The parent may have died before that was in force.
                if nix::unistd::getppid() != parent {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            let _ = (parent, orphaned);
            Ok(())
        });
    }
    command.spawn()
}

/// The first descriptor that is not a standard stream.
const FIRST: RawFd = 3;

/// Keeps from a worker what the front's process has open: R opens files, and its packages pipes, that every program
/// they start inherits. Marks them only, as the standard library still needs one of its own until the worker's program runs.
fn keep_descriptors() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if keep_range().is_ok() || keep_listed().is_ok() {
        return;
    }
    keep_possible();
}

/// All at once: since Linux 5.11, if no sandbox forbids it.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn keep_range() -> io::Result<()> {
    use nix::libc::{c_uint, syscall, SYS_close_range, CLOSE_RANGE_CLOEXEC};
    // SAFETY: takes numbers, and closes nothing with this flag.
    let kept = unsafe { syscall(SYS_close_range, FIRST, c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    match kept {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Those that the system lists, read without allocation.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn keep_listed() -> io::Result<()> {
    use rustix::fs::{openat, Mode, OFlags, RawDir, CWD};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, "/proc/self/fd", flags, Mode::empty())?;
    let mut space = [std::mem::MaybeUninit::<u8>::uninit(); 2048];
    let mut entries = RawDir::new(&folder, &mut space);
    while let Some(entry) = entries.next() {
        let name = entry?;
        let number = name.file_name().to_str().ok();
        if let Some(number) = number.and_then(|name| name.parse::<RawFd>().ok()) {
            keep(number);
        }
    }
    Ok(())
}

/// All that the process may have: where the system has no list of them.
fn keep_possible() {
    // Enough for what is found in practice; one that is not open costs a system call.
    const MOST: u64 = 65536;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(MOST, |(soft, _)| soft.min(MOST));
    for number in FIRST..limit as RawFd {
        keep(number);
    }
}

fn keep(number: RawFd) {
    use nix::libc::{fcntl, FD_CLOEXEC, F_SETFD};
    if number >= FIRST {
        // SAFETY: one that is not open is an error, which does not matter.
        unsafe { fcntl(number, F_SETFD, FD_CLOEXEC) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_a_front_was_told_as_a_worker_or_by_systemd_is_not_passed_on() {
        let told = TOLD.iter().chain(&OF_SYSTEMD);
        let mut variables: Variables = told.map(|name| (name.into(), "mine".into())).collect();
        variables.push(("FAUCET_QUEUE".into(), "7".into()));
        let launch = Launch {
            command: vec!["/usr/bin/env".into()],
            dir: "/".into(),
            env: BTreeMap::from([("FAUCET_PORT".into(), "1".into())]),
            stdin: None,
            orphaned: Signal::SIGINT,
            confined: Confined::default(),
        };
        let files = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let child = spawn(launch, &variables, files).expect("a process");
        let output = child.wait_with_output().expect("its end").stdout;
        let output = String::from_utf8_lossy(&output);
        let mut got: Vec<_> = output.lines().collect();
        got.sort_unstable();
        assert_eq!(got, ["FAUCET_PORT=1", "FAUCET_QUEUE=7"]);
    }

    #[test]
    fn no_way_of_keeping_descriptors_lets_one_through() {
        let leak = std::fs::File::open("/dev/null").expect("a file");
        let leak = nix::unistd::dup(&leak).expect("one without close-on-exec");
        let seen = |keep: Option<fn()>| {
            let mut command = Command::new("sh");
            command.args(["-c", "ls -l /proc/self/fd"]);
            if let Some(keep) = keep {
                // SAFETY: as above.
                unsafe {
                    command.pre_exec(move || {
                        keep();
                        Ok(())
                    })
                };
            }
            let output = command.output().expect("a shell").stdout;
            let number = format!(" {} -> /dev/null", leak.as_raw_fd());
            String::from_utf8_lossy(&output).contains(&number)
        };
        assert!(seen(None), "it would leak");
        assert!(!seen(Some(keep_descriptors)));
        assert!(!seen(Some(|| keep_listed().expect("a list"))));
        assert!(!seen(Some(keep_possible)));
    }
}
