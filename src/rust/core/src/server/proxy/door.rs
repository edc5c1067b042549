//! Where agents dial in that cannot be dialled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Proxy;
use crate::client_stream::ClientStream;
use crate::descriptors::Descriptor;
use crate::endpoint::Endpoint;
use crate::environment::SystemError;
use crate::front::Bound;
use crate::functions::fleet::AgentName;
use crate::server::listen::listen_tcp;
use crate::server::task::ServerTask;
use crate::sources::hub::{let_in_workers, Hello, Host};
use crate::sources::Failure;
use crate::tls::{ServerTls, TlsSettings};
use crate::worker::{Address, Callers};

/// So many agents may dial in: their names are theirs to choose.
const MOST_CALLERS: usize = 1000;

/// Where agents dial in, before there is a runtime.
pub(in crate::server) struct Door {
    bound: Bound,
    tls: Option<Arc<ServerTls>>,
}

impl Door {
    /// Listens for agents. `tls` is the clients'.
    ///
    /// # Errors
    /// Class `port_in_use` or `listen`, or `option` for the files of TLS.
    pub(in crate::server) fn open(
        host: &str,
        port: u16,
        tls: Option<&TlsSettings>,
    ) -> Result<Self, Failure> {
        // An agent has a token, and needs no certificate.
        let tls = tls.map(|tls| ServerTls::load_http1(&tls.without_client_ca()));
        Ok(Self {
            bound: listen_tcp("agent_", host, port)?,
            tls: tls.transpose()?.map(Arc::new),
        })
    }

    /// Where that is.
    pub(in crate::server) fn endpoint(&self) -> &Endpoint {
        self.bound.endpoint()
    }
}

impl Proxy {
    /// Lets agents in. To be called in the runtime.
    ///
    /// # Errors
    /// The runtime has no room for the listener.
    pub(in crate::server) fn let_in(
        self: &Arc<Self>,
        door: Door,
        task: &Arc<ServerTask>,
    ) -> Result<(), Failure> {
        if let Some(tls) = &door.tls {
            // Set once.
            let _ = task.other_tls.set(tls.clone());
        }
        let listener = door.bound.into_tcp().map_err(crate::server::system)?;
        let token = self.agent_token();
        let callers = Arc::new(self.clone());
        let front = task.front.clone();
        tokio::spawn(let_in_workers(front, callers, token, door.tls, listener));
        Ok(())
    }

    /// The connections of an agent that dials in, if it is one.
    pub(super) fn callers_of(&self, agent: &AgentName) -> Option<Callers> {
        match self.addresses().get(agent) {
            Some(Address::Callers(callers)) => Some(callers.clone()),
            _ => None,
        }
    }

    /// An agent that dials in is there for the first time.
    fn welcome(self: &Arc<Self>, agent: AgentName) {
        let (proxy, its) = (self.clone(), agent.clone());
        tokio::task::spawn_blocking(move || {
            // So that its functions wait for it after an end of this proxy.
            if let Err(error) = proxy.agents.write(its.as_str(), b"{}") {
                let why = SystemError(&error);
                tracing::error!("the state folder cannot be written: {why}");
            }
        });
        if self.fleet().add_agent(agent.clone(), Instant::now()) {
            self.watch(agent);
        }
    }
}

impl Host for Arc<Proxy> {
    fn receive(
        &self,
        hello: Hello,
        _peer: SocketAddr,
        stream: ClientStream,
        descriptor: Descriptor,
    ) -> (&'static str, Option<&'static str>) {
        let Ok(agent) = AgentName::of_caller(&hello.name) else {
            return (
                "bad_name",
                Some("dials in by a name that agents cannot have"),
            );
        };
        let (callers, new) = {
            let mut addresses = self.addresses();
            let full = addresses.len() >= MOST_CALLERS;
            match addresses.get(&agent) {
                Some(Address::Callers(callers)) => (callers.clone(), false),
                _ if full => {
                    return (
                        "too_many_agents",
                        Some("dials in, and there are as many agents as there may be"),
                    )
                }
                _ => {
                    let callers = Callers::new(agent.as_str());
                    addresses.insert(agent.clone(), Address::Callers(callers.clone()));
                    (callers, true)
                }
            }
        };
        callers.push(stream, descriptor);
        if new {
            self.welcome(agent);
            self.refresh();
        }
        ("accepted", None)
    }
}
