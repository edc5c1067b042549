//! The server of a hub: where workers dial in, and the pools that they make.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::listen::listen_tcp;
use super::request::PreparedPool;
use super::task::ServerTask;
use super::{system, PoolSettings};
use crate::endpoint::Endpoint;
use crate::front::Bound;
use crate::ops;
use crate::pool::{Membership, PoolLimits, Route};
use crate::sources::hub::{
    let_in_pothead, let_in_workers, Hub, HubPool, HubRequest, HubSettings, Token,
};
use crate::sources::{Failure, Prepared, Source};
use crate::tls::{ServerTls, TlsSettings};

/// How long requests may wait in a pool that is forgotten, which nobody serves.
const FORGET_GRACE: Duration = Duration::from_secs(5);

/// Where workers dial in, before there is a runtime.
pub(super) struct Doors {
    workers: Bound,
    pothead: Option<Bound>,
    token: Option<Token>,
    tls: Option<Arc<ServerTls>>,
    limits: PoolLimits,
    hub: Arc<Hub>,
    asked: mpsc::UnboundedReceiver<HubRequest>,
}

impl Doors {
    /// Listens for workers. `tls` is the clients'.
    ///
    /// # Errors
    /// Class `port_in_use` or `listen`, or `option` for the files of TLS.
    pub(super) fn open(settings: &HubSettings, tls: Option<&TlsSettings>) -> Result<Self, Failure> {
        let host = &settings.worker_host;
        let workers = listen_tcp("worker_", host, settings.worker_port)?;
        let pothead = match settings.pothead_port {
            Some(port) => Some(listen_tcp("pothead_", host, port)?),
            None => None,
        };
        // A worker has a token, and needs no certificate.
        let tls = tls.map(|tls| ServerTls::load_http1(&tls.without_client_ca()));
        let (hub, asked) = Hub::new(settings);
        Ok(Self {
            workers,
            pothead,
            token: settings.token.clone(),
            tls: tls.transpose()?.map(Arc::new),
            limits: settings.limits.clone(),
            hub,
            asked,
        })
    }

    /// Where workers dial in.
    pub(super) fn workers(&self) -> &Endpoint {
        self.workers.endpoint()
    }

    /// Where workers of POTHEAD do.
    pub(super) fn pothead(&self) -> Option<&Endpoint> {
        self.pothead.as_ref().map(Bound::endpoint)
    }
}

impl ServerTask {
    /// Lets workers in, and does what they need of the server. To be called in the runtime.
    ///
    /// # Errors
    /// The runtime has no room for the listeners.
    pub(super) fn serve_hub(self: &Arc<Self>, doors: Doors) -> Result<(), Failure> {
        let Doors {
            workers,
            pothead,
            token,
            tls,
            limits,
            hub,
            mut asked,
        } = doors;
        if let Some(tls) = &tls {
            // Set once.
            let _ = self.other_tls.set(tls.clone());
        }
        let workers = workers.into_tcp().map_err(system)?;
        tokio::spawn(let_in_workers(
            self.front.clone(),
            Arc::new(hub.clone()),
            token,
            tls,
            workers,
        ));
        if let Some(pothead) = pothead {
            let pothead = pothead.into_tcp().map_err(system)?;
            tokio::spawn(let_in_pothead(self.front.clone(), hub, pothead));
        }
        let task = self.clone();
        tokio::spawn(async move {
            while let Some(request) = asked.recv().await {
                match request {
                    HubRequest::Open(route, pool) => task.open_pool(route, pool, &limits),
                    HubRequest::Forget(name) => task.forget_pool(name),
                }
            }
        });
        Ok(())
    }

    /// Requests find it at once: its first slot is there.
    fn open_pool(&self, route: Route, pool: HubPool, limits: &PoolLimits) {
        let settings = PoolSettings {
            route,
            limits: limits.clone(),
            source: Source::Hub,
            sessions: None,
        };
        let prepared = PreparedPool {
            settings,
            source: Prepared::Hub(pool),
        };
        let made = prepared.settings.pool(&self.front.ops, &self.front.metrics);
        match made {
            Ok(made) => {
                self.front.pools.add(made.clone(), Membership::Routed);
                self.start(made, prepared);
            }
            // Its slots close with it, and their workers dial again.
            Err(failure) => tracing::error!("{}", failure.message),
        }
    }

    fn forget_pool(self: &Arc<Self>, name: Arc<str>) {
        let Some(pool) = self.front.pools.named(&name) else {
            return;
        };
        let _entered = ops::pool_span(&name).entered();
        tracing::info!("no worker has offered slots for long: the route \"{name}\" is forgotten");
        let task = self.clone();
        tokio::spawn(async move { task.remove(pool, Some(FORGET_GRACE)).await });
    }
}
