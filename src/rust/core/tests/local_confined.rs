//! Workers that are kept to what they may have.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use common::local::{wait_until, Local, Setup};
use faucet_core::sources::local::Confinement;
use nix::unistd::{geteuid, User};

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn memory(setup: &mut Setup) {
    setup.local.confinement = Confinement {
        memory: Some(96 << 20),
        ..Confinement::default()
    };
}

fn limit(local: &Local) -> String {
    let pid = local.get("/pid").1;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("a process");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max data size"));
    line.expect("a limit")
        .split_whitespace()
        .nth(3)
        .expect("a number")
        .to_owned()
}

#[test]
fn memory_beyond_the_limit_ends_a_worker_and_it_is_restarted() {
    for template in [false, true] {
        let mut local = Local::ready(1, "native says:here", |setup| {
            memory(setup);
            setup.local.preload = template;
        });
        assert_eq!(limit(&local), (96 << 20).to_string());
        local.get("/grow");
        assert_eq!(local.get("/grow").0, 502);
        local.until_logged("was killed by signal 6");
        local.until_ready(1);
        assert_eq!(local.get("/says"), (200, "here".into()));
    }
}

fn other_user() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    User::from_name("nobody").ok().flatten()
}

#[test]
fn another_user_has_the_process_and_its_folders_and_nobody_elses() {
    let Some(user) = other_user() else {
        return;
    };
    for template in [false, true] {
        let local = Local::start("native says:here", |setup| {
            fs::set_permissions(&setup.local.dir, Permissions::from_mode(0o755)).expect("a folder");
            setup.local.preload = template;
            setup.local.confinement.user = Some(user.name.clone());
        });
        local.until_ready(1);
        assert_eq!(local.get("/says"), (200, "here".into()));
        let pid = local.get("/pid").1;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let uid = user.uid.as_raw();
        assert!(
            status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")),
            "{status}"
        );
        let of = |name: &str| PathBuf::from(local.get(&format!("/env:{name}")).1);
        assert_eq!(of("HOME"), user.dir);
        let (temporary, socket) = (of("TMPDIR"), of("FAUCET_SOCKET"));
        for folder in [&temporary, &socket.parent().expect("a folder").to_owned()] {
            let metadata = folder.metadata().expect("a folder");
            assert_eq!((metadata.uid(), metadata.mode() & 0o777), (uid, 0o700));
            // Others get there, but see nothing of it.
            let around = folder
                .parent()
                .expect("a folder")
                .metadata()
                .expect("a folder");
            assert_eq!((around.uid(), around.mode() & 0o777), (0, 0o711));
        }
    }
}

#[test]
fn a_user_that_is_not_there_fails_the_start() {
    let local = Local::start("native", |setup| {
        setup.local.confinement.user = Some("no.such.user".into());
    });
    let failure = local.until_failed();
    assert!(
        failure.message.contains("there is no user no.such.user"),
        "{}",
        failure.message
    );
}

/// A link in its folder leads to a socket where its front is listened to, and another user's worker is not.
#[test]
fn a_worker_of_another_user_that_is_not_the_one_who_listens_gets_no_request() {
    let Some(user) = other_user() else {
        return;
    };
    let local = Local::start("native says:here", |setup| {
        fs::set_permissions(&setup.local.dir, Permissions::from_mode(0o755)).expect("a folder");
        setup.local.confinement.user = Some(user.name.clone());
    });
    local.until_ready(1);
    let socket = PathBuf::from(local.get("/env:FAUCET_SOCKET").1);
    let ours = tempfile::tempdir().expect("a folder");
    let ours = ours.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&ours).expect("a socket");
    fs::remove_file(&socket).expect("removed");
    std::os::unix::fs::symlink(&ours, &socket).expect("a link");
    // The connection that is kept alive is used up by this.
    assert_eq!(local.get("/hang-up").0, 502);
    wait_until("another process serves", || {
        local.get("/says") == (200, "here".into())
    });
    listener.set_nonblocking(true).expect("a socket");
    while let Ok((mut stream, _)) = listener.accept() {
        use std::io::Read;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("it is closed");
        assert!(
            [&b""[..], b"signature\n", b"docs\n", b"routes\n"].contains(&&*heard),
            "{heard:?}"
        );
    }
}
