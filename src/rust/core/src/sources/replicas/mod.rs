//! Workers that are whatever a name resolves to: replicas of a Kubernetes service, as a rule. Someone else starts and
//! stops them.

mod target;

pub use target::{Host, Target};

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Asker, Command, Ground};

/// Where replicas are found and how they are used.
#[derive(Clone, Debug)]
pub struct Settings {
    pub target: Target,
    /// Requests that a replica is given at a time, unless it says itself how many it takes.
    pub slots: u32,
    /// Between two lookups; `None` for the records' own time to live.
    pub refresh: Option<Duration>,
    /// What must answer with 2xx before a replica is used.
    pub ready_path: Option<String>,
    /// A DNS server to ask in place of those in resolv.conf.
    pub dns: Option<SocketAddr>,
    /// How long it may take until there is a first worker.
    pub boot_timeout: Duration,
    /// Whether replicas that run faucet are made to give up requests that nobody waits for.
    pub cancel: bool,
}

pub struct Replicas {
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Replicas {
    pub fn new(_settings: Settings, _ground: Ground) -> (Self, Asker) {
        let (sender, commands) = mpsc::unbounded_channel();
        let asker = Asker::new(move |command| {
            let _ = sender.send(command);
        });
        (Self { commands }, asker)
    }

    pub async fn run(mut self) {
        while let Some(command) = self.commands.recv().await {
            if let Command::Stop(reply) = command {
                let _ = reply.send(Ok(()));
                return;
            }
        }
    }
}
