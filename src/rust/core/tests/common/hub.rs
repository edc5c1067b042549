//! A server that workers dial in to.

use std::net::SocketAddr;
use std::time::Duration;

use faucet_core::front::Limits;
use faucet_core::ops::status::{State, WorkerStatus};
use faucet_core::pool::PoolLimits;
use faucet_core::server::{Request, Server, Settings};
use faucet_core::sources::hub::{HubSettings, Token};
use faucet_core::tls::TlsSettings;

use super::{until, Client, PATIENCE};

/// A running hub.
pub struct HubServer {
    pub server: Server,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where workers dial in.
    pub workers: SocketAddr,
}

/// A server without pools.
pub fn bare() -> Settings {
    Settings {
        limits: Limits {
            max_connections: 1000,
            ..Limits::default()
        },
        ..Settings::default()
    }
}

impl HubServer {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut HubSettings)) -> Self {
        Self::secured(None, change).await
    }

    pub async fn secured(tls: Option<TlsSettings>, change: impl FnOnce(&mut HubSettings)) -> Self {
        let mut hub = HubSettings {
            worker_host: "127.0.0.1".into(),
            worker_port: 0,
            pothead_port: None,
            token: None,
            forget_after: Some(PATIENCE),
            limits: PoolLimits::default(),
            cancel: true,
        };
        change(&mut hub);
        let server = Server::start(Settings {
            hub: Some(hub),
            admin_port: Some(0),
            tls,
            ..bare()
        });
        let server = server.unwrap_or_else(|failure| panic!("{}", failure.message));
        let url = server.url().expect("a port");
        let (_, address) = url.split_once("://").expect("a URL");
        let address = address.parse().expect("one");
        let workers = server.worker_address().expect("a port");
        let workers = workers.parse().expect("an address");
        until("the hub is ready", || server.phase().name() == "ready").await;
        Self {
            server,
            address,
            workers,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub fn slots(&self) -> Vec<WorkerStatus> {
        let pools = self.server.status();
        pools.into_iter().flat_map(|pool| pool.workers).collect()
    }

    /// Waits until so many slots are offered, and no others are there.
    pub async fn offered(&self, count: usize) {
        until("slots are offered", || {
            let slots = self.slots();
            slots.len() == count && slots.iter().all(|slot| slot.state == State::Ready)
        })
        .await;
    }

    /// Waits until at least so many slots are there.
    pub async fn at_least(&self, count: usize) {
        until("slots are there", || self.slots().len() >= count).await;
    }

    /// Ends it; what is in flight may finish.
    pub async fn stop(&mut self) {
        let id = self.server.ask(Request::Stop(Some(PATIENCE)));
        until("it has stopped", || self.server.result(id).is_some()).await;
    }

    pub fn token(text: &str) -> Option<Token> {
        Some(Token::new(text.to_owned()))
    }
}

/// Soon enough for a test to wait for, and never reached by what is alive.
pub const FORGET: Duration = Duration::from_millis(50);
