//! A whole server over replicas: scripted upstreams on addresses of the loopback interface, all on one port.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};

use faucet_core::front::Limits;
use faucet_core::ops::status::{LookupState, LookupStatus, PoolStatus, State, WorkerStatus};
use faucet_core::pool::{PoolLimits, Route};
use faucet_core::server::{Phase, Request, Server, Settings};
use faucet_core::sources::replicas::{Settings as ReplicasSettings, Target};
use faucet_core::sources::{Failure, Source};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use super::dns::Dns;
use super::{only, until, Client, Gate, Seen, Upstream, Wire, PATIENCE};

/// The name that most tests look up.
pub const NAME: &str = "api.test";

/// Never, as far as a test can tell.
pub const NEVER: std::time::Duration = std::time::Duration::from_secs(3600);

/// The address of a test's replica, counted from 1.
pub fn ip(number: u16) -> IpAddr {
    let [high, low] = [number / 250, number % 250].map(|part| part as u8 + 1);
    Ipv4Addr::new(127, 0, high, low).into()
}

/// The addresses of several.
pub fn ips(numbers: impl IntoIterator<Item = u16>) -> Vec<IpAddr> {
    numbers.into_iter().map(ip).collect()
}

/// One port, the same for all replicas, that nobody else is given while this exists.
pub struct Port {
    pub number: u16,
    _held: Socket,
}

impl Port {
    pub fn new() -> Self {
        // Bound to all addresses, so that it is free on each; never listening, so that others can.
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        held.bind(&any.into()).expect("a free port");
        held.set_reuse_address(true).expect("a live socket");
        let number = held.local_addr().expect("bound").as_socket();
        Self {
            number: number.expect("an address").port(),
            _held: held,
        }
    }

    pub fn at(&self, replica: u16) -> SocketAddr {
        SocketAddr::new(ip(replica), self.number)
    }

    /// What a server over the replicas is told.
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    pub fn url_of(&self, name: &str) -> String {
        format!("http://{name}:{}", self.number)
    }

    pub async fn start<F, Fut>(&self, replica: u16, handler: F) -> Upstream
    where
        F: Fn(Seen, Wire) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Wire>> + Send + 'static,
    {
        let address = self.at(replica);
        // The one before it may be about to go.
        self.vacant(replica).await;
        Upstream::start_at(address, handler).await
    }

    /// A replica that answers every request with its own number.
    pub async fn echo(&self, replica: u16) -> Upstream {
        self.start(replica, move |_, wire: Wire| async move {
            wire.ok(replica.to_string()).await
        })
        .await
    }

    /// The same, each answer once its gate is opened.
    pub async fn gated(&self, replica: u16) -> (Upstream, Gate) {
        let gate = Gate::default();
        let inner = gate.clone();
        let upstream = self
            .start(replica, move |_, wire: Wire| {
                let gate = inner.clone();
                async move {
                    gate.pass().await;
                    wire.ok(replica.to_string()).await
                }
            })
            .await;
        (upstream, gate)
    }

