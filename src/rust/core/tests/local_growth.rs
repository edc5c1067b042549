//! A number of workers that follows what there is to do.

mod common;

use std::thread::JoinHandle;
use std::time::Duration;

use common::local::{get, is_alive, wait_until, Local, Setup};
use faucet_core::ops::status::State;
use faucet_core::server::Request;
use faucet_core::sources::local::WorkerRange;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// Grows at once, and never shrinks unless told otherwise.
fn between(min: u32, max: u32) -> impl FnOnce(&mut Setup) {
    move |setup| {
        setup.local.workers = WorkerRange { min, max };
        setup.max_workers = Some(100);
        setup.local.grow_after = Some(Duration::from_millis(10));
    }
}

fn quickly_back(min: u32, max: u32) -> impl FnOnce(&mut Setup) {
    move |setup| {
        between(min, max)(setup);
        setup.local.shrink_after = Some(Duration::from_millis(100));
    }
}

/// Clients whose requests last until a file is there.
fn ask(local: &Local, path: &'static str, count: usize) -> Vec<JoinHandle<(u16, String)>> {
    let client = || {
        let url = local.server.url().expect("a port");
        std::thread::spawn(move || get(&url, path).unwrap_or_default())
    };
    (0..count).map(|_| client()).collect()
}

fn statuses(clients: Vec<JoinHandle<(u16, String)>>) -> Vec<u16> {
    let status = |client: JoinHandle<(u16, String)>| client.join().expect("a client").0;
    clients.into_iter().map(status).collect()
}

#[test]
fn it_grows_while_requests_wait_up_to_the_most() {
    let mut local = Local::start("", between(1, 3));
    local.until_ready(1);
    let clients = ask(&local, "/wait:go", 5);
    wait_until("three are busy", || local.in_state(State::Busy).len() == 3);
    wait_until("the others wait", || local.status().queue == 2);
    assert_eq!(local.status().workers.len(), 3);
    local.touch("go");
    assert_eq!(statuses(clients), [200; 5]);
    local.until_logged("grows from 1 to 2 workers: ");
    local.until_logged("grows from 2 to 3 workers: ");
    assert_eq!(local.status().size, Some(WorkerRange { min: 1, max: 3 }));
}

#[test]
fn it_shrinks_when_workers_idle_but_never_below_the_least() {
    let mut local = Local::start("", quickly_back(1, 3));
    local.until_ready(1);
    let clients = ask(&local, "/wait:go", 3);
    wait_until("three are busy", || local.in_state(State::Busy).len() == 3);
    let pids = local.pids(State::Busy);
    local.touch("go");
    assert_eq!(statuses(clients), [200; 3]);
    local.until_logged("shrinks from 2 to 1 worker: ");
    local.until_ready(1);
    wait_until("two are gone", || {
        pids.iter().filter(|pid| is_alive(**pid)).count() == 1
    });
    // The one that is left does, whatever it is asked to.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(local.get("/wait:go").0, 200);
}

