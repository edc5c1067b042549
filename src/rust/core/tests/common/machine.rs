//! A machine whose slots are offered to hubs: a whole server in front of upstreams.

use faucet_core::gates::GateSettings;
use faucet_core::offers::{HubAddress, OffersSettings};
use faucet_core::pool::{PoolLimits, Route};
use faucet_core::server::{Request, Server, Settings};
use faucet_core::sources::replicas::{Settings as ReplicasSettings, Target};
use faucet_core::sources::Source;

use super::hub::{bare, HubServer};
use super::{only, until, Upstream, PATIENCE};

/// A running machine. Its workers are one upstream with so many slots.
pub struct Machine {
    pub server: Server,
}

impl Machine {
    pub async fn start(hubs: &[&HubServer], upstream: &Upstream, slots: u32) -> Self {
        Self::with(hubs, upstream, slots, |_| {}).await
    }

    pub async fn with(
        hubs: &[&HubServer],
        upstream: &Upstream,
        slots: u32,
        change: impl FnOnce(&mut OffersSettings),
    ) -> Self {
        Self::of(hubs, upstream, slots, |settings| {
            settings.offers.as_mut().map(change);
        })
        .await
    }

    pub async fn of(
        hubs: &[&HubServer],
        upstream: &Upstream,
        slots: u32,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let address = |hub: &&HubServer| HubAddress {
            host: hub.workers.ip().to_string(),
            port: hub.workers.port(),
            tls: false,
        };
        let offers = OffersSettings {
            hubs: hubs.iter().map(address).collect(),
            token: None,
            name: "box".into(),
            route: Route::root(),
            gates: GateSettings::default(),
            ca: None,
            redirect: None,
        };
        let target = format!("http://{}", upstream.address);
        let source = Source::Replicas(ReplicasSettings {
            target: Target::parse(&target).expect("an address"),
            slots,
            refresh: None,
            ready_path: None,
            dns: None,
            boot_timeout: PATIENCE,
            cancel: true,
            ca: None,
        });
        let mut settings = Settings {
            port: None,
            offers: Some(offers),
            pools: only(PoolLimits::default(), source),
            ..bare()
        };
        change(&mut settings);
        let server = Server::start(settings);
        let server = server.unwrap_or_else(|failure| panic!("{}", failure.message));
        until("it has workers", || server.counts().serving == 1).await;
        Self { server }
    }

    /// Ends it; what is in flight may finish.
    pub async fn stop(&mut self) {
        let id = self.server.ask(Request::Stop(Some(PATIENCE)));
        until("it has stopped", || self.server.result(id).is_some()).await;
    }
}
