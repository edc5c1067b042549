//! A whole server in front of one upstream: what a front meets in a pod that runs faucet.

use std::net::SocketAddr;
use std::time::Duration;

use faucet_core::front::Limits;
use faucet_core::pool::PoolLimits;
use faucet_core::server::{Request, Server, Settings};
use faucet_core::sources::replicas::{Settings as ReplicasSettings, Target};
use faucet_core::sources::Source;

use super::house::loopback;
use super::{only, until, Client, Upstream, PATIENCE};

/// A running server. Its one worker is the upstream.
pub struct Pod {
    pub server: Server,
    pub address: SocketAddr,
}

impl Pod {
    pub async fn start(upstream: &Upstream) -> Self {
        let target = format!("http://{}", upstream.address);
        let server = Server::start(Settings {
            limits: Limits {
                max_connections: 1000,
                ..Limits::default()
            },
            fronts: loopback(),
            pools: only(
                PoolLimits::default(),
                Source::Replicas(ReplicasSettings {
                    target: Target::parse(&target).expect("an address"),
                    slots: 1,
                    refresh: None,
                    ready_path: None,
                    dns: None,
                    boot_timeout: PATIENCE,
                    cancel: true,
                    ca: None,
                }),
            ),
            ..Settings::default()
        })
        .expect("it starts");
        let url = server.url().expect("a port");
        let address = url.trim_start_matches("http://").parse().expect("one");
        let pod = Self { server, address };
        until("the pod is ready", || pod.server.counts().serving == 1).await;
        pod
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Takes nothing new from now on; a number for [`done`](Self::done).
    pub fn drain(&mut self) -> u64 {
        self.server.ask(Request::Drain(Some(PATIENCE)))
    }

    /// The same, and ends then.
    pub fn stop(&mut self) -> u64 {
        self.server.ask(Request::Stop(Some(PATIENCE)))
    }

    /// Waits until a drain has come to its end.
    pub async fn done(&self, id: u64) {
        let mut result = None;
        until("it has drained", || {
            result = self.server.result(id);
            result.is_some()
        })
        .await;
        result.expect("just seen").expect("nothing was cut");
    }

    /// Waits until nobody can connect any more.
    pub async fn closed(&self) {
        while tokio::net::TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
