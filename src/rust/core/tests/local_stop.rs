//! The end: nothing survives it, and it never takes for ever.

mod common;

use std::time::{Duration, Instant};

use common::local::{is_alive, wait_until, Local};
use common::PATIENCE;
use faucet_core::ops::status::State;
use faucet_core::server::{Phase, Request};
use faucet_core::sources::local::WorkerRange;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// Workers that do not hear SIGINT.
fn deaf(settings: &mut common::local::Setup) {
    let command = std::mem::take(&mut settings.local.command);
    let shell = ["sh", "-c", "trap '' INT; exec \"$0\" \"$@\""].map(str::to_owned);
    settings.local.command = shell.into_iter().chain(command).collect();
}

#[test]
fn a_stop_ends_everything_before_it_returns() {
    let mut local = Local::ready(2, "", |_| {});
    let (pids, url) = (
        local.pids(State::Ready),
        local.server.url().expect("a port"),
    );
    local.stop().expect("stopped");
    assert!(!local.server.is_running());
    assert!(matches!(local.server.phase(), Phase::Stopped));
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    let address = url.trim_start_matches("http://");
    std::net::TcpListener::bind(address).expect("the port is free again");
    local.stop().expect("stopping twice is no error");
    assert_eq!(
        local
            .ask(Request::Reload(None))
            .expect_err("too late")
            .class,
        "stopped"
    );
    assert_eq!(
        local
            .ask(Request::Scale(None, WorkerRange::fixed(3)))
            .expect_err("too late")
            .class,
        "stopped"
    );
}

#[test]
fn a_kill_ends_everything_before_it_returns() {
    let mut local = Local::ready(2, "child", deaf);
    let (pids, url) = (
        local.pids(State::Ready),
        local.server.url().expect("a port"),
    );
    let start = Instant::now();
    local.ask(Request::Kill).expect("killed");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert!(!local.server.is_running());
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    let address = url.trim_start_matches("http://");
    std::net::TcpListener::bind(address).expect("the port is free again");
}

#[test]
fn a_stop_while_workers_start_is_quick() {
    let mut local = Local::start("hang", |settings| {
        settings.local.workers = WorkerRange::fixed(2)
    });
    wait_until("both start", || local.pids(State::Starting).len() == 2);
    let pids = local.pids(State::Starting);
    let start = Instant::now();
    local.stop().expect("stopped");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    assert!(matches!(local.server.phase(), Phase::Stopped));
}

#[test]
fn a_worker_that_ignores_the_signal_is_killed_in_the_end() {
    let mut local = Local::ready(1, "", deaf);
    let pids = local.pids(State::Ready);
    let start = Instant::now();
    local.stop().expect("stopped");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert!(!is_alive(pids[0]));
}

#[test]
fn a_kill_cuts_a_stop_short() {
    let mut local = Local::ready(1, "", deaf);
    let pids = local.pids(State::Ready);
    let start = Instant::now();
    let stop = local.server.ask(Request::Stop(Some(PATIENCE)));
    wait_until("it is told to stop", || {
        local.in_state(State::Stopping).len() == 1
    });
    local.ask(Request::Kill).expect("killed");
    local.result(stop).expect("stopped, if not as asked");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert!(!is_alive(pids[0]));
}

#[test]
fn a_worker_takes_its_children_along() {
    let mut local = Local::ready(1, "child", |_| {});
    let child: u32 = local.read("child").trim().parse().expect("a pid");
    assert!(is_alive(child));
    local.get("/die");
    wait_until("the child is gone", || !is_alive(child));
    local.until_ready(1);
    let child: u32 = local.read("child").trim().parse().expect("a pid");
    local.stop().expect("stopped");
    wait_until("the next child is gone", || !is_alive(child));
}

#[test]
fn a_server_that_is_dropped_takes_its_workers_along() {
    let local = Local::ready(2, "", deaf);
    let pids = local.pids(State::Ready);
    let start = Instant::now();
    drop(local);
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    wait_until("they are gone", || pids.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn a_drain_while_workers_start_does_not_look_ready_again() {
    let mut local = Local::start("wait:go", |_| {});
    local
        .ask(Request::Drain(Some(PATIENCE)))
        .expect("nothing to drain");
    local.touch("go");
    local.until_ready(1);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(2)))
        .expect("everything before it was handled");
    assert!(matches!(local.server.phase(), Phase::Draining));
}

#[test]
fn workers_do_not_mind_the_end_of_the_thread_that_started_the_server() {
    let starter = std::thread::spawn(|| Local::ready(1, "says:hello", |_| {}));
    let local = starter.join().expect("a server");
    let pids = local.pids(State::Ready);
    for _ in 0..20 {
        std::thread::spawn(|| ()).join().expect("a short life");
        assert_eq!(local.get("/says").1, "hello");
    }
    assert_eq!(local.pids(State::Ready), pids);
    assert_eq!(local.status().workers[0].restarts, 0);
}

#[test]
fn output_is_shown_with_the_workers_number() {
    let mut local = Local::ready(1, "", |settings| {
        settings.local.max_failures = 1;
    });
    local.write("fail");
    assert!(local
        .ask(Request::Scale(None, WorkerRange::fixed(2)))
        .is_err());
    local.until_logged("[worker 2] first line");
    local.until_logged("[worker 2] last line");
}

#[test]
fn a_stopped_process_does_not_hold_up_a_kill() {
    let mut local = Local::ready(1, "", |_| {});
    let pid = local.pids(State::Ready)[0];
    kill(Pid::from_raw(pid as i32), Signal::SIGSTOP).expect("stopped");
    local.ask(Request::Kill).expect("killed");
    assert!(!is_alive(pid));
}
