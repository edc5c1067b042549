//! Starts worker processes, from one thread that lives as long as the server.
//!
//! That thread matters: `PR_SET_PDEATHSIG` watches the thread that spawned, not its process. This is
//! the one module of the crate that needs `unsafe`: code between fork and exec.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::{sigprocmask, SigHandler, SigSet, SigmaskHow, Signal};
use tokio::sync::oneshot;

use crate::environment::{Environment, Variables};
use crate::signals;

/// What to start.
#[derive(Debug)]
pub struct Launch {
    pub command: Vec<String>,
    pub dir: PathBuf,
    pub env: BTreeMap<String, String>,
    /// Its standard input; a pipe if none is given.
    pub stdin: Option<OwnedFd>,
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
                    let _ = orphan.kill();
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
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&launch.dir)
        // What is inherited is read at this moment, while R may change it: it is handed on instead.
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        // A front that is itself a worker must not pass on what it was told.
        .env_remove("FAUCET_SOCKET")
        .env_remove("FAUCET_TEMPLATE")
        .envs(&launch.env)
        .stdin(launch.stdin.map_or_else(Stdio::piped, Stdio::from))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal reaches the front alone, which then stops its workers in order.
        .process_group(0);
    // SAFETY: only async-signal-safe system calls between fork and exec, and no allocation.
    unsafe {
        command.pre_exec(move || {
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
            #[cfg(any(target_os = "linux", target_os = "android"))]
            {
                nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
                // The parent may have died before that was in force.
                if nix::unistd::getppid() != parent {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            let _ = parent;
            Ok(())
        });
    }
    command.spawn()
}
