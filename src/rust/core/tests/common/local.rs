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

use super::template::{be_a_template, Manner};
use super::{only, PATIENCE};

const ROLE: &str = "FAUCET_TEST_WORKER";

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

/// The main function of a worker, which every file of tests that uses [`Local`] calls in a test named
/// `a_worker`; in the tests' own run it does nothing. The words of its code, in order:
///
/// - `fail`: prints two lines and ends with status 7; `fail:ID`: so does that worker; `fail-once:ID`: so does the first
///   process of a worker;
/// - `wait:FILE`: goes on when the file exists;
/// - `hang`: never does anything more;
/// - `listen`: it listens on a port of its own, which is in the file `listens`;
/// - `only:ID`: the rest is for that worker alone;
/// - `child`: has a child that lives long, whose pid is in the file `child`;
/// - `touch:FILE`: writes that file;
/// - `says:TEXT`: what it answers to `/says`;
/// - `template:MANNER`: what kind of template it is;
/// - `ballast`: it has [`BALLAST`] bytes of memory;
/// - `native`: it serves on its Unix socket;
/// - `mute-control`: beside that it has a control socket, where nobody answers.
///
/// As a template it does the same as worker 0 up to where it would serve: see [`template`](super::template).
pub fn be_a_worker() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    // After what the test harness has written.
    println!();
    let code = fs::read_to_string("code").expect("code");
    let id = std::env::var("FAUCET_WORKER_ID").expect("a number");
    let is_template = std::env::var_os("FAUCET_TEMPLATE").is_some();
    let mut manner = Manner::Good;
    let (mut says, mut native) = ("", false);
    for word in code.split_whitespace() {
        match word.split_once(':').unwrap_or((word, "")) {
            ("fail", which) => {
                if which.is_empty() || which == id {
                    fail();
                }
            }
            ("fail-once", which) => {
                if which == id && first_time(&format!("failed-{id}")) {
                    fail();
                }
            }
            ("wait", file) => {
                while !Path::new(file).exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            ("hang", _) => loop {
                std::thread::sleep(PATIENCE);
            },
            ("listen", _) => {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
                let port = listener.local_addr().expect("an address").port();
                fs::write("listens", port.to_string()).expect("written");
                std::mem::forget(listener);
            }
            ("child", _) => {
                let command = "sleep 300 & echo $! >child";
                let status = Command::new("sh").args(["-c", command]).status();
                assert!(status.expect("a shell").success());
            }
            ("only", which) => {
                if which != id {
                    break;
                }
            }
            ("touch", file) => fs::write(file, "touched").expect("written"),
            ("says", text) => says = text,
            ("ballast", _) => grow(),
            ("native", _) => native = true,
            ("mute-control", _) => {
                let socket = std::env::var("FAUCET_SOCKET").expect("a path");
                let listener = UnixListener::bind(socket + ".control");
                std::mem::forget(listener.expect("nobody else's"));
            }
            ("template", how) => manner = Manner::named(how),
            _ => panic!("not a word of the workers' language: {word}"),
        }
    }
    if is_template {
        be_a_template(native, manner);
    }
    if native {
        let socket = std::env::var("FAUCET_SOCKET").expect("a path");
        let listener = UnixListener::bind(socket).expect("nobody else's");
        let accept = || listener.accept().map(|(stream, _)| stream);
        serve(accept, UnixStream::try_clone, says);
    } else {
        let port: u16 = std::env::var("FAUCET_PORT")
            .ok()
            .and_then(|port| port.parse().ok())
            .expect("a port");
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let accept = || listener.accept().map(|(stream, _)| stream);
        serve(accept, TcpStream::try_clone, says);
    }
}

/// Answers on every connection, at the same time.
fn serve<S: Read + Write + Send>(
    accept: impl Fn() -> io::Result<S>,
    twin: fn(&S) -> io::Result<S>,
    says: &str,
) {
    std::thread::scope(|threads| loop {
        let stream = accept().expect("a connection");
        let writer = twin(&stream).expect("a socket");
        threads.spawn(|| answer(stream, writer, says));
    });
}

/// What some workers have in memory, in bytes.
pub const BALLAST: usize = 64 << 20;

/// Needs memory, for ever.
fn grow() {
    std::mem::forget(std::hint::black_box(vec![1u8; BALLAST]));
}

/// Whether nobody has made this file before.
fn first_time(file: &str) -> bool {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).open(file).is_ok()
}

/// Stops as a whole, until killed or continued.
fn freeze() {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).expect("stopped");
}

/// Ends, and leaves a child with all that was open and in no group of ours, as R's `parallel` may; its pid is in the file
/// `child`.
fn leave_a_child() -> ! {
    use nix::unistd::{fork, setsid, ForkResult};
    // The child does nothing that could need what other threads hold.
    #[allow(unsafe_code)]
    let forked = unsafe { fork() };
    match forked.expect("a process") {
        ForkResult::Child => {
            let _ = setsid();
            loop {
                std::thread::sleep(PATIENCE);
            }
        }
        ForkResult::Parent { child } => {
            fs::write("child", child.to_string()).expect("written");
            // Before the child is in a group of its own it would be killed with ours.
            while nix::unistd::getpgid(Some(child)) != Ok(child) {
                std::thread::yield_now();
            }
            std::process::exit(9);
        }
    }
}

fn fail() {
    println!("first line");
    eprintln!("last line");
    std::process::exit(7);
}

/// Answers all requests of one connection.
fn answer(stream: impl Read, mut writer: impl Write, says: &str) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let body = match path.as_str() {
            "/says" => says.to_owned(),
            "/hang-up" => return,
            "/status-123" => {
                let _ = writer.write_all(b"HTTP/1.1 123 Dunno\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            "/status-123-and-freeze" => {
                let _ = writer.write_all(b"HTTP/1.1 123 Dunno\r\nContent-Length: 0\r\n\r\n");
                freeze();
                continue;
            }
            "/half" | "/half-and-freeze" => {
                let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                if path != "/half" {
                    freeze();
                }
                continue;
            }
            "/freeze" => {
                fs::write("reached", "").expect("written");
                freeze();
                return;
            }
            "*" => String::new(),
            "/die-and-leave-a-child" => leave_a_child(),
            "/grow" => {
                grow();
                String::new()
            }
            // Says nothing, and hears everything until the end.
            "/socket" => {
                let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                if writer.write_all(switch.as_bytes()).is_ok() {
                    while lines.next().is_some_and(|line| line.is_ok()) {}
                }
                return;
            }
            "/pid" => std::process::id().to_string(),
            "/die" => std::process::exit(9),
            "/never" => loop {
                fs::write("reached", "").expect("written");
                std::thread::sleep(PATIENCE);
            },
            path if path.starts_with("/wait:") => {
                while !Path::new(&path["/wait:".len()..]).exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                std::process::id().to_string()
            }
            path if path.starts_with("/env:") => {
                std::env::var(&path["/env:".len()..]).unwrap_or_default()
            }
            other => panic!("no such path: {other}"),
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if writer.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}
