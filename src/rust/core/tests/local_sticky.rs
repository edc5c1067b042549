//! Sessions of worker processes: a reload, a death, the end of a pool and of a server.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::local::{wait_until, Local, Setup};
use common::PATIENCE;
use faucet_core::ops::status::State;
use faucet_core::server::Request;
use faucet_core::sessions::SessionLimits;
use faucet_core::sources::local::WorkerRange;

/// WebSocket's "going away", to a client.
const CLOSE: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn sticky(drain_timeout: Option<Duration>) -> impl FnOnce(&mut Setup) {
    move |setup| {
        setup.sessions = Some(SessionLimits {
            slots: 5,
            timeout: PATIENCE,
            drain_timeout,
        });
    }
}

/// A client with a cookie.
struct Browser<'a> {
    local: &'a Local,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn new(local: &'a Local) -> Self {
        let cookie = String::new();
        Self { local, cookie }
    }

    fn send(&self, path: &str, headers: &str) -> TcpStream {
        let url = self.local.server.url().expect("a port");
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).expect("listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let cookie = &self.cookie;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\n{headers}{cookie}\r\n"
        )
        .expect("sent");
        stream
    }

    fn head(&mut self, stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).expect("a head"), 1, "no whole head");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text");
        let set = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        if let Some((pair, _)) = set.and_then(|set| set.split_once(';')) {
            self.cookie = format!("Cookie: {pair}\r\n");
        }
        head
    }

    fn get(&mut self, path: &str) -> String {
        let mut stream = self.send(path, "Connection: close\r\n");
        let head = self.head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut body = String::new();
        stream.read_to_string(&mut body).expect("a body");
        body
    }

    fn tunnel(&mut self) -> TcpStream {
        let upgrade = concat!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        );
        let mut stream = self.send("/socket", upgrade);
        assert!(self.head(&mut stream).starts_with("HTTP/1.1 101"));
        stream
    }
}

fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("it ends in time");
    rest
}

#[test]
fn a_session_outlives_a_reload_until_its_page_is_closed() {
    let mut local = Local::ready(2, "says:old", sticky(None));
    let mut browser = Browser::new(&local);
    let mut page = browser.send("/says", "Accept: text/html\r\nConnection: close\r\n");
    browser.head(&mut page);
    let tab = browser.tunnel();
    let pid = browser.get("/pid");
    let cookie = browser.cookie.clone();
    local.write("says:new");
    local.ask(Request::Reload(None)).expect("a good reload");
    let mut browser = Browser {
        local: &local,
        cookie,
    };
    assert_eq!(browser.get("/pid"), pid);
    assert_eq!(browser.get("/says"), "old");
    assert_eq!(Browser::new(&local).get("/says"), "new");
    wait_until("the other old worker has nobody to wait for", || {
        local.pids(State::Draining).len() + local.pids(State::Ready).len() == 3
    });
    // The page is loaded anew: by its request first, while its socket is open.
    let page = browser.send("/says", "Accept: text/html\r\nConnection: close\r\n");
    assert!(rest(page).ends_with(b"new"));
    drop(tab);
    local.until_ready(2);
}

#[test]
fn a_session_that_takes_too_long_to_end_is_ended_with_a_close() {
    let mut local = Local::ready(1, "says:old", sticky(Some(Duration::from_millis(300))));
    let mut browser = Browser::new(&local);
    let tab = browser.tunnel();
    let pid = browser.get("/pid");
    let cookie = browser.cookie.clone();
    local.ask(Request::Reload(None)).expect("a good reload");
    assert_eq!(rest(tab), CLOSE);
    local.until_logged("ends 1 session: `drain_timeout` is over");
    local.until_ready(1);
    let mut browser = Browser {
        local: &local,
        cookie,
    };
    assert_ne!(browser.get("/pid"), pid);
}

#[test]
fn a_worker_that_dies_ends_its_sessions_with_a_close() {
    let mut local = Local::ready(1, "", sticky(None));
    let mut browser = Browser::new(&local);
    let tab = browser.tunnel();
    let pid = browser.get("/pid");
    let cookie = browser.cookie.clone();
    assert_eq!(local.status().workers[0].sessions, Some(1));
    let dying = browser.send("/die", "");
    assert_eq!(rest(tab), CLOSE);
    drop(dying);
    local.until_logged("ends 1 session: its process exited with status 9");
    local.until_ready(1);
    let mut browser = Browser {
        local: &local,
        cookie: cookie.clone(),
    };
    assert_ne!(browser.get("/pid"), pid);
    assert_ne!(browser.cookie, cookie, "it is a new one");
}

