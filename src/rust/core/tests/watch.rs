//! `watch`: a change of an app's files leads to a reload, and nothing that is in them ends what serves.

mod common;

use std::fs;

use common::local::{wait_until, Local};
use faucet_core::ops::status::State;
use faucet_core::server::Request;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// A server that watches. The workers' code is in a file whose name is that of no code: what is changed for the watch to see
/// is `app.R`.
fn watched(workers: u32, code: &str) -> Local {
    let local = Local::ready(workers, code, |setup| setup.local.watch = true);
    begun(local)
}

/// Waits until the watch has begun.
fn begun(mut local: Local) -> Local {
    wait_until("the watch begins", || {
        let before = local.pids(State::Ready);
        change(&local);
        std::thread::sleep(std::time::Duration::from_millis(400));
        local.take_lines();
        let begun = local
            .lines
            .iter()
            .any(|line| line.contains("app.R has changed"));
        if begun {
            wait_until("the reload is complete", || {
                local.take_lines();
                local
                    .lines
                    .iter()
                    .any(|line| line.contains("reload is complete"))
            });
            assert!(before
                .iter()
                .all(|pid| !local.pids(State::Ready).contains(pid)));
        }
        begun
    });
    // Changes before it had begun may have led to more than one.
    wait_until("it is quiet", || {
        local.lines.clear();
        std::thread::sleep(std::time::Duration::from_millis(600));
        local.take_lines();
        local.lines.is_empty()
    });
    local
}

/// As an editor does.
fn change(local: &Local) {
    let new = local.dir.path().join("app.R.new");
    fs::write(&new, "new").expect("written");
    fs::rename(new, local.dir.path().join("app.R")).expect("renamed");
}

fn count(local: &Local, part: &str) -> usize {
    local
        .lines
        .iter()
        .filter(|line| line.contains(part))
        .count()
}

#[test]
fn a_change_leads_to_a_reload_that_names_the_file() {
    let mut local = watched(2, "says:old");
    local.write("says:new");
    change(&local);
    local.until_logged("reload is complete");
    assert_eq!(local.get("/says").1, "new");
    let named = local
        .lines
        .iter()
        .position(|line| line == "app.R has changed");
    let begins = local.lines.iter().position(|line| line == "reload begins");
    assert!(named.is_some() && named < begins, "{:?}", local.lines);
    local.stop().expect("a good end");
}

#[test]
fn the_old_code_serves_on_if_the_new_fails_and_the_next_change_mends_it() {
    let mut local = watched(1, "says:old");
    let before = local.pids(State::Ready);
    local.write("fail");
    change(&local);
    local.until_logged("reload failed: ");
    assert_eq!(local.get("/says").1, "old");
    assert_eq!(local.pids(State::Ready), before);
    assert_eq!(count(&local, "reload failed: "), 1);
    local.write("says:mended");
    change(&local);
    local.until_logged("reload is complete");
    assert_eq!(local.get("/says").1, "mended");
}

#[test]
fn a_change_during_a_reload_leads_to_one_more_after_it() {
    let mut local = watched(1, "says:old");
    local.write("wait:go says:second");
    change(&local);
    local.until_logged("reload begins");
    change(&local);
    // Told, if it were not kept until the end of the first.
    std::thread::sleep(std::time::Duration::from_millis(500));
    local.write("says:third");
    fs::write(local.dir.path().join("go"), "").expect("written");
    wait_until("both reloads are complete", || {
        local.take_lines();
        count(&local, "reload is complete") == 2
    });
    assert_eq!(local.get("/says").1, "third");
}

#[test]
fn somebody_elses_reload_and_one_for_a_change_wait_for_each_other() {
    let mut local = watched(1, "says:old");
    local.write("wait:go says:new");
    change(&local);
    local.until_logged("reload begins");
    let asked = local.server.ask(Request::Reload(None));
    fs::write(local.dir.path().join("go"), "").expect("written");
    local.result(asked).expect("it is not refused");
    fs::remove_file(local.dir.path().join("go")).expect("removed");
    let asked = local.server.ask(Request::Reload(None));
    wait_until("it begins", || {
        local.take_lines();
        count(&local, "reload begins") == 3
    });
    change(&local);
    std::thread::sleep(std::time::Duration::from_millis(500));
    fs::write(local.dir.path().join("go"), "").expect("written");
    local.result(asked).expect("a good reload");
    wait_until("the change leads to one more", || {
        local.take_lines();
        count(&local, "reload is complete") == 4
    });
    assert_eq!(count(&local, "reload failed"), 0);
}

#[test]
fn an_app_that_writes_its_own_files_does_not_reload_for_ever() {
    let mut local = Local::ready(1, "touch:app.R says:old", |setup| setup.local.watch = true);
    // The first of them may end before the watch begins.
    wait_until("it is found out", || {
        let _ = local.ask(Request::Reload(None));
        std::thread::sleep(std::time::Duration::from_millis(500));
        local.take_lines();
        count(&local, "the app seems to write it when it starts") == 1
    });
    std::thread::sleep(std::time::Duration::from_millis(1000));
    local.take_lines();
    let reloads = count(&local, "reload begins");
    std::thread::sleep(std::time::Duration::from_millis(1000));
    local.take_lines();
    assert_eq!(count(&local, "reload begins"), reloads, "{:?}", local.lines);
    assert_eq!(local.get("/says").1, "old");
}

#[test]
fn a_change_of_the_configuration_file_is_told_to_r() {
    let config = tempfile::tempdir().expect("a directory");
    let file = config.path().join("faucet.yml");
    let watched = file.clone();
    let mut local = Local::ready(1, "says:old", |setup| setup.config = Some(watched));
    wait_until("it is told", || {
        fs::write(&file, "pools:").expect("written");
        std::thread::sleep(std::time::Duration::from_millis(400));
        local.server.take_config_change()
    });
    local.until_logged("faucet.yml has changed");
    assert_eq!(count(&local, "reload begins"), 0);
}