#[test]
fn a_worker_with_a_request_in_flight_does_not_leave() {
    let mut local = Local::start("", quickly_back(0, 2));
    let first = ask(&local, "/wait:go", 1);
    wait_until("one is busy", || local.in_state(State::Busy).len() == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(local.in_state(State::Busy).len(), 1);
    local.touch("go");
    assert_eq!(statuses(first), [200]);
    local.until_logged("shrinks from 1 to 0 workers: ");
}

#[test]
fn without_workers_it_is_ready_and_its_first_request_starts_one() {
    let mut local = Local::start("", quickly_back(0, 1));
    let ready =
        || get(&local.server.url().expect("a port"), "/__faucet__/readyz").unwrap_or_default();
    wait_until("it is ready", || ready().0 == 200);
    let status = local.status();
    assert!(status.sleeping && status.is_ready() && status.is_live());
    assert_eq!(status.unserved, None);
    assert!(status.workers.is_empty());
    for _ in 0..2 {
        let (code, pid) = local.get("/pid");
        assert_eq!(code, 200);
        let pid: u32 = pid.parse().expect("a pid");
        assert!(is_alive(pid));
        wait_until("it sleeps again", || {
            local.status().sleeping && !is_alive(pid)
        });
    }
    local.until_logged("grows from 0 to 1 worker: a request has come");
    wait_until("no worker is left", || local.status().workers.is_empty());
    local.stop().expect("stopped");
}

#[test]
fn a_burst_at_a_sleeping_pool_is_answered_one_at_a_time() {
    let local = Local::start("native", between(0, 2));
    let clients = ask(&local, "/pid", 60);
    assert_eq!(statuses(clients), [200; 60]);
    let workers = local.status().workers;
    assert!(workers.iter().all(|worker| worker.slots <= 1));
    assert!((1..=2).contains(&workers.len()));
}

#[test]
fn an_app_that_does_not_start_is_tried_by_a_later_request() {
    let mut local = Local::start("fail", |setup| {
        quickly_back(0, 2)(setup);
        setup.local.max_failures = 1;
    });
    assert_eq!(local.get("/pid").0, 503);
    local.until_logged("no worker starts");
    local.until_logged("is given up until the next request");
    wait_until("it sleeps again", || local.status().sleeping);
    local.write("");
    assert_eq!(local.get("/pid").0, 200);
}

#[test]
fn there_are_never_more_than_all_may_be() {
    let mut local = Local::start("", |setup| {
        between(1, 8)(setup);
        setup.max_workers = Some(2);
    });
    local.until_ready(1);
    let clients = ask(&local, "/wait:go", 6);
    local.until_logged("no room for another worker: all pools together have 2 workers");
    assert_eq!(local.status().workers.len(), 2);
    local.touch("go");
    assert_eq!(statuses(clients), [200; 6]);
    let more = local.ask(Request::Scale(None, WorkerRange::fixed(3)));
    assert_eq!(more.expect_err("too many").class, "option");
    local
        .ask(Request::Scale(None, WorkerRange::fixed(2)))
        .expect("as many as there may be");
}

#[test]
fn a_range_may_change_while_it_runs() {
    let mut local = Local::start("", quickly_back(2, 2));
    local.until_ready(2);
    local
        .ask(Request::Scale(None, WorkerRange { min: 0, max: 1 }))
        .expect("fewer");
    wait_until("it sleeps", || local.status().sleeping);
    assert_eq!(local.get("/pid").0, 200);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(2)))
        .expect("two again");
    local.until_ready(2);
    assert_eq!(local.status().size, None);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(local.status().workers.len(), 2);
}

#[test]
fn a_sleeping_pool_reloads_and_stops_at_once() {
    let mut local = Local::start("says:old", quickly_back(0, 1));
    local.ask(Request::Reload(None)).expect("nothing to do");
    local.write("says:new");
    assert_eq!(local.get("/says").1, "new");
    local.stop().expect("stopped");
}

#[test]
fn a_template_comes_with_the_first_request_and_leaves_with_the_last_worker() {
    let mut local = Local::start("native", |setup| {
        quickly_back(0, 3)(setup);
        setup.local.preload = true;
    });
    wait_until("it is ready", || local.status().sleeping);
    assert!(local.status().template.is_none());
    let clients = ask(&local, "/wait:go", 3);
    wait_until("three are busy", || local.in_state(State::Busy).len() == 3);
    let template = local.status().template.expect("a template");
    let template = template.pid.expect("a pid");
    local.touch("go");
    assert_eq!(statuses(clients), [200; 3]);
    wait_until("nothing is left", || {
        local.status().sleeping && !is_alive(template)
    });
    assert_eq!(local.get("/pid").0, 200);
    local.stop().expect("stopped");
}

#[test]
fn a_reload_replaces_workers_that_have_come_by_demand() {
    let mut local = Local::start("says:old", between(1, 2));
    local.until_ready(1);
    let clients = ask(&local, "/wait:go", 2);
    wait_until("two are busy", || local.in_state(State::Busy).len() == 2);
    local.touch("go");
    assert_eq!(statuses(clients), [200; 2]);
    local.until_ready(2);
    local.write("says:new");
    local.ask(Request::Reload(None)).expect("reloaded");
    for _ in 0..4 {
        assert_eq!(local.get("/says").1, "new");
    }
}

#[test]
fn a_worker_that_serves_does_not_leave_for_one_that_does_not_start() {
    let mut local = Local::start("", |setup| {
        quickly_back(1, 3)(setup);
        setup.local.max_failures = 1;
    });
    local.until_ready(1);
    local.write("fail");
    let clients = ask(&local, "/wait:go", 2);
    local.until_logged("worker 2 has failed to start");
    local.touch("go");
    assert_eq!(statuses(clients), [200; 2]);
    wait_until("the other is forgotten", || {
        local.status().workers.len() == 1
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(local.get("/wait:go").0, 200);
    assert_eq!(local.status().serving(), 1);
}

#[test]
fn a_worker_that_dies_when_nobody_needs_it_does_not_come_back() {
    let local = Local::start("", between(0, 1));
    for _ in 0..2 {
        // One death may be a request's own fault; no answer, or an error.
        drop(local.get("/die"));
    }
    wait_until("it sleeps", || local.status().sleeping);
    assert_eq!(local.get("/pid").0, 200);
}