    /// Waits until nobody listens there.
    pub async fn vacant(&self, replica: u16) {
        let address = self.at(replica);
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

/// A running server.
pub struct Replicas {
    pub server: Server,
    /// What was logged so far.
    pub lines: Vec<String>,
}

/// What a test may change before the server starts.
pub struct Setup {
    settings: Settings,
    pub pool: PoolLimits,
    pub replicas: ReplicasSettings,
    pub route: Route,
}

impl Deref for Setup {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl DerefMut for Setup {
    fn deref_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }
}

impl Replicas {
    /// Starts a server that looks up `url`. It looks again every few milliseconds.
    pub fn start(url: &str, dns: Option<&Dns>, change: impl FnOnce(&mut Setup)) -> Self {
        let replicas = ReplicasSettings {
            target: Target::parse(url).expect("a URL"),
            slots: 1,
            refresh: Some(std::time::Duration::from_millis(20)),
            ready_path: None,
            dns: dns.map(|dns| dns.address),
            boot_timeout: PATIENCE,
            cancel: true,
            ca: None,
        };
        let settings = Settings {
            limits: Limits {
                max_connections: 1000,
                ..Limits::default()
            },
            ..Settings::default()
        };
        let pool = PoolLimits {
            queue: 1000,
            queue_timeout: None,
            ..PoolLimits::default()
        };
        let mut setup = Setup {
            settings,
            pool,
            replicas,
            route: Route::root(),
        };
        change(&mut setup);
        let Setup {
            mut settings,
            pool,
            replicas,
            route,
        } = setup;
        settings.pools = only(pool, Source::Replicas(replicas));
        settings.pools[0].route = route;
        Self {
            server: Server::start(settings).expect("a server"),
            lines: Vec::new(),
        }
    }

    /// The same over [`NAME`], once these replicas serve.
    pub async fn ready(
        port: &Port,
        dns: &Dns,
        replicas: &[u16],
        change: impl FnOnce(&mut Setup),
    ) -> Self {
        let server = Self::start(&port.url(), Some(dns), change);
        server.serve(port, replicas).await;
        server
    }

    pub fn status(&self) -> PoolStatus {
        self.server.status().pop().unwrap_or_default()
    }

    /// The worker at an address.
    pub fn at(&self, address: SocketAddr) -> Option<WorkerStatus> {
        let address = address.to_string();
        let mut workers = self.status().workers.into_iter();
        workers.find(|worker| worker.address.as_ref() == Some(&address))
    }

    pub fn state(&self, address: SocketAddr) -> Option<State> {
        self.at(address).map(|worker| worker.state)
    }

    /// Waits until the worker at an address is in a state.
    pub async fn is(&self, address: SocketAddr, state: State) {
        let what = format!("{address} is {}", state.name());
        self.until(&what, || self.state(address) == Some(state))
            .await;
    }

    /// Waits until there is no worker at an address.
    pub async fn is_gone(&self, address: SocketAddr) {
        let what = format!("{address} is gone");
        self.until(&what, || self.at(address).is_none()).await;
    }

    /// Waits until these replicas and no others are there, all free.
    pub async fn serve(&self, port: &Port, replicas: &[u16]) {
        let mut wanted: Vec<_> = replicas
            .iter()
            .map(|replica| (port.at(*replica).to_string(), State::Ready))
            .collect();
        wanted.sort_by(|one, other| one.0.cmp(&other.0));
        self.until(&format!("replicas {replicas:?} serve"), || {
            let workers = self.status().workers.into_iter();
            let mut found: Vec<_> = workers
                .map(|worker| (worker.address.unwrap_or_default(), worker.state))
                .collect();
            found.sort_by(|one, other| one.0.cmp(&other.0));
            found == wanted
        })
        .await;
    }

    /// Waits for a condition; shows the workers if it never comes true.
    pub async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = std::time::Instant::now();
        while !condition() {
            if start.elapsed() > PATIENCE {
                let status = self.status();
                let (lines, _) = self.server.take_lines();
                panic!(
                    "never came true: {what}\n{:?} {:#?}\n{lines:#?}",
                    self.server.phase(),
                    status
                );
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Waits until so many requests wait for a worker.
    pub async fn queued(&self, count: usize) {
        let what = format!("{count} requests wait in the queue");
        self.until(&what, || self.status().queue == count).await;
    }

    pub fn lookup(&self) -> LookupStatus {
        let lookup = self.status().lookup;
        lookup.expect("a server over a name tells how it resolves")
    }

    /// Waits until the last lookup has ended so.
    pub async fn looked_up(&self, state: LookupState) {
        let what = format!("the lookup is {}", state.name());
        // A server that was started just now has nothing to tell yet.
        let is_so = || self.status().lookup.map(|lookup| lookup.state) == Some(state);
        self.until(&what, is_so).await;
    }

    /// Waits until the server has failed, and tells why.
    pub async fn failed(&self) -> Failure {
        let mut failure = None;
        self.until("the server has failed", || {
            if let Phase::Failed(why) = self.server.phase() {
                failure = Some(why);
            }
            failure.is_some()
        })
        .await;
        failure.expect("just set")
    }

    /// Asks for something and waits for its end.
    pub async fn ask(&mut self, request: Request) -> Result<(), Failure> {
        let id = self.server.ask(request);
        self.result(id).await
    }

    /// Waits for the end of what was asked.
    pub async fn result(&self, id: u64) -> Result<(), Failure> {
        let mut result = None;
        self.until("the command has ended", || {
            result = self.server.result(id);
            result.is_some()
        })
        .await;
        result.expect("just set")
    }

    pub async fn client(&self) -> Client {
        let url = self.server.url().expect("a port");
        let address = url.trim_start_matches("http://").parse();
        Client::connect(address.expect("an address")).await
    }

    /// A request on a connection of its own, which is on its way when this returns.
    pub async fn start_get(&self, target: &str) -> Client {
        let mut client = self.client().await;
        client.start_get(target).await;
        client
    }

    /// Lines of the log so far that contain `part`.
    pub fn logged(&mut self, part: &str) -> usize {
        let (lines, _) = self.server.take_lines();
        self.lines.extend(lines.into_iter().map(|line| line.text));
        self.lines.iter().filter(|line| line.contains(part)).count()
    }

    /// Waits for a line of the log.
    pub async fn until_logged(&mut self, part: &str) {
        self.until_logged_times(part, 1).await;
    }

    /// Waits for several.
    pub async fn until_logged_times(&mut self, part: &str, times: usize) {
        let start = std::time::Instant::now();
        while self.logged(part) < times {
            assert!(
                start.elapsed() < PATIENCE,
                "never logged: {part}\n{:#?}",
                self.lines
            );
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Waits until the server is gone.
    pub async fn is_over(&self) {
        until("the server is gone", || !self.server.is_running()).await;
    }
}
