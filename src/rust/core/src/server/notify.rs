//! Tells systemd how the service is doing, as `sd_notify(3)` describes it.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::time::{clock_gettime, ClockId};

use crate::environment::{Environment, SystemError};
use crate::front::Front;

/// Between two looks at what the status line says.
const LOOK: Duration = Duration::from_secs(5);

/// Where news go, if anywhere.
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often systemd wants a sign of life.
    watchdog: Option<Duration>,
    /// Reloads that are under way.
    reloads: AtomicUsize,
    ready: AtomicBool,
    stopping: AtomicBool,
    /// What the status line says.
    said: Mutex<String>,
    failed: AtomicBool,
}

/// A reload, until this is dropped.
pub(super) struct Reloading<'a>(Option<&'a Notify>);

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        if let Some(notify) = self.0 {
            if notify.reloads.fetch_sub(1, Ordering::Relaxed) == 1
                && !notify.stopping.load(Ordering::Relaxed)
            {
                notify.send("READY=1");
            }
        }
    }
}

impl Notify {
    /// By `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn of(environment: &Environment) -> Self {
        let number = |name: &str| environment.text(name)?.trim().parse::<u64>().ok();
        let to = environment
            .text("NOTIFY_SOCKET")
            .and_then(|path| open(&path).ok());
        let own = u64::from(std::process::id());
        let watchdog = number("WATCHDOG_USEC").filter(|usec| *usec > 0);
        let watchdog = watchdog.filter(|_| number("WATCHDOG_PID").map_or(true, |pid| pid == own));
        Self {
            to,
            watchdog: watchdog.map(Duration::from_micros),
            reloads: AtomicUsize::new(0),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            said: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    pub(super) fn ready(&self) {
        if !self.stopping.load(Ordering::Relaxed) {
            self.ready.store(true, Ordering::Relaxed);
            self.send("READY=1\nSTATUS=Ready");
        }
    }

    /// Of the server as a whole. One before it is ready is a part of its start.
    pub(super) fn reloading(&self) -> Reloading<'_> {
        if !self.ready.load(Ordering::Relaxed) || self.stopping.load(Ordering::Relaxed) {
            return Reloading(None);
        }
        if self.reloads.fetch_add(1, Ordering::Relaxed) == 0 {
            // By which systemd tells the end of this reload from that of one before.
            let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
            let now = now.unwrap_or_default().as_micros();
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
        }
        Reloading(Some(self))
    }

    pub(super) fn stopping(&self) {
        if !self.stopping.swap(true, Ordering::Relaxed) {
            self.send("STOPPING=1\nSTATUS=Stopping");
        }
    }

    /// Gives signs of life, and says how many workers there are. On the thread that serves: a sign of life is one of it.
    /// Never ends.
    pub(super) async fn run(self: Arc<Self>, front: Arc<Front>) {
        if self.to.is_none() {
            return;
        }
        // Twice as often as is asked for.
        let pause = self
            .watchdog
            .map_or(LOOK, |watchdog| LOOK.min(watchdog / 2));
        loop {
            if self.watchdog.is_some() {
                self.send("WATCHDOG=1");
            }
            if !self.stopping.load(Ordering::Relaxed) {
                let is_ready = self.ready.load(Ordering::Relaxed);
                self.say(if is_ready {
                    status(&front)
                } else {
                    "Starting".into()
                });
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Says how it is, if that is news.
    fn say(&self, text: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != text {
            self.send(&format!("STATUS={text}"));
            *said = text;
        }
    }

    /// Never waits: systemd reads, or it is not there.
    fn send(&self, text: &str) {
        let Some((socket, address)) = &self.to else {
            return;
        };
        let sent = socket.send_to_addr(text.as_bytes(), address);
        if let Err(error) = sent {
            if !self.failed.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "systemd cannot be told how the server is doing (NOTIFY_SOCKET): {}",
                    SystemError(&error)
                );
            }
        }
    }
}

/// A socket that does not wait, and the address of systemd's.
fn open(path: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.strip_prefix('@') {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Some(name) => {
            #[cfg(target_os = "android")]
            use std::os::android::net::SocketAddrExt;
            #[cfg(target_os = "linux")]
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)?
        }
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

fn status(front: &Front) -> String {
    let (mut serving, mut total, mut in_flight, mut waiting) = (0, 0, 0, 0);
    for pool in front.pools.all() {
        let counts = pool.roster.counts();
        serving += counts.serving;
        total += counts.total;
        in_flight += pool.table.snapshot().leases;
        waiting += pool.table.waiting();
    }
    format!("{serving} of {total} workers ready, in flight: {in_flight}, waiting: {waiting}")
}
