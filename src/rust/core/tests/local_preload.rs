//! Workers that are forked from a template.

mod common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::local::{is_alive, wait_until, Local, Setup, BALLAST};
use faucet_core::ops::status::{Kind, State};
use faucet_core::server::Request;
use faucet_core::sources::local::WorkerRange;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn preload(settings: &mut Setup) {
    settings.local.preload = true;
}

/// The template that is ready.
fn template(local: &Local) -> u32 {
    let mut pid = None;
    wait_until("a template is ready", || {
        let template = local.status().template;
        pid = template
            .filter(|template| template.state == State::Ready)
            .and_then(|template| template.pid);
        pid.is_some()
    });
    pid.expect("just set")
}

fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let rest = stat.rsplit(") ").next().expect("fields");
    rest.split(' ')
        .nth(1)
        .and_then(|parent| parent.parse().ok())
        .expect("a pid")
}

/// Whether the system knows a pid, be it a zombie's.
fn exists(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

fn slay(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("killed");
}

/// Waits until other processes than those before are ready, and all of them.
fn others(local: &Local, before: &[u32]) -> Vec<u32> {
    let mut now = Vec::new();
    wait_until("other processes are ready", || {
        now = local.pids(State::Ready);
        now.len() == before.len() && now.iter().all(|pid| !before.contains(pid))
    });
    now
}

#[test]
fn workers_are_children_of_the_template_and_themselves_otherwise() {
    let mut local = Local::ready(2, "native says:hello", preload);
    let template = template(&local);
    let pids = local.pids(State::Ready);
    assert!(pids.iter().all(|pid| parent(*pid) == template), "{pids:?}");
    for worker in local.status().workers {
        assert_eq!(worker.kind, Some(Kind::Native));
        assert!(
            worker.boot.is_some_and(|boot| !boot.is_zero()),
            "{worker:?}"
        );
    }
    assert_eq!(local.get("/says").1, "hello");
    local.until_logged("the template is ready");
    // Its own group, and its own streams.
    let group = nix::unistd::getpgid(Some(Pid::from_raw(pids[0] as i32)));
    assert_eq!(group, Ok(Pid::from_raw(pids[0] as i32)));
    for worker in 1..=2 {
        local.until_logged(&format!("[worker {worker}] I am {worker}"));
    }
}

#[test]
fn how_a_forked_worker_ended_is_known_and_its_successor_is_forked() {
    let mut local = Local::ready(1, "native", preload);
    let template = template(&local);
    let first = local.pids(State::Ready);
    assert_eq!(local.get("/die").0, 502);
    let second = others(&local, &first);
    local.until_logged("exited with status 9");
    slay(second[0]);
    let third = others(&local, &second);
    local.until_logged("was killed by signal 9");
    assert_eq!(parent(third[0]), template);
    assert_eq!(local.status().workers[0].restarts, 2);
    // Reaped: not even a zombie is left.
    assert!(!exists(first[0]) && !exists(second[0]));
}

#[test]
fn new_workers_are_forked_and_old_ones_leave() {
    let mut local = Local::ready(1, "native", preload);
    local
        .ask(Request::Scale(None, WorkerRange::fixed(3)))
        .expect("three workers");
    let template = template(&local);
    let pids = local.pids(State::Ready);
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| parent(*pid) == template));
    local
        .ask(Request::Scale(None, WorkerRange::fixed(1)))
        .expect("one worker");
    wait_until("two have left", || {
        pids.iter().filter(|pid| is_alive(**pid)).count() == 1
    });
    assert_eq!(local.get("/pid").0, 200);
}

