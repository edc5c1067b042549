//! The slots of this machine's workers, offered to hubs that it dials.
//!
//! At each address of each hub stand as many offers as there are workers free, and no more than the gates allow. An offer
//! is a connection on which nothing is asked: it is dialled once, and carries one request after the other. Who gets a
//! worker is the lock table's to say: with several hubs, the one that comes second is told that nobody is free, and asks
//! for a turn.

mod address;
mod calls;
mod dial;
mod link;
mod settings;

pub use address::is_loopback;
pub(crate) use calls::Calls;
pub use calls::CallsSettings;
pub use settings::{HubAddress, OffersSettings, RedirectSettings};

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::dial::{dial, Slot};
use self::link::Link;
use crate::client_address::ClientAddress;
use crate::front::{enter_dialled, serve_dialled, ConnectionState, Front, Offer, Redirects};
use crate::gates::Gates;
use crate::pool::Pool;
use crate::sources::replicas::{look_up, Host, Target};
use crate::sources::Failure;
use crate::tls::ClientTls;

/// From one lookup of a hub's name to the next.
const REFRESH: Duration = Duration::from_secs(5);

/// Between two looks at what nobody tells: how many workers there may be.
const LOOK: Duration = Duration::from_secs(1);

/// One address of a hub, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubStatus {
    /// As it was given.
    pub hub: String,
    /// `None` while its name leads nowhere.
    pub address: Option<SocketAddr>,
    /// Offers that stand, and connections in all.
    pub offers: usize,
    pub connections: usize,
    /// What went wrong last, until something goes well.
    pub trouble: Option<String>,
}

/// What is known of all hubs, for whoever asks.
#[derive(Clone, Default)]
pub struct HubsStatus(Arc<Mutex<Vec<HubStatus>>>);

impl HubsStatus {
    fn lock(&self) -> MutexGuard<'_, Vec<HubStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self) -> Vec<HubStatus> {
        self.lock().clone()
    }
}

enum Event {
    /// The name of the hub with this place leads there.
    Found(usize, Result<BTreeSet<SocketAddr>, String>),
    /// A slot is offered on this connection.
    Opened(Key, u64, Arc<ConnectionState>),
    Failed(Key, String),
    Ended(Key, u64),
}

/// Which hub, and which of its addresses.
type Key = (usize, SocketAddr);

/// What offers slots, before there is a server.
pub struct PreparedOffers {
    settings: OffersSettings,
    tls: Option<ClientTls>,
    gates: Arc<Gates>,
    redirects: Option<Arc<Redirects>>,
    status: HubsStatus,
}

impl PreparedOffers {
    /// Reads the environment: to be called on R's thread. `redirects`: where answers wait whose bodies do not go through the hub.
    ///
    /// # Errors
    /// Class `option`: certificates that hubs are checked by cannot be read, or there are none.
    pub fn new(
        settings: OffersSettings,
        redirects: Option<Arc<Redirects>>,
    ) -> Result<Self, Failure> {
        let tls = settings.hubs.iter().any(|hub| hub.tls);
        let tls = tls.then(|| ClientTls::load(settings.ca.as_deref()));
        Ok(Self {
            tls: tls.transpose()?,
            gates: Gates::new(settings.gates.clone()),
            redirects,
            settings,
            status: HubsStatus::default(),
        })
    }

    pub fn gates(&self) -> &Arc<Gates> {
        &self.gates
    }

    pub fn status(&self) -> &HubsStatus {
        &self.status
    }

    /// Of the workers of `pool`.
    pub fn start(self, front: Arc<Front>, pool: Arc<Pool>) -> Offers {
        Offers::new(front, pool, self)
    }
}

/// Keeps offers standing.
pub struct Offers {
    front: Arc<Front>,
    pool: Arc<Pool>,
    settings: Arc<OffersSettings>,
    tls: Option<Arc<ClientTls>>,
    gates: Arc<Gates>,
    redirects: Option<Arc<Redirects>>,
    status: HubsStatus,
    events: mpsc::UnboundedSender<Event>,
    happened: mpsc::UnboundedReceiver<Event>,
    links: BTreeMap<Key, Link>,
    /// Those that the names lead to now.
    wanted: BTreeSet<Key>,
    /// Why a name leads nowhere, by the hub's place.
    unfound: BTreeMap<usize, String>,
    next_connection: u64,
}

