//! A template's own side: it takes the front's commands, and forks workers.
//!
//! A template is an R process that has loaded the app and does nothing else. It runs no thread of its
//! own, as a thread does not survive a fork, and what it had locked stays locked. The protocol is
//! described at the other end, `faucet_core::sources::local`.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use extendr_api::prelude::*;
use faucet_core::sources::local::ForkOrder;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{recvmsg, ControlMessageOwned, MsgFlags};
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, fork, getppid, setpgid, ForkResult, Pid};

use crate::watch::{abandoned, remember_held, remove_held, set_front, take_stdin};

/// What is received stays out of programs that are started meanwhile.
#[cfg(any(target_os = "linux", target_os = "android"))]
const WITHOUT_CHILDREN: MsgFlags = MsgFlags::MSG_CMSG_CLOEXEC;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const WITHOUT_CHILDREN: MsgFlags = MsgFlags::empty();

/// A worker's standard input, output and error.
type Streams = [OwnedFd; 3];

struct Template {
    front: File,
    lines: Vec<u8>,
    /// Come with a command, or before it.
    descriptors: VecDeque<OwnedFd>,
    /// The worker that is to be forked next, and its streams.
    next: Option<(ForkOrder, Streams)>,
}

enum Heard {
    Nothing,
    Line(String),
    End,
}

thread_local! {
    static TEMPLATE: RefCell<Option<Template>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Template) -> T) -> Option<T> {
    TEMPLATE.with(|template| template.borrow_mut().as_mut().map(f))
}

impl Template {
    /// A front that does not listen is gone: that shows when it is listened to.
    fn say(&mut self, line: &str) {
        let _ = self.front.write_all(format!("{line}\n").as_bytes());
    }

