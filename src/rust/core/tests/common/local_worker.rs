//! What a worker of a [local](super::local) pool does: what its code says, word by word.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::local::ROLE;
use super::template::{be_a_template, Manner};
use super::PATIENCE;

/// The main function of a worker, which every file of tests that uses [`Local`](super::local::Local) calls in a test named
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
/// - `signature:JSON`: beside that it has a control socket, where it tells what it takes;
/// - `mute-control`: beside that it has a control socket, where nobody answers.
///
/// As a template it does the same as worker 0 up to where it would serve: see [`template`](super::template).
pub fn be_a_worker() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    // After what the test harness has written.
    println!();
    if std::env::var("FAUCET_TEMPLATE").is_ok_and(|kind| kind == "shared") {
        // What its children serve they find in their own folders.
        be_a_template(true, Manner::Good);
    }
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
            ("signature", json) => {
                let socket = std::env::var("FAUCET_SOCKET").expect("a path");
                let listener = UnixListener::bind(socket + ".control").expect("nobody else's");
                tell(listener, json.to_owned());
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

/// Tells whoever asks what is taken, and has no other answers.
fn tell(listener: UnixListener, signature: String) {
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let answer = match line.as_str() {
                "signature\n" => format!("signature {signature}\n"),
                _ => "none\n".to_owned(),
            };
            let _ = (&stream).write_all(answer.as_bytes());
        }
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
        let target = line.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default().to_owned();
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
