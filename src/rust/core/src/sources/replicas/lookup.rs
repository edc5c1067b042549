//! Asking what a name resolves to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfigGroup, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::proto::ProtoErrorKind;
use hickory_resolver::{
    system_conf, Hosts as HostsFile, Name, ResolveError, ResolveErrorKind, TokioResolver,
};
use tokio::task::JoinSet;

use super::target::{Host, Target};
use crate::environment::SystemError;
use crate::worker::{Address, Connection};

/// All that a lookup asks, servers' retries included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hosts of SRV records that are asked for at a time.
const AT_ONCE: usize = 32;

/// The longest time until the next lookup: the hosts file has no times to live.
pub(super) const LONGEST_TTL: Duration = Duration::from_secs(60);

/// What a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub addresses: BTreeSet<SocketAddr>,
    /// How long that holds; `None` for ever.
    pub ttl: Option<Duration>,
}

/// Why a lookup found nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// The servers say so.
    #[error("{0}")]
    Empty(String),
    /// The servers say nothing, or that they cannot say.
    #[error("{0}")]
    Failed(String),
}

/// Looks up what `target` names, at `dns` or the servers of resolv.conf. That file and the hosts file are read anew each
/// time: both may change while a container runs.
///
/// # Errors
/// Where there is no address, or no answer.
pub async fn look_up(target: &Target, dns: Option<SocketAddr>) -> Result<Found, NotFound> {
    let (name, port) = match target.host() {
        Host::Address(address) => {
            return Ok(Found {
                addresses: [SocketAddr::new(*address, target.port())].into(),
                ttl: None,
            });
        }
        Host::Loopback => {
            let (address, answers) = loopback(target.port()).await;
            return Ok(Found {
                addresses: [address].into(),
                // While nobody does, it may yet be the other one.
                ttl: Some(if answers { LONGEST_TTL } else { Duration::ZERO }),
            });
        }
        Host::Name(name) => (name, Some(target.port())),
        Host::Service(name) => (name, None),
    };
    let resolver = Resolver::new(dns)?;
    // As ASCII: read as UTF-8, a name with an underscore inside a label would be none.
    let name = Name::from_ascii(name).map_err(|error| NotFound::Failed(error.to_string()))?;
    let asked = async {
        match port {
            Some(port) => resolver.addresses(name).await.map(|found| found.at(port)),
            None => resolver.services(name).await,
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(NotFound::Failed("no answer in time".into())))
}

/// This machine's name leads to one process by two addresses: the one that it answers at, and whether it does.
async fn loopback(port: u16) -> (SocketAddr, bool) {
    let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for address in [four, SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        if Connection::open(&Address::Tcp(address)).await.is_ok() {
            return (address, true);
        }
    }
    (four, false)
}

/// Addresses of one family, and until when they hold.
struct Hosts {
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl Hosts {
    fn at(self, port: u16) -> Found {
        Found {
            addresses: self
                .addresses
                .into_iter()
                .map(|address| SocketAddr::new(address.to_canonical(), port))
                .collect(),
            ttl: Some(time_left(self.until)),
        }
    }
}

#[derive(Clone)]
struct Resolver {
    dns: TokioResolver,
    file: Arc<HostsFile>,
}

impl Resolver {
    fn new(dns: Option<SocketAddr>) -> Result<Self, NotFound> {
        let (config, mut options) = match (system_conf::read_system_conf(), dns) {
            (Ok((config, options)), None) => (config, options),
            (Ok((config, options)), Some(dns)) => {
                let (domain, search) = (config.domain().cloned(), config.search().to_vec());
                let config = ResolverConfig::from_parts(domain, search, only(dns));
                (config, options)
            }
            (Err(_), Some(dns)) => (
                ResolverConfig::from_parts(None, Vec::new(), only(dns)),
                ResolverOpts::default(),
            ),
            (Err(error), None) => {
                let text = format!("resolv.conf cannot be used: {}", text_of(&error));
                return Err(NotFound::Failed(text));
            }
        };
        // Each lookup is to see what is so now.
        options.cache_size = 0;
        // It would look there for the first name of the search list only.
        options.use_hosts_file = ResolveHosts::Never;
        let provider = TokioConnectionProvider::default();
        let dns = TokioResolver::builder_with_config(config, provider)
            .with_options(options)
            .build();
        let file = Arc::new(HostsFile::from_system().unwrap_or_default());
        Ok(Self { dns, file })
    }

    /// IPv4 addresses, or IPv6 ones if there are none: a pod with both is one worker.
    async fn addresses(&self, name: Name) -> Result<Hosts, NotFound> {
        if let Some(found) = self.in_file(&name) {
            return Ok(found);
        }
        match self.dns.ipv4_lookup(name.clone()).await {
            Ok(found) => Ok(Hosts {
                addresses: found.iter().map(|a| IpAddr::V4(a.0)).collect(),
                until: found.valid_until(),
            }),
            Err(error) if is_certain(&error) => match self.dns.ipv6_lookup(name).await {
                Ok(found) => Ok(Hosts {
                    addresses: found.iter().map(|aaaa| IpAddr::V6(aaaa.0)).collect(),
                    until: found.valid_until(),
                }),
                Err(error) => Err(not_found(&error)),
            },
            Err(error) => Err(not_found(&error)),
        }
    }

    /// What the hosts file has under this name.
    fn in_file(&self, name: &Name) -> Option<Hosts> {
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .find_map(|family| {
                let found = self
                    .file
                    .lookup_static_host(&Query::query(name.clone(), family))?;
                let addresses: Vec<IpAddr> = found.iter().filter_map(RData::ip_addr).collect();
                (!addresses.is_empty()).then(|| Hosts {
                    addresses,
                    until: found.valid_until(),
                })
            })
    }

    /// Hosts and ports of the services of the most preferred priority (RFC 2782).
    async fn services(&self, name: Name) -> Result<Found, NotFound> {
        let found = self
            .dns
            .srv_lookup(name)
            .await
            .map_err(|error| not_found(&error))?;
        let mut until = found.as_lookup().valid_until();
        let mut asked = preferred(&found.iter().collect::<Vec<_>>());
        let mut addresses = BTreeSet::new();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < AT_ONCE {
                let Some((host, port)) = asked.pop() else {
                    break;
                };
                let resolver = self.clone();
                asking.spawn(async move { (resolver.addresses(host).await, port) });
            }
            match asking.join_next().await {
                None => break,
                Some(Ok((Ok(hosts), port))) => {
                    until = until.min(hosts.until);
                    addresses.extend(hosts.at(port).addresses);
                }
                // One that is gone just now; the others are there.
                Some(Ok((Err(NotFound::Empty(_)), _))) => {}
                Some(Ok((Err(failed), _))) => return Err(failed),
                Some(Err(ended)) => return Err(NotFound::Failed(ended.to_string())),
            }
        }
        if addresses.is_empty() {
            return Err(NotFound::Empty("its services have no addresses".into()));
        }
        Ok(Found {
            addresses,
            ttl: Some(time_left(until)),
        })
    }
}

/// Hosts and ports of the most preferred priority, each once. The names are as the server wrote them: not every one of them can be
/// written as text and read again, and one of that kind must not hide the others.
pub(super) fn preferred(found: &[&SRV]) -> Vec<(Name, u16)> {
    let best = found.iter().map(|srv| srv.priority()).min();
    let mut hosts: Vec<(Name, u16)> = found
        .iter()
        .filter(|srv| Some(srv.priority()) == best && !srv.target().is_root())
        .map(|srv| (srv.target().clone(), srv.port()))
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// One server, by UDP, and by TCP for long answers.
fn only(server: SocketAddr) -> NameServerConfigGroup {
    NameServerConfigGroup::from_ips_clear(&[server.ip()], server.port(), true)
}

pub(super) fn time_left(until: Instant) -> Duration {
    until
        .saturating_duration_since(Instant::now())
        .min(LONGEST_TTL)
}

fn not_found(error: &ResolveError) -> NotFound {
    match code_of(error) {
        Some(ResponseCode::NXDomain) => NotFound::Empty("there is no such name".into()),
        Some(ResponseCode::NoError) => NotFound::Empty("the name has no addresses".into()),
        Some(code) => NotFound::Failed(format!("the DNS server says: {code}")),
        None => NotFound::Failed(text_of(error)),
    }
}

/// What a server answered in place of records.
fn code_of(error: &ResolveError) -> Option<ResponseCode> {
    let ResolveErrorKind::Proto(error) = error.kind() else {
        return None;
    };
    match error.kind() {
        ProtoErrorKind::NoRecordsFound { response_code, .. } => Some(*response_code),
        _ => None,
    }
}

/// Whether a server said for certain that there is no such record.
fn is_certain(error: &ResolveError) -> bool {
    matches!(
        code_of(error),
        Some(ResponseCode::NXDomain | ResponseCode::NoError)
    )
}

/// Without the names of the resolver's own layers.
fn text_of(error: &ResolveError) -> String {
    if let ResolveErrorKind::Proto(proto) = error.kind() {
        if let ProtoErrorKind::Io(error) = proto.kind() {
            return SystemError(error).to_string();
        }
    }
    let text = error.to_string();
    let text = text.strip_prefix("proto error: ").unwrap_or(&text);
    text.to_owned()
}