#[test]
fn workers_do_not_mind_the_templates_death_and_a_new_one_comes() {
    let mut local = Local::ready(2, "native", preload);
    let (first, pids) = (template(&local), local.pids(State::Ready));
    slay(first);
    local.until_logged("its workers go on");
    wait_until("another template is ready", || template(&local) != first);
    assert_eq!(local.pids(State::Ready), pids);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    // The end of one whose template is gone is seen, too.
    slay(pids[0]);
    wait_until("its successor is ready", || {
        let now = local.pids(State::Ready);
        now.len() == 2 && !now.contains(&pids[0])
    });
    let new = local.pids(State::Ready)[0];
    assert_eq!(parent(new), template(&local));
    local.stop().expect("stopped");
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn without_a_template_workers_start_as_ordinary_processes() {
    let mut local = Local::ready(1, "native", preload);
    local.write("native only:0 fail");
    slay(template(&local));
    local.until_logged("The template exited with status 7");
    let before = local.pids(State::Ready);
    slay(before[0]);
    let now = others(&local, &before);
    assert_eq!(parent(now[0]), std::process::id());
    local.write("native");
    assert!(is_alive(template(&local)), "it has come back");
}

#[test]
fn a_template_that_fails_again_and_again_is_tried_anew_by_a_reload() {
    let mut local = Local::ready(1, "native", |settings| {
        preload(settings);
        settings.local.max_failures = 2;
    });
    local.write("native only:0 fail");
    slay(template(&local));
    local.until_logged("the template has failed to start 2 times in a row");
    wait_until("that shows", || {
        let state = local.status().template.map(|template| template.state);
        state == Some(State::Failed)
    });
    assert!(
        local.ask(Request::Reload(None)).is_err(),
        "the code is still bad"
    );
    local.write("native");
    local.ask(Request::Reload(None)).expect("a good reload");
    local.until_ready(1);
    assert_eq!(parent(local.pids(State::Ready)[0]), template(&local));
}

#[test]
fn a_template_that_does_not_come_up_fails_the_start_with_its_last_lines() {
    let local = Local::start("native fail", preload);
    let failure = local.until_failed();
    assert_eq!(failure.class, "boot");
    assert!(
        failure.message.contains("exited with status 7"),
        "{failure}"
    );
    assert!(
        failure.lines.iter().any(|line| line == "last line"),
        "{failure:?}"
    );
    wait_until("the server is gone", || !local.server.is_running());
}

#[test]
fn a_template_that_takes_too_long_fails_the_start() {
    let local = Local::start("hang", |settings| {
        preload(settings);
        settings.local.boot_timeout = Duration::from_millis(300);
    });
    let failure = local.until_failed();
    assert!(failure.message.contains("boot_timeout"), "{failure}");
    wait_until("the server is gone", || !local.server.is_running());
}

#[test]
fn workers_are_shown_while_the_template_loads_and_a_stop_then_is_quick() {
    let mut local = Local::start("hang", |settings| {
        preload(settings);
        settings.local.workers = WorkerRange::fixed(2);
    });
    wait_until("both are shown", || {
        local.in_state(State::Starting).len() == 2
    });
    let template = local.status().template.expect("a template");
    assert_eq!(template.state, State::Starting);
    local.stop().expect("stopped");
    assert!(!is_alive(template.pid.expect("a process")));
}

#[test]
fn an_app_that_cannot_be_preloaded_is_served_without() {
    for code in ["", "template:serves"] {
        let mut local = Local::ready(2, code, preload);
        local.until_logged("cannot be preloaded");
        let pids = local.pids(State::Ready);
        assert!(pids.iter().all(|pid| parent(*pid) == std::process::id()));
        assert_eq!(local.status().template, None);
        // After a reload it may be another matter.
        local.write("native");
        local.ask(Request::Reload(None)).expect("a good reload");
        local.until_ready(2);
        let template = template(&local);
        let pids = local.pids(State::Ready);
        assert!(pids.iter().all(|pid| parent(*pid) == template));
    }
}

#[test]
fn an_app_that_must_be_native_and_cannot_be_preloaded_fails_the_start() {
    let local = Local::start("", |settings| {
        preload(settings);
        settings.local.worker_type = Some(Kind::Native);
    });
    let failure = local.until_failed();
    assert!(
        failure.message.contains("it is of another time"),
        "{failure}"
    );
}

#[test]
fn workers_that_must_not_be_native_are_not_forked() {
    let mut local = Local::ready(1, "", |settings| {
        preload(settings);
        settings.local.worker_type = Some(Kind::Http);
    });
    local.until_logged("`preload` is for native workers");
    assert_eq!(local.status().template, None);
}

#[test]
fn a_reload_forks_from_a_new_template() {
    let mut local = Local::ready(2, "native says:old", preload);
    let (old, before) = (template(&local), local.pids(State::Ready));
    local.write("native says:new");
    local.ask(Request::Reload(None)).expect("a good reload");
    let (new, pids) = (template(&local), others(&local, &before));
    assert_ne!(old, new);
    assert!(pids.iter().all(|pid| parent(*pid) == new));
    assert_eq!(local.get("/says").1, "new");
    wait_until("the old template has gone with its children", || {
        !is_alive(old)
    });
    assert!(!exists(before[0]), "reaped");
}

#[test]
fn a_reload_whose_template_fails_changes_nothing() {
    let mut local = Local::ready(2, "native says:old", preload);
    let (old, before) = (template(&local), local.pids(State::Ready));
    local.write("native fail");
    let failure = local.ask(Request::Reload(None)).expect_err("bad code");
    assert_eq!(failure.class, "reload");
    assert!(failure.lines.iter().any(|line| line == "last line"));
    assert_eq!(
        (template(&local), local.pids(State::Ready)),
        (old, before.clone())
    );
    // A worker that dies now comes back with the code that works.
    slay(before[0]);
    wait_until("it is back", || {
        let now = local.pids(State::Ready);
        now.len() == 2 && !now.contains(&before[0])
    });
    assert_eq!(parent(local.pids(State::Ready)[0]), old);
    assert_eq!(local.get("/says").1, "old");
}

#[test]
fn a_template_that_refuses_dies_or_is_mute_holds_nobody_up() {
    for (manner, what) in [
        ("refuses", "no room"),
        ("dies", "the template has ended"),
        ("mute", "did not answer"),
    ] {
        let mut local = Local::ready(2, &format!("native template:{manner}"), preload);
        local.until_logged(what);
        let pids = local.pids(State::Ready);
        let ordinary = |pid: &u32| parent(*pid) == std::process::id();
        assert!(pids.iter().all(ordinary), "{manner}: {pids:?}");
        assert_eq!(local.get("/pid").0, 200);
        local.stop().expect("stopped");
    }
}

#[test]
fn memory_that_a_worker_shares_does_not_count() {
    let local = Local::ready(2, "native ballast", |settings| {
        preload(settings);
        settings.local.max_memory = Some(BALLAST as u64 / 2);
    });
    let before = local.pids(State::Ready);
    assert_eq!(local.get("/grow").0, 200);
    // The same look sees both.
    wait_until("the one that has grown is replaced", || {
        let restarts: u32 = local
            .status()
            .workers
            .iter()
            .map(|worker| worker.restarts)
            .sum();
        restarts > 0
    });
    local.until_ready(2);
    let now = local.pids(State::Ready);
    assert_eq!(now.iter().filter(|pid| before.contains(pid)).count(), 1);
}

#[test]
fn a_kill_and_a_drop_leave_no_template() {
    let mut local = Local::ready(2, "native", preload);
    let all = [vec![template(&local)], local.pids(State::Ready)].concat();
    local.ask(Request::Kill).expect("killed");
    assert!(all.iter().all(|pid| !is_alive(*pid)));

    let local = Local::ready(2, "native", preload);
    let all = [vec![template(&local)], local.pids(State::Ready)].concat();
    drop(local);
    wait_until("they are gone", || all.iter().all(|pid| !is_alive(*pid)));
}

const FRONT: &str = "FAUCET_TEST_FRONT";

/// A server in a process of its own, for the test that follows; in the tests' own run it does nothing.
#[test]
fn a_front() {
    let Some(file) = std::env::var_os(FRONT) else {
        return;
    };
    let local = Local::ready(2, "native", preload);
    let all = [vec![template(&local)], local.pids(State::Ready)].concat();
    let pids: Vec<String> = all.iter().map(u32::to_string).collect();
    let new = std::path::Path::new(&file).with_extension("new");
    fs::write(&new, pids.join(" ")).expect("written");
    fs::rename(new, file).expect("renamed");
    loop {
        std::thread::sleep(common::PATIENCE);
    }
}

#[test]
fn nothing_outlives_a_front_that_was_killed() {
    if std::env::var_os(FRONT).is_some() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("pids");
    let exe = std::env::current_exe().expect("a path");
    let mut front = Command::new(exe)
        .args(["a_front", "--exact", "--nocapture"])
        .env(FRONT, &file)
        .env("TMPDIR", dir.path())
        .spawn()
        .expect("a process");
    wait_until("it has workers", || file.exists());
    let pids: Vec<u32> = fs::read_to_string(&file)
        .expect("read")
        .split(' ')
        .map(|pid| pid.parse().expect("a pid"))
        .collect();
    assert!(pids.len() == 3 && pids.iter().all(|pid| is_alive(*pid)));
    front.kill().expect("killed");
    front.wait().expect("reaped");
    wait_until("all are gone", || pids.iter().all(|pid| !is_alive(*pid)));
}
