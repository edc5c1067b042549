//! Workers that are agents: each has a pool by the same route, with a lock of its own, and is reached as replicas are.
//!
//! Who they are is told from outside, and changes while the pool runs: an agent that is new becomes a worker once its pool
//! serves, and one that is not named any more drains.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::header::HeaderValue;
use tokio::sync::{mpsc, watch};

use super::members::{Event, Members, Usage};
use super::{Command, SourceContext, SourceEvent, SourceHandle, SourceTask};
use crate::tls::Peer;
use crate::worker::Address;

/// Where the number of workers is changed.
const ELSEWHERE: &str =
    "A function's workers are its agents': deploy it with other `workers`, or with more `replicas`.";

/// Our own requests name no host: agents do not go by it.
const AUTHORITY: &str = "localhost";

/// Where agents are, and with whom hands are to be shaken at those that are reached with TLS.
pub type Addresses = BTreeMap<Address, Option<Peer>>;

/// Says which agents are a pool's workers, for as long as the pool lives.
#[derive(Clone, Debug)]
pub struct AgentSet(Arc<watch::Sender<Addresses>>);

impl AgentSet {
    /// None yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::channel(Addresses::new()).0))
    }

    /// These and no others.
    pub fn set(&self, addresses: Addresses) {
        self.0.send_if_modified(|now| {
            // Whoever is at an address is at another one if the certificate is to be another.
            let changed = !now.keys().eq(addresses.keys());
            *now = addresses;
            changed
        });
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.borrow().len()
    }
}

impl Default for AgentSet {
    fn default() -> Self {
        Self::new()
    }
}

/// Two are the same if what is said to one is said to the other.
impl PartialEq for AgentSet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Which agents they are, and how they are used.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentsSettings {
    pub agents: AgentSet,
    /// Requests that an agent is given at a time until it has said how many it takes. One that does not count this server among
    /// its `fronts` never says so.
    pub slots: u32,
    /// Whether agents are made to give up requests that nobody waits for.
    pub cancel: bool,
    /// If the function is services of gRPC: those that are called by their own names, `package.Service`.
    pub services: Option<Vec<String>>,
}

impl AgentsSettings {
    /// Agents of this set.
    pub fn new(agents: AgentSet) -> Self {
        Self {
            agents,
            slots: 1,
            cancel: true,
            services: None,
        }
    }

    /// The source's work and its handle.
    pub(super) fn start(self, context: SourceContext) -> (SourceTask, SourceHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        let handle = SourceHandle::new(move |command| {
            // Fails only when this source is gone.
            let _ = sender.send(command);
        });
        (Box::pin(run(self, context, commands)), handle)
    }
}

/// Runs until it is told to stop. The agents go on without it.
async fn run(
    settings: AgentsSettings,
    context: SourceContext,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let SourceContext {
        table,
        roster,
        ops,
        notify,
        // A cookie would have to lead to an agent for ever.
        sessions: _,
    } = context;
    let usage = Usage {
        slots: settings.slots,
        remote: Some(settings.cancel),
        peer: None,
        authority: AUTHORITY.into(),
        // A route's name is text that was checked: it fits, or the agents go by the path alone.
        pool: HeaderValue::from_str(&ops.pool).ok(),
        ready_path: Some(format!("/__faucet__/readyz{}", ops.pool)),
        exclusive: false,
    };
    let (mut members, mut happened) = Members::new(usage, table, roster);
    let mut named = settings.agents.0.subscribe();
    named.mark_changed();
    // Agents come or do not: nothing has to be waited for.
    notify.send(SourceEvent::Ready);
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => {
                if !members.obey(command, &mut commands, ELSEWHERE).await {
                    return;
                }
            }
            // Never closed: the settings have the sender.
            Ok(()) = named.changed() => {
                let addresses = named.borrow_and_update().clone();
                members.want(addresses);
                ops.log.ring();
            }
            Some((key, event)) = happened.recv() => {
                let joined = matches!(event, Event::Probed(Ok(())));
                members.handle(key, event);
                if joined {
                    ops.log.ring();
                }
            }
        }
    }
}