impl Offers {
    fn new(front: Arc<Front>, pool: Arc<Pool>, prepared: PreparedOffers) -> Self {
        let (events, happened) = mpsc::unbounded_channel();
        Self {
            front,
            pool,
            settings: Arc::new(prepared.settings),
            tls: prepared.tls.map(Arc::new),
            gates: prepared.gates,
            redirects: prepared.redirects,
            status: prepared.status,
            events,
            happened,
            links: BTreeMap::new(),
            wanted: BTreeSet::new(),
            unfound: BTreeMap::new(),
            next_connection: 0,
        }
    }

    /// Runs until the server takes nothing new. Connections end with those of clients.
    pub async fn run(mut self) {
        let gates = self.gates.clone();
        let mut looking = pin!(gates.clone().run());
        let front = self.front.clone();
        let mut closed = pin!(front.connections.closed());
        for place in 0..self.settings.hubs.len() {
            tokio::spawn(keep_looking(
                self.settings.clone(),
                place,
                self.events.clone(),
            ));
        }
        loop {
            // Before the look, so that nothing is missed between look and wait.
            let changed = gates.changed();
            if front.lifecycle.draining.load(Ordering::Relaxed) {
                return;
            }
            let next = self.balance();
            self.publish();
            let (table, least) = (self.pool.table.clone(), self.least_promised());
            let roomier = table.roomier_than(table.room().max(least));
            tokio::select! {
                Some(event) = self.happened.recv() => self.handle(event),
                () = changed => {}
                () = roomier => {}
                () = tokio::time::sleep_until(next) => {}
                () = looking.as_mut() => {}
                () = closed.as_mut() => return,
            }
        }
    }

    /// Workers that could begin something now, those that would be started for it among them.
    fn free(&self) -> usize {
        let (table, roster) = (&self.pool.table, &self.pool.roster);
        let (now, capacity) = (table.room(), roster.capacity() as usize);
        if capacity > table.capacity() as usize {
            now.max(capacity.saturating_sub(table.leases()))
        } else {
            now
        }
    }

    /// Dials where offers are missing, and takes back those that may not stand; when to look again.
    fn balance(&mut self) -> Instant {
        let (free, running) = (self.free(), self.pool.table.leases());
        let room = match self.gates.room() {
            0 if running == 0 && !self.gates.strict() => 1,
            room => room as usize,
        };
        let capacity = self.pool.roster.capacity() as usize;
        let mut next = Instant::now() + LOOK;
        let mut missing = Vec::new();
        for (key, link) in &mut self.links {
            if !self.wanted.contains(key) {
                link.withdraw(0);
                continue;
            }
            link.withdraw(room.min(capacity));
            for _ in 0..link.dial(free.min(room)) {
                missing.push(*key);
            }
            if let Some(time) = link.next_try() {
                next = next.min(time);
            }
        }
        for key in missing {
            self.dial(key);
        }
        let wanted = &self.wanted;
        self.links
            .retain(|key, link| wanted.contains(key) || !link.is_over());
        next
    }

    fn least_promised(&self) -> usize {
        let links = self.links.values().map(Link::promised);
        links.min().unwrap_or(usize::MAX)
    }

    fn dial(&mut self, key: Key) {
        let number = self.next_connection;
        self.next_connection += 1;
        let (front, settings) = (self.front.clone(), self.settings.clone());
        let offer = Offer::new(self.gates.clone(), self.redirects.clone());
        let events = self.events.clone();
        let tls = self.tls.clone();
        tokio::spawn(async move {
            let (place, address) = key;
            // Fails only when nobody offers anything any more.
            let tell = |event| drop(events.send(event));
            let Some(entered) = enter_dialled(&front) else {
                return tell(Event::Failed(key, "too few descriptors are left".into()));
            };
            let hub = &settings.hubs[place];
            let Slot { stream, unread } = match dial(address, hub, tls.as_deref(), &settings).await
            {
                Ok(slot) => slot,
                Err(trouble) => return tell(Event::Failed(key, trouble)),
            };
            let peer = ClientAddress::from(address.ip());
            tell(Event::Opened(key, number, entered.connection.clone()));
            serve_dialled(stream, unread, peer, Some(offer), entered).await;
            tell(Event::Ended(key, number));
        });
    }

