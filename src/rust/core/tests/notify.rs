//! What systemd is told. A program of its own: where it listens stands in the environment.

mod common;

use std::os::unix::net::UnixDatagram;

use common::local::{wait_until, Local};
use common::PATIENCE;
use faucet_core::server::Request;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

struct Systemd {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Systemd {
    fn hear(&mut self) {
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            self.heard.push(message);
        }
    }

    /// Waits for a message of this beginning, and tells how many came before it.
    fn until(&mut self, beginning: &str) -> usize {
        let mut found = None;
        wait_until(beginning, || {
            self.hear();
            found = self
                .heard
                .iter()
                .position(|message| message.starts_with(beginning));
            found.is_some()
        });
        found.expect("just found")
    }

    fn count(&mut self, beginning: &str) -> usize {
        self.hear();
        let all = self.heard.iter();
        all.filter(|message| message.starts_with(beginning)).count()
    }
}

#[test]
fn systemd_hears_of_start_reload_life_and_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_nonblocking(true).expect("a live socket");
    let mut systemd = Systemd {
        socket,
        heard: Vec::new(),
    };
    std::env::set_var("NOTIFY_SOCKET", &path);
    std::env::set_var("WATCHDOG_USEC", "40000");
    std::env::set_var("WATCHDOG_PID", std::process::id().to_string());

    let mut local = Local::start("wait:go says:old", |_| {});
    systemd.until("STATUS=Starting");
    // A part of the start.
    let early = local.server.ask(Request::Reload(None));
    assert_eq!(systemd.count("READY=1"), 0);
    std::fs::write(local.dir.path().join("go"), "").expect("written");
    systemd.until("READY=1");
    local.result(early).expect("a good reload");
    assert_eq!(systemd.count("RELOADING=1"), 0);
    assert_eq!(systemd.count("READY=1"), 1);
    systemd.until("STATUS=1 of 1 workers ready, in flight: 0, waiting: 0");
    let alive = systemd.count("WATCHDOG=1");
    wait_until("it lives", || systemd.count("WATCHDOG=1") > alive + 2);
    assert_eq!(local.get("/env:NOTIFY_SOCKET").1, "");
    assert_eq!(local.get("/env:WATCHDOG_USEC").1, "");

    systemd.heard.clear();
    local.ask(Request::Reload(None)).expect("a good reload");
    let begun = systemd.until("RELOADING=1\nMONOTONIC_USEC=");
    assert!(begun < systemd.until("READY=1"));
    // Whatever becomes of it, it has an end.
    systemd.heard.clear();
    local.write("fail");
    local
        .ask(Request::Reload(None))
        .expect_err("the code is bad");
    let begun = systemd.until("RELOADING=1\nMONOTONIC_USEC=");
    assert!(begun < systemd.until("READY=1"));

    systemd.heard.clear();
    local
        .ask(Request::Stop(Some(PATIENCE)))
        .expect("a good end");
    systemd.until("STOPPING=1");
    assert_eq!(systemd.count("READY=1"), 0);
}
