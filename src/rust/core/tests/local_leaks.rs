//! A server that has ended leaves nothing in its process. Alone in its file: it counts what the process has.
#![cfg(target_os = "linux")]

mod common;

use common::local::{wait_until, Local};
use faucet_core::server::Request;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .expect("proc")
        .count()
}

#[test]
fn servers_come_and_go_without_a_trace() {
    if std::env::var_os("FAUCET_TEST_WORKER").is_some() {
        return;
    }
    let cycle = |preload: bool, end: &dyn Fn(&mut Local)| {
        let code = if preload { "native" } else { "" };
        let mut local = Local::ready(2, code, |settings| settings.local.preload = preload);
        assert_eq!(local.get("/pid").0, 200);
        local.get("/die");
        local.until_ready(2);
        end(&mut local);
    };
    cycle(true, &|local| local.stop().expect("stopped"));
    let (threads, files) = (count("task"), count("fd"));
    for _ in 0..4 {
        for preload in [false, true] {
            cycle(preload, &|local| local.stop().expect("stopped"));
            cycle(preload, &|local| local.ask(Request::Kill).expect("killed"));
            cycle(preload, &|local| {
                local.write("hang");
                local.server.ask(Request::Reload(None));
            });
        }
    }
    wait_until("all threads have ended", || count("task") <= threads);
    wait_until("all files are closed", || count("fd") <= files);
}
