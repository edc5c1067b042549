//! Worker processes whose connections or answers are not what they should be: one that lives is back at once, one that
//! does not answer is replaced, whatever holds its sockets.

mod common;

use std::thread;

use common::local::{get, is_alive, wait_until, Local, Setup};
use common::SOON;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn soon(setup: &mut Setup) {
    setup.local.cancelling.interrupt_timeout = SOON;
    setup.limits.idle_timeout = Some(SOON);
}

fn restarts(local: &Local) -> u32 {
    let workers = local.status().workers;
    workers.iter().map(|worker| worker.restarts).sum()
}

/// With a pause after each, this would take a minute.
#[test]
fn a_worker_that_hangs_up_but_lives_is_back_at_once() {
    for code in ["", "native"] {
        let local = Local::ready(1, code, |_| {});
        let pid = local.get("/pid").1;
        let url = local.server.url().expect("a port");
        let asking = thread::spawn(move || {
            for _ in 0..1000 {
                let (status, body) = get(&url, "/hang-up").expect("an answer");
                assert_eq!(status, 502);
                assert!(body.contains("could not finish its answer"), "{body}");
                assert_eq!(get(&url, "/pid").expect("an answer"), (200, pid.clone()));
            }
        });
        wait_until("all have their answers", || asking.is_finished());
        asking.join().expect("good answers");
        assert_eq!(restarts(&local), 0);
    }
}

#[test]
fn a_worker_that_dies_is_told_from_one_that_hangs_up() {
    for code in ["", "native"] {
        let local = Local::ready(1, code, |_| {});
        for _ in 0..3 {
            let pid = local.get("/pid").1;
            let (status, body) = local.get("/die");
            assert_eq!(status, 502);
            assert!(body.contains("the worker died"), "{body}");
            let (status, next) = local.get("/pid");
            assert_eq!((status, next == pid), (200, false));
        }
    }
}

#[test]
fn a_worker_that_answers_wrongly_stays_if_it_answers_then() {
    let local = Local::ready(1, "", soon);
    let pid = local.get("/pid").1;
    for path in ["/status-123", "/half", "/status-123", "/half"] {
        assert_eq!(local.get(path).0, 502, "{path}");
        assert_eq!(local.get("/pid"), (200, pid.clone()), "{path}");
    }
    assert_eq!(restarts(&local), 0);
}

#[test]
fn a_worker_that_answers_wrongly_and_nothing_more_is_replaced() {
    for path in ["/status-123-and-freeze", "/half-and-freeze"] {
        let mut local = Local::ready(1, "", soon);
        let pid = local.get("/pid").1;
        assert_eq!(local.get(path).0, 502, "{path}");
        let (status, next) = local.get("/pid");
        assert_eq!((status, next == pid), (200, false), "{path}");
        local.until_logged("does not answer and is replaced");
    }
}

/// No deadline: only its silence tells.
#[test]
fn a_frozen_native_worker_whose_client_has_left_is_replaced() {
    let mut local = Local::ready(1, "native mute-control", soon);
    let pid = local.get("/pid").1;
    let url = local.server.url().expect("a port");
    let asking = {
        use std::io::Write;
        let address = url.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).expect("the front listens");
        write!(stream, "GET /freeze HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        stream
    };
    wait_until("it works on it", || local.exists("reached"));
    drop(asking);
    let (status, next) = local.get("/pid");
    assert_eq!((status, next == pid), (200, false));
    local.until_logged("does not answer any more and is replaced");
}

#[test]
fn a_death_is_seen_though_a_child_holds_the_sockets() {
    for code in ["", "native"] {
        let local = Local::ready(1, code, soon);
        let pid = local.get("/pid").1;
        let (status, _) = local.get("/die-and-leave-a-child");
        let child: i32 = local.read("child").parse().expect("a pid");
        let held = is_alive(child as u32);
        let next = local.get("/pid");
        kill(Pid::from_raw(child), Signal::SIGKILL).expect("killed");
        assert!(held);
        assert_eq!(status, 502);
        assert_eq!((next.0, next.1 == pid), (200, false));
    }
}
