//! A whole server over worker processes. A worker is this very test program, started a second time and
//! told by a file in its directory what to do: that file is its code, which a reload reads anew.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use faucet_core::front::Limits;
use faucet_core::ops::status::{PoolStatus, State, WorkerStatus};
use faucet_core::pool::PoolLimits;
use faucet_core::server::{Phase, Request, Server, Settings};
use faucet_core::sessions::SessionLimits;
use faucet_core::sources::local::{Confinement, LocalSettings, WorkerRange};
use faucet_core::sources::{Failure, Source};
use faucet_core::worker::native::Cancelling;
use tempfile::TempDir;

pub use super::local_worker::{be_a_worker, BALLAST};
use super::{only, PATIENCE};

pub(super) const ROLE: &str = "FAUCET_TEST_WORKER";

/// The name that the test must have which is the workers' main function.
const MAIN: &str = "a_worker";

/// Waits for a condition, in a test without a runtime.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process runs: one that has ended but was not yet reaped does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// A running server, and the code of its workers.
pub struct Local {
    pub server: Server,
    pub dir: TempDir,
    /// What was logged so far.
    pub lines: Vec<String>,
}

/// What a test may change before the server starts.
pub struct Setup {
    settings: Settings,
    pub pool: PoolLimits,
    pub local: LocalSettings,
    /// Whether clients stay with one worker each.
    pub sessions: Option<SessionLimits>,
}

impl Deref for Setup {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl DerefMut for Setup {
    fn deref_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }
}

/// How workers in a directory are started.
pub fn worker_settings(dir: &Path) -> LocalSettings {
    let exe = std::env::current_exe().expect("a path");
    let exe = exe.to_str().expect("a plain path");
    let command = [exe, MAIN, "--exact", "--nocapture", "--test-threads=1"];
    LocalSettings {
        command: command.map(str::to_owned).to_vec(),
        dir: dir.to_owned(),
        env: [(ROLE.to_owned(), "1".to_owned())].into(),
        workers: WorkerRange::fixed(1),
        grow_after: None,
        shrink_after: None,
        worker_type: None,
        compile: true,
        cancelling: Cancelling {
            cancel: true,
            interrupt_timeout: PATIENCE,
        },
        preload: false,
        shared_template: false,
        confinement: Confinement::default(),
        boot_timeout: PATIENCE,
        max_requests: None,
        max_memory: None,
        max_failures: 5,
        give_up_after: None,
        watch: false,
    }
}

impl Local {
    /// Starts a server whose workers do what `code` says: see [`be_a_worker`].
    pub fn start(code: &str, change: impl FnOnce(&mut Setup)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("code"), code).expect("written");
        let local = worker_settings(dir.path());
        let settings = Settings {
            limits: Limits {
                max_connections: 100,
                ..Limits::default()
            },
            ..Settings::default()
        };
        let pool = PoolLimits {
            queue: 100,
            queue_timeout: None,
            ..PoolLimits::default()
        };
        let mut setup = Setup {
            settings,
            pool,
            local,
            sessions: None,
        };
        change(&mut setup);
        let Setup {
            mut settings,
            pool,
            local,
            sessions,
        } = setup;
        settings.pools = only(pool, Source::Local(local));
        settings.pools[0].sessions = sessions;
        let server = Server::start(settings).expect("a server");
        Self {
            server,
            dir,
            lines: Vec::new(),
        }
    }

    /// The same, once so many workers are ready.
    pub fn ready(workers: u32, code: &str, change: impl FnOnce(&mut Setup)) -> Self {
        let local = Self::start(code, |settings| {
            settings.local.workers = WorkerRange::fixed(workers);
            change(settings);
        });
        local.until_ready(workers as usize);
        local
    }

    /// Changes the workers' code.
    pub fn write(&self, code: &str) {
        // At once, so that no worker reads half of it.
        let new = self.dir.path().join("code.new");
        fs::write(&new, code).expect("written");
        fs::rename(new, self.dir.path().join("code")).expect("renamed");
    }

    /// Makes a file that workers may wait for.
    pub fn touch(&self, name: &str) {
        fs::write(self.dir.path().join(name), "").expect("written");
    }

    pub fn exists(&self, name: &str) -> bool {
        self.dir.path().join(name).exists()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Its one pool.
    pub fn status(&self) -> PoolStatus {
        self.server.status().pop().unwrap_or_default()
    }

    /// The workers in one state.
    pub fn in_state(&self, state: State) -> Vec<WorkerStatus> {
        let mut workers = self.status().workers;
        workers.retain(|worker| worker.state == state);
        workers
    }

    /// The processes in one state.
    pub fn pids(&self, state: State) -> Vec<u32> {
        let workers = self.in_state(state);
        workers.iter().filter_map(|worker| worker.pid).collect()
    }

    /// Waits until there are so many workers, each with one process, which is ready.
    pub fn until_ready(&self, count: usize) {
        let start = Instant::now();
        loop {
            let workers = self.status().workers;
            if workers.len() == count && workers.iter().all(|worker| worker.state == State::Ready) {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "not {count} ready workers: {workers:?} {:?}",
                self.server.phase()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the server has failed, and tells why.
    pub fn until_failed(&self) -> Failure {
        let mut failure = None;
        wait_until("the server has failed", || {
            if let Phase::Failed(why) = self.server.phase() {
                failure = Some(why);
            }
            failure.is_some()
        });
        failure.expect("just set")
    }

    /// Waits for the end of a command.
    pub fn result(&self, id: u64) -> Result<(), Failure> {
        let mut result = None;
        wait_until("the command has ended", || {
            result = self.server.result(id);
            result.is_some()
        });
        result.expect("just set")
    }

    pub fn ask(&mut self, request: Request) -> Result<(), Failure> {
        let id = self.server.ask(request);
        self.result(id)
    }

    pub fn stop(&mut self) -> Result<(), Failure> {
        self.ask(Request::Stop(Some(PATIENCE)))
    }

    /// Adds to `lines` what was logged since.
    pub fn take_lines(&mut self) {
        let (lines, _) = self.server.take_lines();
        self.lines.extend(lines.into_iter().map(|line| line.text));
    }

    /// Waits for a line of the log.
    pub fn until_logged(&mut self, part: &str) {
        wait_until(part, || {
            self.take_lines();
            self.lines.iter().any(|line| line.contains(part))
        });
    }

    /// Asks on a connection of its own; status and body, or nothing if there was no answer.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(&self.server.url().expect("a port"), path).unwrap_or_default()
    }
}

/// A request to `url`.
pub fn get(url: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.unwrap_or(0), body.to_owned()))
}
