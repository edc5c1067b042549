//! What every source has: how it is started, what can be asked of it, and what it tells.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::agents::AgentsSettings;
use super::command::{CommandPool, CommandSettings};
use super::hub::HubPool;
use super::local::{LocalSettings, Resources, Supervisor, WorkerRange};
use super::replicas::{Destination, Replicas, Settings as ReplicasSettings};
use super::{Failure, Roster};
use crate::endpoint::Endpoint;
use crate::lock::Table;
use crate::ops::Ops;
use crate::sessions::Sessions;
use crate::tls::ClientTls;
use crate::worker::Worker;

/// Where the answer to a command goes. A source that ends drops it, which the other side sees.
pub type Reply = oneshot::Sender<Result<(), Failure>>;

/// What a server asks of a pool's source.
pub enum Command {
    /// Have this many workers.
    Scale(WorkerRange, Reply),
    /// Replace every worker by one that runs the current code; or find out anew who they are.
    Reload(Reply),
    /// There is no first worker, and none is to come at once: go on as after later failures.
    KeepTrying,
    /// End every worker that is the source's own; answers when all are gone.
    Stop(Reply),
    /// The same at once.
    Kill,
}

/// What a server is told by a pool's source.
pub enum SourceEvent {
    /// The first worker is ready.
    Ready,
    /// No worker became ready.
    BootFailed(Failure),
    /// Its work is over; what failed if it panicked.
    Ended(Option<String>),
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
    /// If slots are for these.
    pub sessions: Option<Arc<Sessions>>,
    pub notify: Notifier,
}

/// Where a source's events go, with the number of its pool.
#[derive(Clone)]
pub struct Notifier {
    pool: u64,
    sender: mpsc::UnboundedSender<(u64, SourceEvent)>,
}

impl Notifier {
    pub fn new(pool: u64, sender: mpsc::UnboundedSender<(u64, SourceEvent)>) -> Self {
        Self { pool, sender }
    }

    /// Sends; fails only when the server is gone, which nobody then needs to hear.
    pub fn send(&self, event: SourceEvent) {
        let _ = self.sender.send((self.pool, event));
    }
}

/// A source's work: ends after [`Command::Stop`] or [`Command::Kill`], when nothing of it is left.
pub type SourceTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a pool's workers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Processes on this machine.
    Local(LocalSettings),
    /// A program for each request.
    Command(CommandSettings),
    /// Whatever a name resolves to.
    Replicas(ReplicasSettings),
    /// Workers that dial in.
    Hub,
    /// Agents, each of which has a pool of its own by the same route.
    Agents(AgentsSettings),
}

/// A source with all that it needs from the system.
pub enum Prepared {
    Local(LocalSettings, Arc<Resources>),
    Command(CommandSettings, Arc<Resources>),
    Replicas(ReplicasSettings, Result<Option<Arc<ClientTls>>, Failure>),
    Hub(HubPool),
    Agents(AgentsSettings),
}

impl Source {
    /// How many workers it will have on this machine.
    pub fn workers(&self) -> WorkerRange {
        match self {
            Self::Local(settings) => settings.workers,
            // There is none between two requests.
            Self::Command(settings) => WorkerRange {
                min: 0,
                max: settings.workers.max,
            },
            Self::Replicas(_) | Self::Hub | Self::Agents(_) => WorkerRange::fixed(0),
        }
    }

    /// What requests for its workers must say, if they know nothing of us.
    pub fn destination(&self) -> Option<&Destination> {
        match self {
            Self::Replicas(settings) => settings.target.destination(),
            Self::Local(_) | Self::Command(_) | Self::Hub | Self::Agents(_) => None,
        }
    }

    /// The services of gRPC that its workers have, if they are such.
    pub fn services(&self) -> Option<&[String]> {
        match self {
            Self::Agents(settings) => settings.services.as_deref(),
            other => other.destination()?.grpc.as_deref(),
        }
    }

    /// The directory whose changes lead to a reload, if any do.
    pub fn watched(&self) -> Option<&Path> {
        match self {
            Self::Local(settings) => settings.watch.then_some(settings.dir.as_path()),
            Self::Command(_) | Self::Replicas(_) | Self::Hub | Self::Agents(_) => None,
        }
    }

    /// Whether its workers see the whole path of a request, as they have the route, too.
    pub fn keeps_path(&self) -> bool {
        matches!(self, Self::Agents(_))
    }

    /// Has as many, if they are its own.
    pub fn set_workers(&mut self, workers: WorkerRange) {
        match self {
            Self::Local(settings) => settings.workers = workers,
            Self::Command(settings) => settings.workers = workers,
            Self::Replicas(_) | Self::Hub | Self::Agents(_) => {}
        }
    }

    /// Lets workers that are started here know where the clients' requests arrive.
    #[must_use]
    pub fn listening_at(mut self, endpoint: &Endpoint) -> Self {
        if let Self::Local(settings) = &mut self {
            let mut tell = |name: &str, value: String| settings.env.insert(name.into(), value);
            match endpoint {
                Endpoint::Tcp(address) => {
                    tell("FAUCET_SERVER_PORT", address.port().to_string());
                    if !address.ip().is_unspecified() {
                        tell("FAUCET_SERVER_NAME", address.ip().to_string());
                    }
                }
                // As of `http://localhost/`: Rook's variables hold something.
                Endpoint::Unix(_) | Endpoint::Abstract(_) => {
                    tell("FAUCET_SERVER_PORT", "80".to_owned());
                    tell("FAUCET_SERVER_NAME", "localhost".to_owned());
                }
            }
        }
        self
    }

    /// Adds what the processes of a server share, if these are some. `resources` is called if so.
    ///
    /// # Errors
    /// Those of `resources`.
    pub fn prepare(
        self,
        resources: impl FnOnce() -> io::Result<Arc<Resources>>,
    ) -> io::Result<Prepared> {
        Ok(match self {
            Self::Local(settings) => Prepared::Local(settings, resources()?),
            Self::Agents(settings) => Prepared::Agents(settings),
            Self::Command(settings) => Prepared::Command(settings, resources()?),
            Self::Replicas(settings) if settings.target.is_tls() => {
                let environment = &resources()?.environment;
                let tls = ClientTls::of(settings.ca.as_deref(), environment);
                Prepared::Replicas(settings, tls.map(|tls| Some(Arc::new(tls))))
            }
            Self::Replicas(settings) => Prepared::Replicas(settings, Ok(None)),
            Self::Hub => return Err(io::Error::other("a hub makes its pools itself")),
        })
    }
}

impl Prepared {
    /// What it shares with the other pools of its server, if it starts processes here.
    pub fn resources(&self) -> Option<&Arc<Resources>> {
        match self {
            Self::Local(_, resources) | Self::Command(_, resources) => Some(resources),
            Self::Replicas(..) | Self::Hub(_) | Self::Agents(_) => None,
        }
    }

    /// The source's work, to be run in a runtime, and its handle.
    pub fn start(self, context: SourceContext) -> (SourceTask, SourceHandle) {
        match self {
            Self::Local(settings, resources) => {
                let (supervisor, handle) = Supervisor::new(settings, resources, context);
                (Box::pin(supervisor.run()), handle)
            }
            Self::Command(settings, resources) => {
                CommandPool::new(settings, resources).start(context)
            }
            Self::Replicas(settings, tls) => {
                let (replicas, handle) = Replicas::new(settings, tls, context);
                (Box::pin(replicas.run()), handle)
            }
            Self::Agents(settings) => settings.start(context),
            Self::Hub(pool) => pool.start(context),
        }
    }
}
