//! Worker processes that die, hang, or never come up.

mod common;

use std::time::{Duration, Instant};

use common::local::{is_alive, wait_until, Local, BALLAST};
use faucet_core::ops::status::State;
use faucet_core::server::Request;
use faucet_core::sources::local::WorkerRange;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

#[test]
fn a_worker_that_dies_is_back_at_once_and_its_client_hears_502() {
    let local = Local::ready(1, "", |_| {});
    let before = local.pids(State::Ready);
    let start = Instant::now();
    assert_eq!(local.get("/die").0, 502);
    wait_until("another process is ready", || {
        let now = local.pids(State::Ready);
        now.len() == 1 && now != before
    });
    // The first pause of the back-off would be longer.
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(local.status().workers[0].restarts, 1);
}

#[test]
fn a_worker_that_dies_again_and_again_waits_longer_each_time() {
    let local = Local::ready(1, "", |_| {});
    let mut absent = Vec::new();
    for _ in 0..3 {
        let before = local.get("/pid").1;
        local.get("/die");
        let start = Instant::now();
        wait_until("another process serves", || {
            let now = local.pids(State::Ready);
            now.len() == 1 && now[0].to_string() != before
        });
        absent.push(start.elapsed());
    }
    // The pauses: none, then 250 and 500 ms, shortened by a quarter at most.
    assert!(absent[1] > Duration::from_millis(180), "{absent:?}");
    assert!(absent[2] > Duration::from_millis(370), "{absent:?}");
}

#[test]
fn if_no_worker_comes_up_the_failure_shows_its_last_lines() {
    let mut local = Local::start("fail", |settings| {
        settings.local.workers = WorkerRange::fixed(2)
    });
    let failure = local.until_failed();
    assert_eq!(failure.class, "boot");
    assert!(
        failure.message.contains("exited with status 7"),
        "{failure}"
    );
    for line in ["first line", "last line"] {
        assert!(
            failure.lines.iter().any(|kept| kept == line),
            "{:?}",
            failure.lines
        );
    }
    wait_until("the server is gone", || !local.server.is_running());
    assert_eq!(local.stop().err().map(|failure| failure.message), None);
}

#[test]
fn what_all_first_workers_say_that_fail_is_logged_once_and_what_another_one_says_too() {
    let count = |local: &mut Local, part: &str| {
        local.take_lines();
        let lines = local.lines.iter();
        lines.filter(|line| line.contains(part)).count()
    };
    let mut local = Local::start("fail", |settings| {
        settings.local.workers = WorkerRange::fixed(4)
    });
    let failure = local.until_failed();
    assert!(failure.message.starts_with("Worker 1 "), "{failure}");
    assert_eq!(count(&mut local, "[worker 1] last line"), 1);
    assert_eq!(count(&mut local, "last line"), 1);

    let mut local = Local::start("fail:2 wait:go hang", |settings| {
        settings.local.workers = WorkerRange::fixed(2);
        settings.local.boot_timeout = Duration::from_secs(2);
    });
    local.until_failed();
    assert_eq!(count(&mut local, "[worker 2] last line"), 1);
}

#[test]
fn what_the_other_first_workers_say_is_logged_once_one_of_them_serves() {
    let mut local = Local::start("fail-once:2 only:1 wait:go", |settings| {
        settings.local.workers = WorkerRange::fixed(2);
    });
    local.touch("go");
    local.until_logged("[worker 2] last line");
}

#[test]
fn a_command_that_cannot_be_run_fails_the_start() {
    let local = Local::start("", |settings| {
        settings.local.workers = WorkerRange::fixed(3);
        settings.local.command = vec!["/nowhere/to/be/found".into()];
    });
    let failure = local.until_failed();
    assert_eq!(failure.class, "boot");
    assert!(
        failure.message.contains("could not be started"),
        "{failure}"
    );
    wait_until("the server is gone", || !local.server.is_running());
}

#[test]
fn a_worker_that_does_not_listen_in_time_is_killed() {
    let local = Local::start("hang", |settings| {
        settings.local.boot_timeout = Duration::from_millis(300);
    });
    let mut pids = Vec::new();
    wait_until("a process", || {
        pids = local.pids(State::Starting);
        !pids.is_empty()
    });
    let failure = local.until_failed();
    assert!(failure.message.contains("boot_timeout"), "{failure}");
    wait_until("the process is gone", || !is_alive(pids[0]));
}

