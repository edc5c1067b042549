//! Nothing starts any more, for a while: the service comes back by itself when it can, and says how it is until then.

mod common;

use std::time::{Duration, SystemTime};

use common::local::{get, is_alive, wait_until, Local, Setup};
use faucet_core::ops::status::State;
use faucet_core::server::Request;
use faucet_core::sources::local::WorkerRange;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// A server of two workers that ran, and whose code now fails.
fn failing(code: &str, change: impl FnOnce(&mut Setup)) -> Local {
    let local = Local::ready(2, code, |settings| {
        settings.local.max_failures = 2;
        change(settings);
    });
    local.write("fail");
    let template = local.status().template.and_then(|template| template.pid);
    for pid in local.pids(State::Ready).into_iter().chain(template) {
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("killed");
    }
    wait_until("none is tried for long", || {
        local.in_state(State::Failed).len() == 2
    });
    local
}

fn health(local: &Local, path: &str) -> (u16, Value) {
    let (status, body) = local.get(&format!("/__faucet__/{path}"));
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[test]
fn the_service_comes_back_by_itself() {
    let mut local = failing("says:before", |_| {});
    local.until_logged("tried again from now on");
    local.until_logged("requests are refused until one does");
    for worker in local.in_state(State::Failed) {
        assert!(worker.next_try.is_some(), "{worker:?}");
    }
    // At once: the queue's patience is endless here.
    assert_eq!(local.get("/says").0, 503);
    local.write("says:after");
    local.until_ready(2);
    assert_eq!(local.get("/says"), (200, "after".into()));
    let waiting = |workers: Vec<faucet_core::ops::status::WorkerStatus>| {
        workers.iter().any(|worker| worker.next_try.is_some())
    };
    assert!(!waiting(local.status().workers));
}

#[test]
fn once_one_comes_up_the_others_need_not_wait_for_their_time() {
    let mut local = failing("", |_| {});
    local.write("fail:2 wait:go");
    let mut due = SystemTime::now();
    wait_until("the first one starts, and the other waits for long", || {
        let failed = local.in_state(State::Failed);
        let other = failed.iter().find(|worker| worker.worker == 2);
        due = other.and_then(|other| other.next_try).unwrap_or(due);
        let first = local.in_state(State::Starting);
        let starts = first.iter().any(|worker| worker.worker == 1);
        starts && other.is_some() && due > SystemTime::now() + Duration::from_secs(1)
    });
    local.write("");
    local.touch("go");
    local.until_ready(2);
    let other = &local.status().workers[1];
    assert!(
        other.started.is_some_and(|started| started < due),
        "{other:?}"
    );
    local.until_logged("is ready");
}

#[test]
fn readiness_says_that_workers_fail_and_when_they_are_tried_again() {
    let local = failing("", |_| {});
    let mut seen = Value::Null;
    wait_until("both wait for their next try", || {
        let (status, body) = health(&local, "readyz");
        assert_eq!((status, &body["serving"]), (503, &0.into()));
        seen = body;
        seen["failed"] == 2
    });
    assert!(seen["next_try"].is_string(), "{seen}");
    assert_eq!(health(&local, "livez").0, 200);
    local.write("");
    wait_until("it is ready again", || health(&local, "readyz").0 == 200);
    local.until_ready(2);
    assert_eq!(health(&local, "readyz").1["next_try"], Value::Null);
}

#[test]
fn metrics_tell_for_how_long_nothing_has_served() {
    let local = failing("", |settings| settings.admin_port = Some(0));
    let admin = local.server.admin_url().expect("a port");
    let metric = |series: &str| -> f64 {
        let (_, text) = get(&admin, "/metrics").expect("an answer");
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        let value = line.expect("a metric").trim();
        value.parse().expect("a number")
    };
    assert!(metric("faucet_unserved_seconds{pool=\"/\"} ") > 0.0);
    local.write("");
    local.until_ready(2);
    assert_eq!(metric("faucet_unserved_seconds{pool=\"/\"} "), 0.0);
}

#[test]
fn a_server_that_has_not_served_for_too_long_is_not_live_until_it_serves() {
    let local = failing("", |settings| {
        settings.local.give_up_after = Some(Duration::from_millis(1));
    });
    let (status, body) = health(&local, "livez");
    assert_eq!((status, &body["status"]), (503, &"given up".into()));
    assert!(body["unserved"].as_f64().is_some_and(|since| since > 0.0));
    local.write("");
    wait_until("it lives again", || health(&local, "livez").0 == 200);
}

#[test]
fn commands_end_while_every_worker_waits_for_its_next_try() {
    let mut local = failing("", |_| {});
    let failure = local
        .ask(Request::Reload(None))
        .expect_err("the code is bad");
    assert_eq!(failure.class, "reload");
    assert!(failure.lines.iter().any(|line| line == "last line"));
    let failure = local
        .ask(Request::Scale(None, WorkerRange::fixed(3)))
        .expect_err("it is still bad");
    assert_eq!(failure.class, "boot");
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("fewer are always had");
    assert_eq!(local.status().workers.len(), 1);
    local.stop().expect("stopped");

    let mut local = failing("", |_| {});
    local.write("says:well");
    local.ask(Request::Reload(None)).expect("a good reload");
    local.until_ready(2);
    assert_eq!(local.get("/says"), (200, "well".into()));
}

#[test]
fn commands_end_while_workers_start_that_never_will() {
    let mut local = failing("", |settings| {
        settings.local.boot_timeout = Duration::from_millis(500);
    });
    local.write("hang");
    let scale = local
        .server
        .ask(Request::Scale(None, WorkerRange::fixed(3)));
    let reload = local.server.ask(Request::Reload(None));
    assert!(local.result(reload).is_err());
    assert!(local.result(scale).is_err());
    wait_until("one starts", || !local.in_state(State::Starting).is_empty());
    let pids = local.pids(State::Starting);
    local.stop().expect("stopped");
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn a_template_comes_back_by_itself_too() {
    let mut local = failing("native says:before", |settings| {
        settings.local.preload = true;
    });
    local.until_logged("the template has failed to start 2 times in a row");
    wait_until("that shows", || {
        let template = local.status().template.expect("one is wanted");
        template.state == State::Failed && template.next_try.is_some()
    });
    local.write("native says:after");
    local.until_ready(2);
    assert_eq!(local.get("/says"), (200, "after".into()));
    wait_until("a template is ready", || {
        let template = local.status().template.expect("one is wanted");
        template.state == State::Ready && template.next_try.is_none()
    });
}
