//! What workers get of the process that starts them, and what they leave behind.

mod common;

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use common::local::{is_alive, wait_until, Local};
use faucet_core::ops::status::{Kind, State};
use faucet_core::server::Request;
use faucet_core::sources::local::WorkerRange;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn slay(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("killed");
}

/// What a process has open.
fn open_files(pid: u32) -> Vec<PathBuf> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .collect()
}

fn temporary(local: &Local) -> PathBuf {
    let path = PathBuf::from(local.get("/env:TMPDIR").1);
    assert!(path.is_dir(), "{path:?}");
    path
}

fn template(local: &Local) -> u32 {
    let template = local.status().template.expect("a template");
    template.pid.expect("a process")
}

#[test]
fn what_the_session_has_open_reaches_no_worker() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("open");
    let file = fs::File::create(&path).expect("a file");
    // As R opens files: without close-on-exec.
    let leak = nix::unistd::dup(&file).expect("another descriptor");
    assert!(leak.as_raw_fd() > 2);
    for preload in [false, true] {
        let local = Local::ready(2, "native", |settings| settings.local.preload = preload);
        let mut pids = local.pids(State::Ready);
        if preload {
            pids.push(template(&local));
        }
        for pid in pids {
            let files = open_files(pid);
            assert!(!files.is_empty() && !files.contains(&path), "{files:?}");
        }
    }
}

#[test]
fn the_temporary_files_of_a_worker_that_is_killed_go_with_it() {
    for kind in [None, Some(Kind::Http)] {
        let mut local = Local::ready(1, "", |settings| settings.local.worker_type = kind);
        let first = temporary(&local);
        fs::create_dir_all(first.join("RtmpAbCdEf/deep")).expect("made");
        fs::write(first.join("library"), "").expect("written");
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("kept"), "").expect("written");
        std::os::unix::fs::symlink(outside.path(), first.join("link")).expect("linked");
        slay(local.pids(State::Ready)[0]);
        wait_until("its files are gone", || !first.exists());
        assert!(outside.path().join("kept").exists());
        local.until_ready(1);
        let second = temporary(&local);
        assert_ne!(first, second);
        local.stop().expect("stopped");
        assert!(!second.exists());
        let all = first.parent().expect("a folder").to_owned();
        wait_until("nothing is left", || !all.exists());
    }
}

#[test]
fn what_forked_workers_share_stays_until_the_last_of_them_is_gone() {
    let local = Local::ready(2, "native", |settings| settings.local.preload = true);
    let (first, workers) = (template(&local), local.pids(State::Ready));
    let told = std::fs::read(format!("/proc/{first}/environ")).expect("it runs");
    let told = String::from_utf8_lossy(&told).into_owned();
    let mut told = told.split('\0');
    let shared = told.find_map(|told| told.strip_prefix("TMPDIR="));
    let shared = std::path::PathBuf::from(shared.expect("a folder of its own"));
    slay(first);
    wait_until("another template is ready", || {
        let template = local.status().template.expect("a template");
        template.state == State::Ready && template.pid != Some(first)
    });
    assert!(shared.exists());
    slay(workers[0]);
    wait_until("it is gone", || {
        !local.pids(State::Ready).contains(&workers[0])
    });
    assert!(shared.exists());
    slay(workers[1]);
    wait_until("the files of the template are gone", || !shared.exists());
}

#[test]
fn workers_come_again_though_the_folders_were_removed() {
    for preload in [false, true] {
        let mut local = Local::ready(1, "native says:well", |settings| {
            settings.local.preload = preload;
        });
        let parent = |path: &Path| path.parent().expect("a folder").to_owned();
        let socket = PathBuf::from(local.get("/env:FAUCET_SOCKET").1);
        for folder in [parent(&temporary(&local)), parent(&socket)] {
            fs::remove_dir_all(folder).expect("removed");
        }
        slay(local.pids(State::Ready)[0]);
        wait_until("another one serves", || {
            local.get("/says") == (200, "well".into())
        });
        local.ask(Request::Reload(None)).expect("a good reload");
        local
            .ask(Request::Scale(None, WorkerRange::fixed(2)))
            .expect("two");
        local.until_ready(2);
        local.stop().expect("stopped");
    }
}

#[test]
fn a_directory_that_was_removed_is_named_and_needed_no_longer_when_it_is_back() {
    let mut local = Local::ready(1, "", |settings| settings.local.max_failures = 2);
    let dir = local.dir.path().to_owned();
    let aside = dir.with_extension("aside");
    fs::rename(&dir, &aside).expect("moved");
    slay(local.pids(State::Ready)[0]);
    local.until_logged(&dir.display().to_string());
    let failure = local
        .ask(Request::Reload(None))
        .expect_err("nothing to run");
    assert!(failure.message.contains("is gone"), "{failure}");
    let failure = local
        .ask(Request::Scale(None, WorkerRange::fixed(2)))
        .expect_err("nothing to run");
    assert!(failure.message.contains("is gone"), "{failure}");
    fs::rename(&aside, &dir).expect("moved back");
    local.until_ready(2);
    local.stop().expect("stopped");
}

#[test]
fn a_worker_that_removes_its_socket_is_replaced() {
    let local = Local::ready(1, "native", |_| {});
    let before = local.pids(State::Ready);
    let socket = local.get("/env:FAUCET_SOCKET").1;
    fs::remove_file(socket).expect("removed");
    // What takes its connection, too.
    local.get("/hang-up");
    wait_until("another one serves", || {
        local.get("/pid").0 == 200 && local.pids(State::Ready) != before
    });
    assert!(!is_alive(before[0]));
}
