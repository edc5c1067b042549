//! Reloads: one worker after the other, and never at the cost of those that serve.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::local::{get, wait_until, Local};
use common::PATIENCE;
use faucet_core::ops::status::State;
use faucet_core::server::Request;
use faucet_core::sources::local::WorkerRange;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

#[test]
fn a_reload_rolls_one_by_one_and_never_has_fewer_ready() {
    let mut local = Local::ready(3, "says:old", |_| {});
    let before = local.pids(State::Ready);
    let (url, done) = (local.server.url().expect("a port"), AtomicBool::new(false));
    local.write("says:new");
    std::thread::scope(|threads| {
        let client = threads.spawn(|| {
            let mut answers = Vec::new();
            while !done.load(Ordering::Relaxed) {
                answers.push(get(&url, "/says").expect("an answer"));
            }
            answers
        });
        let id = local.server.ask(Request::Reload(None));
        let mut result = None;
        wait_until("the reload is complete", || {
            let serving = local.status().serving();
            assert!(serving >= 3, "{serving} serve");
            assert!(
                local.in_state(State::Starting).len() <= 1,
                "more than one at a time"
            );
            result = local.server.result(id);
            result.is_some()
        });
        result.expect("a result").expect("a good reload");
        done.store(true, Ordering::Relaxed);
        let answers = client.join().expect("a client");
        assert!(
            answers.iter().all(|(status, _)| *status == 200),
            "a request was lost"
        );
    });
    local.until_ready(3);
    assert!(local
        .pids(State::Ready)
        .iter()
        .all(|pid| !before.contains(pid)));
    assert_eq!(local.get("/says").1, "new");
}

#[test]
fn a_reload_that_fails_keeps_the_old_processes() {
    let mut local = Local::ready(2, "says:old", |_| {});
    let before = local.pids(State::Ready);
    local.write("fail");
    let failure = local
        .ask(Request::Reload(None))
        .expect_err("the code is bad");
    assert!(
        failure.lines.iter().any(|line| line == "last line"),
        "{:?}",
        failure.lines
    );
    local.until_ready(2);
    assert_eq!(local.pids(State::Ready), before);
    assert_eq!(local.get("/says").1, "old");
}

#[test]
fn a_reload_that_cannot_start_a_process_says_so() {
    let mut local = Local::ready(1, "says:old", |_| {});
    let dir = local.dir.path().to_owned();
    let aside = dir.with_extension("aside");
    std::fs::rename(&dir, &aside).expect("renamed");
    let failure = local
        .ask(Request::Reload(None))
        .expect_err("there is no directory");
    std::fs::rename(&aside, &dir).expect("renamed");
    assert!(
        failure.message.contains("could not be started"),
        "{failure}"
    );
    assert_eq!(local.get("/says").1, "old");
}

#[test]
fn a_second_reload_is_refused_while_the_first_is_under_way() {
    let mut local = Local::ready(1, "", |_| {});
    local.write("wait:go");
    let first = local.server.ask(Request::Reload(None));
    assert!(local.ask(Request::Reload(None)).is_err());
    local.touch("go");
    local.result(first).expect("a good reload");
    local.ask(Request::Reload(None)).expect("and another");
}

#[test]
fn a_reload_goes_on_when_its_worker_is_scaled_away() {
    let mut local = Local::ready(4, "", |_| {});
    local.write("says:new only:2 hang");
    let reload = local.server.ask(Request::Reload(None));
    wait_until("the second replacement starts", || {
        let starting = local.in_state(State::Starting);
        starting.iter().any(|worker| worker.worker == 2)
    });
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("scaled");
    local.result(reload).expect("nothing was left to replace");
    local.until_ready(1);
    assert_eq!(local.get("/says").1, "new");
    local.write("says:later");
    local.ask(Request::Reload(None)).expect("another reload");
    assert_eq!(local.get("/says").1, "later");
}

#[test]
fn someone_who_waits_for_a_new_worker_waits_for_its_replacement() {
    let mut local = Local::ready(1, "", |_| {});
    local.write("wait:go");
    let scale = local
        .server
        .ask(Request::Scale(None, WorkerRange::fixed(2)));
    wait_until("the second one starts", || {
        local.in_state(State::Starting).len() == 1
    });
    // The reload ends the one that starts, as it may have read the old code.
    let reload = local.server.ask(Request::Reload(None));
    local.touch("go");
    local.result(reload).expect("a good reload");
    local.result(scale).expect("two workers");
    local.until_ready(2);
}

#[test]
fn a_worker_that_is_stuck_while_its_replacement_starts_gets_no_second_one() {
    let mut local = Local::ready(1, "", |settings| {
        settings.pool.timeout = Some(std::time::Duration::from_millis(300));
    });
    local.write("wait:go");
    let url = local.server.url().expect("a port");
    let client = std::thread::spawn(move || get(&url, "/never").expect("an answer"));
    wait_until("the request is there", || local.exists("reached"));
    let reload = local.server.ask(Request::Reload(None));
    wait_until("the replacement starts", || {
        local.in_state(State::Starting).len() == 1
    });
    assert_eq!(client.join().expect("a client").0, 504);
    wait_until("the stuck one is gone", || {
        local.in_state(State::Stopping).is_empty()
    });
    assert_eq!(
        local.in_state(State::Starting).len(),
        1,
        "{:?}",
        local.status()
    );
    local.touch("go");
    local.result(reload).expect("a good reload");
    local.until_ready(1);
}

#[test]
fn a_replacement_that_fails_after_its_predecessor_died_is_started_again() {
    let mut local = Local::ready(1, "", |_| {});
    local.write("wait:go fail");
    let reload = local.server.ask(Request::Reload(None));
    wait_until("the replacement starts", || {
        local.in_state(State::Starting).len() == 1
    });
    local.get("/die");
    wait_until("the old one is gone", || {
        local.in_state(State::Ready).is_empty()
    });
    local.touch("go");
    assert!(local.result(reload).is_err());
    local.write("");
    local.until_ready(1);
}

#[test]
fn a_reload_during_the_first_start_leads_to_the_new_code() {
    let mut local = Local::start("hang", |settings| {
        settings.local.workers = WorkerRange::fixed(2)
    });
    wait_until("both start", || local.in_state(State::Starting).len() == 2);
    local.write("says:new");
    local.ask(Request::Reload(None)).expect("a good reload");
    local.until_ready(2);
    assert_eq!(local.get("/says").1, "new");
}

#[test]
fn a_reload_that_a_stop_cuts_short_is_told_so() {
    let mut local = Local::ready(1, "", |_| {});
    local.write("hang");
    let reload = local.server.ask(Request::Reload(None));
    wait_until("the replacement starts", || {
        local.in_state(State::Starting).len() == 1
    });
    let stop = local.server.ask(Request::Stop(Some(PATIENCE)));
    assert_eq!(
        local.result(reload).expect_err("cut short").class,
        "stopped"
    );
    local.result(stop).expect("stopped");
    assert!(!local.server.is_running());
}

#[test]
fn a_reload_that_a_kill_cuts_short_is_told_so() {
    let mut local = Local::ready(1, "", |_| {});
    local.write("hang");
    let reload = local.server.ask(Request::Reload(None));
    wait_until("the replacement starts", || {
        local.in_state(State::Starting).len() == 1
    });
    local.ask(Request::Kill).expect("killed");
    assert!(!local.server.is_running());
    assert_eq!(
        local.result(reload).expect_err("cut short").class,
        "stopped"
    );
}
