//! Worker processes that faucet itself serves in, on a Unix socket of their own.

mod common;

use std::path::PathBuf;

use common::local::{wait_until, Local};
use faucet_core::ops::status::{Kind, State};
use faucet_core::server::Request;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn kinds(local: &Local) -> Vec<Option<Kind>> {
    let workers = local.status().workers;
    workers.iter().map(|worker| worker.kind).collect()
}

/// The folder of the socket that a worker was told to listen on.
fn folder(local: &Local) -> PathBuf {
    let socket = PathBuf::from(local.get("/env:FAUCET_SOCKET").1);
    socket.parent().expect("a folder").to_owned()
}

#[test]
fn a_worker_is_what_it_begins_to_serve() {
    let local = Local::ready(2, "only:1 native", |_| {});
    assert_eq!(kinds(&local), [Some(Kind::Native), Some(Kind::Http)]);
    assert_eq!(local.get("/env:FAUCET_WORKER_TYPE").1, "auto");
    assert_eq!(local.get("/env:FAUCET_COMPILE").1, "true");
    for worker in local.status().workers {
        assert!(
            worker.boot.is_some_and(|boot| !boot.is_zero()),
            "{worker:?}"
        );
    }
}

#[test]
fn what_has_not_yet_begun_to_serve_is_of_no_kind() {
    let local = Local::start("wait:go native", |_| {});
    wait_until("it starts", || local.in_state(State::Starting).len() == 1);
    let starting = &local.status().workers[0];
    assert_eq!((starting.kind, starting.boot), (None, None));
    local.touch("go");
    local.until_ready(1);
    assert_eq!(kinds(&local), [Some(Kind::Native)]);
}

#[test]
fn a_native_worker_is_restarted_and_replaced_as_any_other() {
    let mut local = Local::ready(1, "native", |_| {});
    let first = local.get("/pid").1;
    assert_eq!(local.get("/die").0, 502);
    wait_until("another process serves", || {
        let (status, pid) = local.get("/pid");
        status == 200 && pid != first
    });
    local.write("native says:new");
    local.ask(Request::Reload(None)).expect("a good reload");
    assert_eq!(local.get("/says").1, "new");
    wait_until("the old one has left", || {
        kinds(&local) == [Some(Kind::Native)]
    });
}

#[test]
fn a_worker_that_is_set_aside_is_looked_for_where_it_serves() {
    let mut local = Local::ready(1, "native", |_| {});
    let pid = local.get("/pid").1;
    // A connection that breaks makes the front ask the pool.
    assert_eq!(local.get("/hang-up").0, 502);
    wait_until("it serves again", || local.get("/pid").0 == 200);
    assert_eq!(local.get("/pid").1, pid);
    local.stop().expect("stopped");
}

#[test]
fn a_worker_that_must_not_be_native_is_offered_no_socket() {
    let local = Local::ready(1, "", |settings| {
        settings.local.worker_type = Some(Kind::Http);
        settings.local.compile = false;
    });
    assert_eq!(local.get("/env:FAUCET_SOCKET").1, "");
    assert_eq!(local.get("/env:FAUCET_COMPILE").1, "false");
    assert_eq!(local.get("/env:FAUCET_WORKER_TYPE").1, "http");
    assert_eq!(kinds(&local), [Some(Kind::Http)]);
}

#[test]
fn a_worker_that_must_be_native_and_serves_tcp_is_a_failed_start_that_says_why() {
    let local = Local::start("", |settings| {
        settings.local.worker_type = Some(Kind::Native)
    });
    let failure = local.until_failed();
    assert_eq!(failure.class, "boot");
    assert!(
        failure.message.contains("worker_type = \"native\""),
        "{failure}"
    );
    wait_until("the server is gone", || !local.server.is_running());
}

#[test]
fn the_sockets_go_with_their_processes_and_the_folder_with_the_server() {
    let mut local = Local::ready(1, "native", |_| {});
    let folder = folder(&local);
    let first = local.get("/env:FAUCET_SOCKET").1;
    let pid: i32 = local.get("/pid").1.parse().expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
    wait_until("its socket is gone", || !PathBuf::from(&first).exists());
    local.until_ready(1);
    assert!(folder.exists());
    local.stop().expect("stopped");
    assert!(!folder.exists());

    let mut local = Local::ready(1, "native", |_| {});
    let folder = self::folder(&local);
    local.ask(Request::Kill).expect("killed");
    assert!(!folder.exists());
}
