//! More workers, and fewer.

mod common;

use common::local::{get, is_alive, wait_until, Local};
use faucet_core::ops::status::State;
use faucet_core::server::Request;
use faucet_core::sources::local::WorkerRange;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

#[test]
fn workers_come_and_go() {
    let mut local = Local::ready(1, "", |_| {});
    local
        .ask(Request::Scale(None, WorkerRange::fixed(3)))
        .expect("three workers");
    assert_eq!(local.status().serving(), 3);
    let pids = local.pids(State::Ready);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("one worker");
    local.until_ready(1);
    assert_eq!(pids.iter().filter(|pid| is_alive(**pid)).count(), 1);
    assert_eq!(local.get("/pid").1, pids[0].to_string());
}

#[test]
fn a_worker_that_leaves_finishes_its_request() {
    let mut local = Local::ready(2, "", |_| {});
    let second = local.pids(State::Ready)[1];
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let url = local.server.url().expect("a port");
            std::thread::spawn(move || get(&url, "/never"))
        })
        .collect();
    wait_until("both are busy", || local.pids(State::Busy).len() == 2);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("one worker");
    assert_eq!(local.pids(State::Draining), [second]);
    let leaving = &local.in_state(State::Draining)[0];
    assert_eq!((leaving.worker, leaving.in_flight), (2, 1));
    assert!(is_alive(second));
    local.ask(Request::Kill).expect("killed");
    for client in clients {
        // An answer or none: its worker was killed.
        drop(client.join().expect("a client"));
    }
    assert!(!is_alive(second));
}

#[test]
fn whoever_waits_for_workers_that_are_scaled_away_is_told() {
    let mut local = Local::ready(1, "", |_| {});
    local.write("hang");
    let more = local
        .server
        .ask(Request::Scale(None, WorkerRange::fixed(3)));
    wait_until("two start", || local.in_state(State::Starting).len() == 2);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("one worker");
    assert!(local.result(more).is_err());
    local.until_ready(1);
}

#[test]
fn workers_that_cannot_be_started_are_told() {
    let mut local = Local::ready(1, "", |_| {});
    local.write("fail");
    let failure = local
        .ask(Request::Scale(None, WorkerRange::fixed(2)))
        .expect_err("the code is bad");
    assert_eq!(failure.class, "boot");
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("back to one");

    let dir = local.dir.path().to_owned();
    let aside = dir.with_extension("aside");
    std::fs::rename(&dir, &aside).expect("renamed");
    let failure = local
        .ask(Request::Scale(None, WorkerRange::fixed(2)))
        .expect_err("there is no directory");
    std::fs::rename(&aside, &dir).expect("renamed");
    assert!(
        failure.message.contains("could not be started"),
        "{failure}"
    );
    assert_eq!(local.get("/pid").0, 200);
}

#[test]
fn those_that_were_given_up_leave_first() {
    let mut local = Local::ready(2, "", |settings| settings.local.max_failures = 1);
    let pids = local.pids(State::Ready);
    local.write("fail");
    kill(Pid::from_raw(pids[0] as i32), Signal::SIGKILL).expect("killed");
    wait_until("the first is given up", || {
        local.in_state(State::Failed).len() == 1
    });
    let left = local.pids(State::Ready);
    assert_eq!(left, [pids[1]]);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("one worker");
    local.until_ready(1);
    assert_eq!(local.pids(State::Ready), left);
}

#[test]
fn a_restart_that_is_due_does_not_bring_back_a_worker_that_was_scaled_away() {
    let mut local = Local::ready(2, "", |_| {});
    local.write("fail");
    local.get("/die");
    wait_until("it waits for its restart", || {
        local.in_state(State::Dead).len() == 1
    });
    local.write("");
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("one worker");
    local.until_ready(1);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(2)))
        .expect("two workers");
    local.until_ready(2);
    assert_eq!(local.status().workers.len(), 2);
}
