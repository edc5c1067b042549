//! A template as the front expects it. It forks; what follows it in the program is what its children do.

use std::collections::VecDeque;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use faucet_core::sources::local::ForkOrder;
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, fork, setpgid, ForkResult, Pid};
use rustix::net::{recvmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// What a template does.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    /// All that it is told.
    Good,
    /// It says that it cannot fork.
    Refuses,
    /// It does not answer.
    Mute,
    /// It ends when it is to fork.
    Dies,
    /// It knows nothing of templates, and serves.
    Serves,
}

impl Manner {
    pub fn named(name: &str) -> Self {
        match name {
            "refuses" => Self::Refuses,
            "mute" => Self::Mute,
            "dies" => Self::Dies,
            "serves" => Self::Serves,
            other => panic!("no such template: {other}"),
        }
    }
}

/// Returns in each child, and in what is no template.
pub fn be_a_template(native: bool, manner: Manner) {
    if manner == Manner::Serves {
        return;
    }
    let mut front = Front::take();
    if !native {
        front.say("unable it is of another time");
        std::process::exit(0);
    }
    front.say("ready");
    while let Some(line) = front.line() {
        match line.split_once(' ').expect("two words") {
            ("reap", pid) => {
                let pid = Pid::from_raw(pid.parse().expect("a pid"));
                let end = match waitpid(pid, None).expect("a child") {
                    WaitStatus::Exited(_, code) => format!("code {code}"),
                    WaitStatus::Signaled(_, signal, _) => format!("signal {}", signal as i32),
                    other => panic!("{other:?}"),
                };
                front.say(&format!("exited {pid} {end}"));
            }
            ("fork", order) => {
                let order = ForkOrder::parse(order).expect("an order");
                let generation = order.generation;
                let streams: Vec<OwnedFd> = front.streams.drain(..3).collect();
                match manner {
                    Manner::Good | Manner::Serves => {}
                    Manner::Refuses => {
                        front.say(&format!("failed {generation} no room"));
                        continue;
                    }
                    Manner::Mute => continue,
                    Manner::Dies => std::process::exit(11),
                }
                // SAFETY: no other thread of this process does anything.
                #[allow(unsafe_code)]
                match unsafe { fork() }.expect("a child") {
                    ForkResult::Parent { child } => {
                        drop(streams);
                        // The child does the same, and may have gone on meanwhile.
                        let _ = setpgid(child, child);
                        front.say(&format!("born {generation} {child}"));
                    }
                    ForkResult::Child => {
                        drop(front);
                        become_worker(&streams);
                        std::env::remove_var("FAUCET_TEMPLATE");
                        order.confined.apply().expect("confined");
                        if let Some(dir) = &order.dir {
                            std::env::set_current_dir(dir).expect("a folder");
                        }
                        for (name, value) in &order.env {
                            std::env::set_var(name, value);
                        }
                        std::env::set_var("FAUCET_WORKER_ID", order.id.to_string());
                        std::env::set_var("FAUCET_PORT", order.port.to_string());
                        std::env::set_var("FAUCET_SOCKET", &order.socket);
                        println!("I am {}", order.id);
                        return;
                    }
                }
            }
            _ => panic!("not a command: {line}"),
        }
    }
    std::process::exit(0);
}

fn become_worker(streams: &[OwnedFd]) {
    let own = Pid::from_raw(0);
    setpgid(own, own).expect("a group");
    dup2_stdin(&streams[0]).expect("stdin");
    dup2_stdout(&streams[1]).expect("stdout");
    dup2_stderr(&streams[2]).expect("stderr");
    std::thread::spawn(|| {
        // Its end of file is the front's end.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// The template's half of the conversation.
struct Front {
    socket: UnixStream,
    text: String,
    streams: VecDeque<OwnedFd>,
}

impl Front {
    fn take() -> Self {
        let socket = std::io::stdin().as_fd().try_clone_to_owned();
        let nothing = std::fs::File::open("/dev/null").expect("nothing");
        dup2_stdin(nothing).expect("stdin");
        Self {
            socket: socket.expect("a socket").into(),
            text: String::new(),
            streams: VecDeque::new(),
        }
    }

    fn say(&mut self, line: &str) {
        // The front may be gone, which the next read tells.
        let _ = self.socket.write_all(format!("{line}\n").as_bytes());
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = line.to_owned();
                self.text = rest.to_owned();
                return Some(line);
            }
            let mut bytes = [0u8; 1024];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let read = recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::empty(),
            );
            let read = match read {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return None,
                Ok(read) => read.bytes,
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(streams) = message {
                    self.streams.extend(streams);
                }
            }
            if read == 0 {
                return None;
            }
            self.text
                .push_str(std::str::from_utf8(&bytes[..read]).expect("text"));
        }
    }
}
