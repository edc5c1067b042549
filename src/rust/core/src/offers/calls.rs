//! Connections that an agent keeps open at proxies which cannot dial it: whoever takes one there asks on it, as any client does,
//! and the agent dials another.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;

use super::dial::dial;
use super::{HubAddress, OffersSettings};
use crate::client_address::ClientAddress;
use crate::front::{enter_dialled, serve_dialled, Front};
use crate::gates::GateSettings;
use crate::pool::Route;
use crate::sources::backoff;
use crate::sources::replicas::{look_up, Target};
use crate::sources::Failure;
use crate::tls::ClientTls;
use crate::token::Token;

/// So many connections are open at each proxy on which nothing is asked. A burst of more has to wait for as long as it takes to
/// dial.
const OPEN: usize = 8;

/// Between two tries at a proxy that does not take calls.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whom an agent calls.
#[derive(Clone, Debug, PartialEq)]
pub struct CallsSettings {
    pub proxies: Vec<HubAddress>,
    pub token: Option<Token>,
    /// What the proxies call this machine.
    pub name: String,
    /// Certificates (PEM) of those who vouch for the proxies', in place of the system's.
    pub ca: Option<std::path::PathBuf>,
}

/// An agent's calls.
pub struct Calls {
    settings: Arc<OffersSettings>,
    tls: Option<Arc<ClientTls>>,
}

impl Calls {
    /// Reads the environment: to be called on R's thread.
    ///
    /// # Errors
    /// Class `option`: certificates that proxies are checked by cannot be read, or there are none.
    pub fn new(settings: CallsSettings) -> Result<Self, Failure> {
        let tls = settings.proxies.iter().any(|proxy| proxy.tls);
        let tls = tls.then(|| ClientTls::load(settings.ca.as_deref()));
        Ok(Self {
            tls: tls.transpose()?.map(Arc::new),
            settings: Arc::new(OffersSettings {
                hubs: settings.proxies,
                token: settings.token,
                name: settings.name,
                route: Route::root(),
                gates: GateSettings::default(),
                ca: settings.ca,
                redirect: None,
            }),
        })
    }

    /// Keeps connections open until the server takes nothing new. To be called in the runtime.
    pub fn start(&self, front: &Arc<Front>) {
        for place in 0..self.settings.hubs.len() {
            for number in 0..OPEN {
                let (front, settings, tls) =
                    (front.clone(), self.settings.clone(), self.tls.clone());
                // One of them tells what is wrong.
                let work = keep_one(front, settings, tls, place, number == 0);
                tokio::spawn(work);
            }
        }
    }
}

/// Keeps one connection open on which nothing is asked.
async fn keep_one(
    front: Arc<Front>,
    settings: Arc<OffersSettings>,
    tls: Option<Arc<ClientTls>>,
    place: usize,
    tells: bool,
) {
    let hub = &settings.hubs[place];
    let mut failures = 0;
    let mut closed = std::pin::pin!(front.connections.closed());
    while !front.lifecycle.draining.load(Ordering::Relaxed) {
        let called = tokio::select! {
            called = call(&front, &settings, tls.as_deref(), hub) => called,
            () = closed.as_mut() => return,
        };
        match called {
            Ok(()) => {
                if failures > 0 && tells {
                    tracing::info!("proxy {} takes calls again", hub.authority());
                }
                failures = 0;
            }
            Err(why) => {
                if failures == 0 && tells {
                    tracing::warn!("proxy {} takes no calls: {why}", hub.authority());
                }
                failures += 1;
                // Never at once: it may have closed what it had just taken.
                let pause = backoff::pause(failures + 1, LONGEST_PAUSE, backoff::jitter());
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Dials, and waits until something is asked, which is answered apart from this.
async fn call(
    front: &Arc<Front>,
    settings: &OffersSettings,
    tls: Option<&ClientTls>,
    hub: &HubAddress,
) -> Result<(), String> {
    let target = Target::parse(&format!("http://{}", hub.authority()))?;
    let found = look_up(&target, None).await;
    let found = found.map_err(|error| error.to_string())?;
    let address = *found.addresses.iter().next().ok_or("it has no address")?;
    let Some(entered) = enter_dialled(front) else {
        return Err("too few descriptors are left".into());
    };
    let slot = dial(address, hub, tls, settings).await?;
    if slot.unread.is_empty() {
        let ready = slot.stream.ready(Interest::READABLE).await;
        ready.map_err(|error| error.to_string())?;
        let mut first = [0];
        if !matches!(slot.stream.peek(&mut first).await, Ok(1)) {
            return Err("it has closed the connection".into());
        }
    }
    let peer = ClientAddress::from(address.ip());
    tokio::spawn(serve_dialled(slot.stream, slot.unread, peer, None, entered));
    Ok(())
}