/// Found out before `boot_timeout`, which is long here.
#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_listens_elsewhere_is_told_of_and_given_up_with_its_port() {
    let mut local = Local::start("listen hang", |settings| {
        settings.local.boot_timeout = Duration::from_secs(3600);
    });
    local.until_logged("worker 1 listens on 127.0.0.1:");
    let failure = local.until_failed();
    let port = local.read("listens");
    for part in [
        format!("listens on 127.0.0.1:{port}"),
        "as.integer(Sys.getenv(\"FAUCET_PORT\"))".to_owned(),
    ] {
        assert!(failure.message.contains(&part), "{failure}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn where_a_worker_listens_is_told_at_the_boot_timeout_at_the_latest() {
    let local = Local::start("listen hang", |settings| {
        settings.local.boot_timeout = Duration::from_secs(1);
    });
    let failure = local.until_failed();
    let port = local.read("listens");
    assert!(failure.message.contains(&format!(":{port},")), "{failure}");
}

#[test]
fn a_worker_may_listen_elsewhere_before_it_serves() {
    let mut local = Local::start("listen wait:go", |_| {});
    if cfg!(target_os = "linux") {
        local.until_logged("and not yet on FAUCET_PORT");
    } else {
        wait_until("it listens", || local.exists("listens"));
    }
    local.touch("go");
    local.until_ready(1);
    assert_eq!(local.get("/pid").0, 200);
}

#[test]
fn a_first_start_that_fails_is_tried_again_when_others_came_up() {
    let mut local = Local::start("fail-once:1", |settings| {
        settings.local.workers = WorkerRange::fixed(2)
    });
    local.until_ready(2);
    local.until_logged("exited with status 7");
}

#[test]
fn workers_that_fail_again_and_again_are_tried_anew_by_a_reload() {
    let mut local = Local::ready(2, "", |settings| settings.local.max_failures = 2);
    local.write("fail");
    local.get("/die");
    local.get("/die");
    wait_until("both have failed", || {
        local.in_state(State::Failed).len() == 2
    });
    // At once: the queue's patience is endless here.
    wait_until("requests are refused", || local.get("/says").0 == 503);

    assert!(
        local.ask(Request::Reload(None)).is_err(),
        "the code is still bad"
    );
    wait_until("they have failed again", || {
        local.in_state(State::Failed).len() == 2
    });
    local.write("says:well");
    local.ask(Request::Reload(None)).expect("a good reload");
    local.until_ready(2);
    assert_eq!(local.get("/says"), (200, "well".into()));
}

#[test]
fn a_worker_past_its_deadline_is_replaced_by_one() {
    let local = Local::ready(1, "", |settings| {
        settings.pool.timeout = Some(Duration::from_millis(200));
    });
    let before = local.pids(State::Ready);
    assert_eq!(local.get("/never").0, 504);
    wait_until("another process is ready", || {
        let now = local.pids(State::Ready);
        now.len() == 1 && now != before
    });
    local.until_ready(1);
    assert_eq!(local.get("/pid").0, 200);
}

#[test]
fn a_worker_is_recycled_when_it_has_served_enough() {
    let local = Local::ready(1, "", |settings| settings.local.max_requests = Some(3));
    let mut seen = std::collections::BTreeSet::new();
    wait_until("three processes have served", || {
        let (status, pid) = local.get("/pid");
        assert_eq!(status, 200, "a request was lost");
        seen.insert(pid);
        seen.len() == 3
    });
    local.until_ready(1);
}

#[test]
fn a_recycling_that_fails_keeps_the_old_process_and_is_tried_again_but_not_at_once() {
    let mut local = Local::ready(1, "", |settings| settings.local.max_requests = Some(1));
    local.write("fail");
    let before = local.get("/pid").1;
    let failures = |local: &mut Local| {
        let (lines, _) = local.server.take_lines();
        let stays = "the old process stays";
        lines
            .iter()
            .filter(|line| line.text.contains(stays))
            .count()
    };
    let (mut seen, mut first) = (0, None);
    wait_until("three recyclings have failed", || {
        assert_eq!(local.get("/pid"), (200, before.clone()));
        seen += failures(&mut local);
        if seen > 0 {
            first.get_or_insert_with(Instant::now);
        }
        seen >= 3
    });
    let between = first.map(|first| first.elapsed()).unwrap_or_default();
    // The pauses of 250 and 500 ms, shortened by a quarter at most.
    assert!(between > Duration::from_millis(500), "{between:?}");
    local.write("");
    wait_until("it was replaced after all", || {
        let (status, pid) = local.get("/pid");
        assert_eq!(status, 200, "a request was lost");
        pid != before
    });
}

#[test]
fn a_worker_that_needs_too_much_memory_is_recycled() {
    let local = Local::ready(1, "", |settings| settings.local.max_memory = Some(1));
    let before = local.get("/pid").1;
    wait_until("it was replaced", || {
        let (status, pid) = local.get("/pid");
        assert_eq!(status, 200, "a request was lost");
        pid != before
    });
}

#[test]
fn a_limit_of_memory_below_what_a_worker_needs_recycles_ever_more_rarely_and_warns_once() {
    let mut local = Local::ready(1, "ballast", |settings| {
        settings.local.max_memory = Some(BALLAST as u64 / 2);
    });
    let pauses = |local: &Local| -> Vec<f64> {
        let lines = local.lines.iter();
        let told = lines.filter_map(|line| line.split_once("from the start: it is recycled in "));
        told.filter_map(|(_, pause)| pause.trim_end_matches(" s").parse().ok())
            .collect()
    };
    let mut seen = Vec::new();
    wait_until("it was recycled twice", || {
        local.take_lines();
        seen = pauses(&local);
        seen.len() == 3
    });
    assert!(seen[0] < seen[1] && seen[1] < seen[2], "{seen:?}");
    let warnings = local.lines.iter();
    let warnings: Vec<_> = warnings
        .filter(|line| line.contains("`max_memory`"))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("(32 MB) is less than"), "{warnings:?}");
    // One that grows on is replaced all the same.
    let before = local.get("/pid").1;
    while local.get("/pid").1 == before {
        local.get("/grow");
    }
}