    fn hear(&mut self, timeout_ms: u16) -> Heard {
        if let Some(line) = self.take_line() {
            return Heard::Line(line);
        }
        let mut wait = [PollFd::new(self.front.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, PollTimeout::from(timeout_ms)) {
            Ok(1..) => {}
            // Also when a signal came: R looks at it.
            _ => return Heard::Nothing,
        }
        let mut chunk = [0u8; 4096];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 3]);
        let mut pieces = [IoSliceMut::new(&mut chunk)];
        let message = recvmsg::<()>(
            self.front.as_raw_fd(),
            &mut pieces,
            Some(&mut space),
            WITHOUT_CHILDREN,
        );
        let Ok(message) = message else {
            return Heard::Nothing;
        };
        let count = message.bytes;
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                for descriptor in descriptors {
                    // SAFETY: the system has just made it for us, and nobody else knows it.
                    self.descriptors
                        .push_back(unsafe { OwnedFd::from_raw_fd(descriptor) });
                }
            }
        }
        if count == 0 {
            return Heard::End;
        }
        self.lines.extend_from_slice(&chunk[..count]);
        self.take_line().map_or(Heard::Nothing, Heard::Line)
    }

    fn take_line(&mut self) -> Option<String> {
        let end = self.lines.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.lines.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// What it says of a worker, if it can be forked; the front is told if not.
    fn take_order(&mut self, json: &str) -> Option<ForkOrder> {
        // Nobody would know whom this is about; the front gives up waiting.
        let order = ForkOrder::parse(json)?;
        match self.take_streams() {
            Some(streams) => self.next = Some((order.clone(), streams)),
            None => {
                let generation = order.generation;
                self.say(&format!("failed {generation} its streams did not arrive"));
                return None;
            }
        }
        Some(order)
    }

    fn take_streams(&mut self) -> Option<Streams> {
        let mut next = || self.descriptors.pop_front();
        Some([next()?, next()?, next()?])
    }

    /// The front has seen that a worker is dead: only now its pid may be used again.
    fn reap(&mut self, pid: i32) {
        let mut status = waitpid(Pid::from_raw(pid), None);
        while status == Err(nix::errno::Errno::EINTR) {
            status = waitpid(Pid::from_raw(pid), None);
        }
        let end = match status {
            Ok(WaitStatus::Exited(_, code)) => format!("code {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("signal {}", signal as i32),
            _ => "code 0".to_owned(),
        };
        self.say(&format!("exited {pid} {end}"));
    }
}

/// Makes this process a template: from now on the front is heard.
/// @noRd
#[extendr(invisible)]
fn template_start() {
    let Ok(front) = take_stdin() else {
        return;
    };
    set_front(getppid());
    remember_held();
    at_exit();
    TEMPLATE.with(|template| {
        *template.borrow_mut() = Some(Template {
            front,
            lines: Vec::new(),
            descriptors: VecDeque::new(),
            next: None,
        });
    });
}

/// Tells the front a line.
/// @noRd
#[extendr(invisible)]
fn template_say(line: &str) {
    with(|template| template.say(line));
}

/// The worker that the front wants next; waits at most `timeout_ms`.
/// @return `NULL` if there is none. Else a list with `end`: whether the front is gone; if not, `id`, `port` and
///   `socket` of the worker, `dir` (or `NULL`) and `env`, a named vector, and template_fork() is to be called.
/// @noRd
#[extendr]
fn template_next(timeout_ms: i32) -> Robj {
    let heard = with(|template| {
        let heard = template.hear(u16::try_from(timeout_ms).unwrap_or(0));
        let Heard::Line(line) = heard else {
            return (heard, None);
        };
        let order = match line.split_once(' ') {
            Some(("fork", order)) => template.take_order(order),
            Some(("reap", pid)) => {
                if let Ok(pid) = pid.parse() {
                    template.reap(pid);
                }
                None
            }
            _ => None,
        };
        (Heard::Nothing, order)
    });
    match heard {
        Some((Heard::End, _)) | None => {
            // The front is gone, or so are all workers that were forked from here.
            abandoned();
            List::from_pairs([("end", Robj::from(true))]).into()
        }
        Some((_, Some(order))) => told(&order).into(),
        Some((_, None)) => r!(NULL),
    }
}

/// What R needs to know of a worker.
fn told(order: &ForkOrder) -> List {
    let mut env: Robj = order.env.values().map(String::as_str).collect_robj();
    // Of the same length, so that it cannot fail.
    let _ = env.set_names(order.env.keys().map(String::as_str));
    let text = |path: &Path| Robj::from(path.to_string_lossy().into_owned());
    List::from_pairs([
        ("end", Robj::from(false)),
        ("id", order.id.to_string().into()),
        ("port", order.port.to_string().into()),
        ("socket", text(&order.socket)),
        ("dir", order.dir.as_deref().map_or_else(|| r!(NULL), text)),
        ("env", env),
    ])
}

/// Forks the worker that template_next() has named.
/// @return Whether this is the worker.
/// @noRd
#[extendr]
fn template_fork() -> bool {
    let Some(Some((order, streams))) = with(|template| template.next.take()) else {
        return false;
    };
    let generation = order.generation;
    // SAFETY: this process has one thread; what runs in the child is R as before.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => {
            // Either side does it, so that it is done for both.
            let _ = setpgid(child, child);
            with(|template| template.say(&format!("born {generation} {child}")));
            false
        }
        Ok(ForkResult::Child) => {
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            let [input, output, error] = streams;
            // They are open, and so are the standard ones.
            let _ = dup2_stdin(input);
            let _ = dup2_stdout(output);
            let _ = dup2_stderr(error);
            TEMPLATE.with(|template| template.borrow_mut().take());
            if let Err(error) = order.confined.apply() {
                // Its code must not run with more rights than it was to have.
                let line = format!("The worker could not be confined: {error}\n");
                let _ = std::io::stderr().write_all(line.as_bytes());
                end_fork(1);
            }
            true
        }
        Err(error) => {
            with(|template| template.say(&format!("failed {generation} {error}")));
            false
        }
    }
}

/// Sees to this process's temporary files when all of R has ended.
pub fn at_exit() {
    extern "C" fn remove() {
        remove_held();
    }
    // SAFETY: a function that lives as long as this library, which is never unloaded (see `inst/worker/worker.R`).
    // Without it, the next server removes them.
    let _ = unsafe { nix::libc::atexit(remove) };
}

/// Writes out what C's streams hold: a fork would have it twice.
/// @noRd
#[extendr(invisible)]
fn flush_streams() {
    // SAFETY: NULL means all of them.
    unsafe { nix::libc::fflush(std::ptr::null_mut()) };
}

/// Ends a forked worker here and now: without removing R's temporary folder, which it shares with its template, and
/// without the end of libraries, which would look for threads that were not forked.
/// @noRd
#[extendr]
fn fork_exit(status: i32) {
    remove_held();
    end_fork(status);
}

fn end_fork(status: i32) -> ! {
    // SAFETY: NULL means all streams; nothing of Rust's is to be dropped on the way.
    unsafe {
        nix::libc::fflush(std::ptr::null_mut());
        nix::libc::_exit(status);
    }
}

extendr_module! {
    mod template;
    fn template_start;
    fn template_say;
    fn template_next;
    fn template_fork;
    fn flush_streams;
    fn fork_exit;
}