    fn handle(&mut self, event: Event) {
        let name = |settings: &OffersSettings, (place, address): Key| {
            let hub = settings.hubs[place].authority();
            if hub == address.to_string() {
                hub
            } else {
                format!("{hub} ({address})")
            }
        };
        match event {
            Event::Found(place, Ok(addresses)) => {
                if self.unfound.remove(&place).is_some() {
                    tracing::info!("{} resolves again", self.settings.hubs[place].authority());
                }
                self.wanted.retain(|(hub, _)| *hub != place);
                for address in addresses {
                    self.wanted.insert((place, address));
                    self.links.entry((place, address)).or_default();
                }
            }
            // Those that were found last stay.
            Event::Found(place, Err(problem)) => {
                if !self.unfound.contains_key(&place) {
                    let hub = self.settings.hubs[place].authority();
                    tracing::warn!("hub {hub} cannot be looked up: {problem}");
                }
                self.unfound.insert(place, problem);
            }
            Event::Opened(key, number, connection) => {
                let Some(link) = self.links.get_mut(&key) else {
                    return;
                };
                if link.opened(number, connection) {
                    tracing::info!("offers slots to hub {}", name(&self.settings, key));
                }
            }
            Event::Failed(key, trouble) => {
                let Some(link) = self.links.get_mut(&key) else {
                    return;
                };
                let line = format!("hub {}: {trouble}", name(&self.settings, key));
                if link.failed(trouble) {
                    tracing::warn!("{line}; it is tried again");
                }
            }
            Event::Ended(key, number) => {
                if let Some(link) = self.links.get_mut(&key) {
                    link.ended(number);
                }
            }
        }
    }

    fn publish(&self) {
        let mut all = Vec::new();
        for (place, hub) in self.settings.hubs.iter().enumerate() {
            let links = self.links.range((place, LOWEST)..);
            let mut links = links.take_while(|((of, _), _)| *of == place).peekable();
            if links.peek().is_none() {
                all.push(HubStatus {
                    hub: hub.authority(),
                    address: None,
                    offers: 0,
                    connections: 0,
                    trouble: self.unfound.get(&place).cloned(),
                });
            }
            for ((_, address), link) in links {
                all.push(HubStatus {
                    hub: hub.authority(),
                    address: Some(*address),
                    offers: link.offers(),
                    connections: link.connections(),
                    trouble: link.trouble.clone(),
                });
            }
        }
        *self.status.lock() = all;
    }
}

/// Before all other addresses.
const LOWEST: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Looks a hub's name up again and again.
async fn keep_looking(
    settings: Arc<OffersSettings>,
    place: usize,
    events: mpsc::UnboundedSender<Event>,
) {
    let hub = &settings.hubs[place];
    loop {
        let target = Target::parse(&format!("http://{}", hub.authority()));
        let found = match &target {
            Ok(target) => look_up(target, None).await,
            Err(problem) => {
                let _ = events.send(Event::Found(place, Err(problem.clone())));
                return;
            }
        };
        let lasts = matches!(&found, Ok(found) if found.ttl.is_none());
        let pause = match (&target, &found) {
            // Looking it up is knocking there.
            (Ok(target), Ok(found)) if *target.host() == Host::Loopback => {
                found.ttl.unwrap_or_default().max(REFRESH)
            }
            _ => REFRESH,
        };
        let found = found
            .map(|found| found.addresses)
            .map_err(|problem| problem.to_string());
        // Nobody offers anything any more.
        if events.send(Event::Found(place, found)).is_err() || lasts {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}
