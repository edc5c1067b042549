//! What every source has: how it is started, what can be asked of it, and what it tells.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::local::{LocalSettings, Scratch, Sockets, Spawner, Supervisor};
use super::replicas::{Replicas, Settings as ReplicasSettings};
use super::{Failure, Roster};
use crate::environment::Environment;
use crate::lock::Table;
use crate::ops::status::Kind;
use crate::ops::Ops;
use crate::worker::Worker;

/// Where the answer to a command goes. A source that ends drops it, which the other side sees.
pub type Reply = oneshot::Sender<Result<(), Failure>>;

/// What a server asks of its source.
pub enum Command {
    /// Have this many workers.
    Scale(u32, Reply),
    /// Replace every worker by one that runs the current code; or find out anew who they are.
    Reload(Reply),
    /// End every worker that is the source's own; answers when all are gone.
    Stop(Reply),
    /// The same at once.
    Kill,
}

/// What a server is told by its source.
pub enum SourceEvent {
    /// The first worker is ready.
    Ready,
    /// No worker became ready.
    BootFailed(Failure),
}

/// Where commands for a source go.
pub struct SourceHandle(Box<dyn Fn(Command) + Send + Sync>);

impl SourceHandle {
    pub(super) fn new(send: impl Fn(Command) + Send + Sync + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Sends a command; if the source is gone, the reply is dropped.
    pub fn send(&self, command: Command) {
        (self.0)(command);
    }
}

/// What a source works on.
pub struct SourceContext {
    pub table: Arc<Table<Worker>>,
    pub roster: Arc<Roster>,
    pub ops: Arc<Ops>,
    pub notify: mpsc::UnboundedSender<SourceEvent>,
}

/// A source's work: ends after [`Command::Stop`] or [`Command::Kill`], when nothing of it is left.
pub type SourceTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a server's workers come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Processes on this machine.
    Local(LocalSettings),
    /// Whatever a name resolves to.
    Replicas(ReplicasSettings),
}

/// A source with all that it needs from the system.
pub enum Prepared {
    Local(LocalSettings, Option<Sockets>, Scratch, Spawner),
    Replicas(ReplicasSettings),
}

impl Source {
    /// How many workers it will have on this machine.
    pub fn workers(&self) -> u32 {
        match self {
            Self::Local(settings) => settings.workers,
            Self::Replicas(_) => 0,
        }
    }

    /// Lets workers that are started here know where the clients' requests arrive.
    #[must_use]
    pub fn listening_at(mut self, address: SocketAddr) -> Self {
        if let Self::Local(settings) = &mut self {
            let mut tell = |name: &str, value: String| settings.env.insert(name.into(), value);
            tell("FAUCET_SERVER_PORT", address.port().to_string());
            if !address.ip().is_unspecified() {
                tell("FAUCET_SERVER_NAME", address.ip().to_string());
            }
        }
        self
    }

    /// Gets from the system what the source needs.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepare(self, environment: &Environment) -> io::Result<Prepared> {
        Ok(match self {
            Self::Local(settings) => {
                let parent = environment.temporary_directory();
                let sockets = match settings.worker {
                    Some(Kind::Http) => None,
                    _ => Some(Sockets::make(parent)?),
                };
                let others = sockets.as_ref().and_then(Sockets::parent);
                let others = others.into_iter().filter(|other| other != parent);
                let scratch = Scratch::make(parent, others.collect())?;
                let spawner = Spawner::start(environment.clone())?;
                Prepared::Local(settings, sockets, scratch, spawner)
            }
            Self::Replicas(settings) => Prepared::Replicas(settings),
        })
    }
}

impl Prepared {
    /// The source's work, to be run in a runtime, and its handle.
    pub fn start(self, context: SourceContext) -> (SourceTask, SourceHandle) {
        match self {
            Self::Local(settings, sockets, scratch, spawner) => {
                let (supervisor, handle) =
                    Supervisor::new(settings, sockets, scratch, spawner, context);
                (Box::pin(supervisor.run()), handle)
            }
            Self::Replicas(settings) => {
                let (replicas, handle) = Replicas::new(settings, context);
                (Box::pin(replicas.run()), handle)
            }
        }
    }
}