#[test]
fn a_worker_that_is_scaled_away_waits_for_its_sessions() {
    let mut local = Local::ready(2, "", sticky(None));
    let (mut one, mut two) = (Browser::new(&local), Browser::new(&local));
    let tabs = (one.tunnel(), two.tunnel());
    let pids = (one.get("/pid"), two.get("/pid"));
    let cookies = (one.cookie.clone(), two.cookie.clone());
    assert_ne!(pids.0, pids.1);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("scaled");
    assert_eq!(local.pids(State::Draining).len(), 1);
    for (cookie, pid) in [(cookies.0, pids.0), (cookies.1, pids.1)] {
        let mut browser = Browser {
            local: &local,
            cookie,
        };
        assert_eq!(browser.get("/pid"), pid);
    }
    drop(tabs);
    local.stop().expect("stopped");
}

/// Nobody would ever close the page of an app that is about to be gone.
#[test]
fn a_server_that_stops_does_not_wait_for_open_pages() {
    let mut local = Local::ready(1, "", sticky(None));
    let mut browser = Browser::new(&local);
    let tab = browser.tunnel();
    let asked = local.server.ask(Request::Stop(None));
    assert_eq!(rest(tab), CLOSE);
    local.result(asked).expect("stopped");
}

#[test]
fn a_pool_that_is_removed_waits_for_open_pages_up_to_its_limit() {
    let mut local = Local::ready(1, "", sticky(None));
    let mut browser = Browser::new(&local);
    let tab = browser.tunnel();
    let gone = local.server.ask(Request::RemovePool(
        "/".into(),
        Some(Duration::from_millis(300)),
    ));
    assert_eq!(rest(tab), CLOSE);
    local.result(gone).expect("removed");
    local.until_logged("there are still sessions after the deadline");

    let mut local = Local::ready(1, "", sticky(None));
    let mut browser = Browser::new(&local);
    let tab = browser.tunnel();
    let cookie = browser.cookie.clone();
    let gone = local.server.ask(Request::RemovePool("/".into(), None));
    let mut browser = Browser {
        local: &local,
        cookie,
    };
    assert!(!browser.get("/pid").is_empty(), "its session goes on");
    drop(tab);
    local.result(gone).expect("removed");
}

#[test]
fn one_that_is_stuck_for_one_client_is_not_taken_from_the_others() {
    let local = Local::ready(1, "", |setup| {
        sticky(None)(setup);
        setup.pool.timeout = Some(Duration::from_millis(300));
    });
    let mut browser = Browser::new(&local);
    let pid = browser.get("/pid");
    // It has a thread for each connection, and so goes on at once; R would not.
    let mut stuck = browser.send("/never", "");
    let mut head = [0; 12];
    stuck.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 504");
    assert_eq!(browser.get("/pid"), pid);
    wait_until("nothing has become of it", || {
        local.pids(State::Ready).len() + local.pids(State::Busy).len() == 1
    });
}

#[test]
fn one_that_answers_nobody_gets_no_new_sessions_until_it_does() {
    let local = Local::ready(2, "", |setup| {
        sticky(None)(setup);
        setup.pool.timeout = Some(Duration::from_millis(300));
    });
    let mut browser = Browser::new(&local);
    let pid = browser.get("/pid");
    let mut frozen = browser.send("/half-and-freeze", "");
    let mut head = [0; 12];
    frozen.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 504");
    let others: Vec<String> = (0..3).map(|_| Browser::new(&local).get("/pid")).collect();
    assert!(!others.contains(&pid), "they went to one that answers");
    let waiting = browser.send("/pid", "Connection: close\r\n");
    let process = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGCONT).expect("it lives");
    let answer = String::from_utf8_lossy(&rest(waiting)).into_owned();
    assert!(answer.ends_with(&pid), "its sessions go on: {answer}");
    wait_until("new ones go there again", || {
        Browser::new(&local).get("/pid") == pid
    });
}
