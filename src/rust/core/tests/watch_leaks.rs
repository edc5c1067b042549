//! Nothing of a watch is left when its pool is gone. A program of its own: it counts what the process has.
#![cfg(target_os = "linux")]

mod common;

use std::fs;

use common::local::{wait_until, Local};
use common::PATIENCE;
use faucet_core::server::Request;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// Threads and descriptors of watches.
fn left() -> (usize, usize) {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let names = tasks
        .flatten()
        .map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let paths = open
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok());
    (
        names.filter(|name| name.trim() == "faucet-watch").count(),
        paths
            .filter(|path| path.to_str() == Some("anon_inode:inotify"))
            .count(),
    )
}

#[test]
fn nothing_of_a_watch_is_left() {
    let mut local = Local::ready(1, "says:old", |setup| setup.local.watch = true);
    wait_until("it watches", || left() == (1, 1));
    let only = local.status().pool.clone();
    local
        .ask(Request::RemovePool(only, Some(PATIENCE)))
        .expect("removed");
    wait_until("the pool's watch ends", || left() == (0, 0));
    let local = Local::ready(1, "says:old", |setup| setup.local.watch = true);
    wait_until("it watches", || left() == (1, 1));
    drop(local);
    wait_until("the server's watch ends", || left() == (0, 0));
}
