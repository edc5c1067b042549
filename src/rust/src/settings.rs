//! A server's settings, by name: R has checked and normalised them.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use extendr_api::prelude::*;
use faucet_core::front::{Limits, Networks, TrustedProxies};
use faucet_core::functions::calls::CallbackUrl;
use faucet_core::functions::fleet::AgentName;
use faucet_core::memory;
use faucet_core::offers::{HubAddress, RedirectSettings};
use faucet_core::ops::access::Format;
use faucet_core::ops::log_file::LogFile;
use faucet_core::ops::status::Kind;
use faucet_core::pool::{PoolLimits, Route};
use faucet_core::server::{PoolSettings, Settings};
use faucet_core::sessions::SessionLimits;
use faucet_core::sources::local::{Confinement, LocalSettings, WorkerRange};
use faucet_core::sources::replicas::{Settings as ReplicasSettings, Target};
use faucet_core::sources::{Failure, Source};
use faucet_core::tls::{ServerTls, TlsSettings};
use faucet_core::traces::TraceSettings;
use faucet_core::worker::native::Cancelling;

use crate::answer::failure;
use crate::{functions, hubs};

/// The longest time that is not endless: three centuries.
const LONGEST: f64 = 1e10;

/// Named R values, taken out one by one.
pub struct Named<'a>(HashMap<&'a str, Robj>);

impl<'a> Named<'a> {
    pub fn new(list: &'a List) -> Self {
        Self(list.iter().collect())
    }

    fn take<T>(
        &self,
        name: &str,
        what: &str,
        f: impl Fn(&Robj) -> Option<T>,
    ) -> Result<T, Failure> {
        self.0
            .get(name)
            .and_then(f)
            .ok_or_else(|| failure("option", format!("`{name}` must be {what}.")))
    }

    pub fn string(&self, name: &str) -> Result<String, Failure> {
        self.take(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub fn number(&self, name: &str) -> Result<f64, Failure> {
        self.take(name, "a number", |value| {
            value
                .as_real()
                .or_else(|| value.as_integer().map(f64::from))
                .filter(|number| !number.is_nan())
        })
    }

    /// A finite number of seconds, or none for `Inf`.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, Failure> {
        let seconds = self.number(name)?;
        Ok((seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds.max(0.0))))
    }

    pub fn finite_seconds(&self, name: &str) -> Result<Duration, Failure> {
        Ok(self
            .seconds(name)?
            .unwrap_or(Duration::from_secs(LONGEST as u64)))
    }

    /// A whole number, saturating; none for `Inf`.
    pub fn whole(&self, name: &str) -> Result<Option<u64>, Failure> {
        let number = self.number(name)?;
        Ok(number.is_finite().then_some(number.max(0.0) as u64))
    }

    pub fn count(&self, name: &str) -> Result<u32, Failure> {
        let number = self.whole(name)?.unwrap_or(u64::MAX);
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// One number, or the least and the most.
    pub fn range(&self, name: &str) -> Result<WorkerRange, Failure> {
        let what = "a number, or the least and the most";
        let whole = |number: f64| (number >= 0.0).then_some(number as u32);
        self.take(name, what, |value| {
            let numbers = value.as_real_vector().or_else(|| {
                let numbers = value.as_integer_vector()?;
                Some(numbers.into_iter().map(f64::from).collect())
            })?;
            match numbers[..] {
                [count] => Some(WorkerRange::fixed(whole(count)?)),
                [min, max] if min <= max => Some(WorkerRange {
                    min: whole(min)?,
                    max: whole(max)?,
                }),
                _ => None,
            }
        })
    }

    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        self.take(name, "TRUE or FALSE", Robj::as_bool)
    }

    pub fn strings(&self, name: &str) -> Result<Vec<String>, Failure> {
        self.take(name, "a character vector", Robj::as_string_vector)
    }

    pub fn list(&self, name: &str) -> Result<List, Failure> {
        self.take(name, "a list", Robj::as_list)
    }

    pub fn raw(&self, name: &str) -> Result<Vec<u8>, Failure> {
        self.take(name, "a raw vector", |value| {
            value.as_raw_slice().map(<[u8]>::to_vec)
        })
    }

    /// None for `NULL`.
    pub fn if_any<T>(
        &self,
        name: &str,
        read: impl Fn(&Self, &str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        if !self.is_given(name) {
            return Ok(None);
        }
        read(self, name).map(Some)
    }

    fn is_given(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    pub fn port(&self, name: &str) -> Result<u16, Failure> {
        u16::try_from(self.count(name)?)
            .map_err(|_| failure("option", format!("`{name}` must be a port.")))
    }

    fn environment(&self, name: &str) -> Result<BTreeMap<String, String>, Failure> {
        let values = self.strings(name)?;
        let names: Vec<String> = self
            .0
            .get(name)
            .and_then(|value| {
                value
                    .names()
                    .map(|names| names.map(str::to_owned).collect())
            })
            .unwrap_or_default();
        Ok(names.into_iter().zip(values).collect())
    }
}

/// Reads all settings of a server; its element `pools` holds those of each pool.
pub fn read(list: &List) -> Result<Settings, Failure> {
    let named = Named::new(list);
    let trusted = TrustedProxies::parse(&named.strings("trusted_proxies")?)
        .map_err(|error| failure("option", format!("`trusted_proxies`: {error}.")))?;
    let fronts = Networks::parse(&named.strings("fronts")?)
        .map_err(|error| failure("option", format!("`fronts`: {error}.")))?;
    let access_log = match named.string("access_log")?.as_str() {
        "text" => Some(Format::Text),
        "json" => Some(Format::Json),
        _ => None,
    };
    let pools = named.list("pools")?;
    let hub = if named.is_given("worker_port") {
        Some(hubs::hub(&named)?)
    } else {
        None
    };
    let offers = if named.is_given("hub") {
        Some(hubs::offers(&named)?)
    } else {
        None
    };
    let agent = if named.is_given("function_worker") {
        Some(functions::agent(&named)?)
    } else {
        None
    };
    let proxy = if named.is_given("agents_tls") {
        Some(functions::proxy(&named)?)
    } else {
        None
    };
    Ok(Settings {
        host: named.string("host")?,
        port: named.if_any("port", Named::port)?,
        admin_host: named.string("admin_host")?,
        admin_port: named.if_any("admin_port", Named::port)?,
        admin_hosts: named.strings("admin_hosts")?,
        limits: Limits {
            header_timeout: named.finite_seconds("header_timeout")?,
            idle_timeout: named.seconds("idle_timeout")?,
            max_header: named.count("max_header")? as usize,
            body_memory: named.whole("body_memory")?.unwrap_or(u64::MAX),
            total_body_memory: named
                .if_any("total_body_memory", Named::whole)?
                .map_or_else(memory::for_bodies, |total| total.unwrap_or(u64::MAX)),
            max_connections: named.count("max_connections")? as usize,
            underscores_in_headers: named.flag("underscores_in_headers")?,
        },
        trusted,
        fronts,
        access_log,
        log_file: log_file(&named)?,
        log_health: named.flag("log_health")?,
        otlp: named
            .if_any("otlp", Named::string)?
            .map(|url| TraceSettings::parse(&url))
            .transpose()
            .map_err(|problem| failure("option", format!("`otlp`: {problem}")))?,
        max_workers: named.if_any("max_workers", Named::count)?,
        config: named
            .if_any("watched_config", Named::string)?
            .map(PathBuf::from),
        pools: read_pools(&pools)?,
        hub,
        offers,
        agent,
        proxy,
        tls: tls(&named)?,
    })
}

/// Where certificate and key are; none for `NULL`.
fn tls(named: &Named) -> Result<Option<TlsSettings>, Failure> {
    let tls = named.if_any("tls", Named::list)?;
    tls.map(|tls| tls_settings(&Named::new(&tls))).transpose()
}

fn tls_settings(tls: &Named) -> Result<TlsSettings, Failure> {
    let path = |name: &str| tls.string(name).map(PathBuf::from);
    Ok(TlsSettings {
        cert: path("cert")?,
        key: path("key")?,
        client_ca: tls.if_any("client_ca", Named::string)?.map(PathBuf::from),
    })
}

/// Reads several pools: a list of them.
pub fn read_pools(pools: &List) -> Result<Vec<PoolSettings>, Failure> {
    let pools = pools.values().map(|pool| {
        let pool = pool.as_list();
        read_pool(&pool.ok_or_else(|| failure("option", "A pool must be a list."))?)
    });
    pools.collect()
}

/// Reads the settings of a pool. Its `url` says that others run its workers.
pub fn read_pool(list: &List) -> Result<PoolSettings, Failure> {
    let named = Named::new(list);
    let route = Route::parse(&named.string("route")?)
        .map_err(|problem| failure("option", format!("`route`: {problem}.")))?;
    let source = if named.is_given("url") {
        Source::Replicas(replicas(&named)?)
    } else {
        Source::Local(local(&named)?)
    };
    // Replicas have none.
    let sticky = named.if_any("sticky", Named::flag)?.unwrap_or(false);
    let sessions = match source {
        Source::Local(_) if sticky => Some(sessions(&named)?),
        Source::Local(_)
        | Source::Command(_)
        | Source::Replicas(_)
        | Source::Hub
        | Source::Agents(_) => None,
    };
    Ok(PoolSettings {
        route,
        limits: pool_limits(&named)?,
        source,
        sessions,
    })
}

/// Of a pool's requests.
pub fn pool_limits(named: &Named) -> Result<PoolLimits, Failure> {
    Ok(PoolLimits {
        queue: named.count("queue")? as usize,
        queue_timeout: named.seconds("queue_timeout")?,
        timeout: named.seconds("timeout")?,
        max_body: named.whole("max_body")?.unwrap_or(u64::MAX),
        streams: false,
    })
}

/// Of clients that stay with one worker each.
fn sessions(named: &Named) -> Result<SessionLimits, Failure> {
    Ok(SessionLimits {
        slots: named.count("slots")?,
        timeout: named.finite_seconds("session_timeout")?,
        drain_timeout: named.seconds("drain_timeout")?,
    })
}

fn log_file(named: &Named) -> Result<Option<LogFile>, Failure> {
    let Some(path) = named.if_any("log_file", Named::string)? else {
        return Ok(None);
    };
    Ok(Some(LogFile {
        path: path.into(),
        max_size: named.whole("log_max_size")?,
        keep: named.count("log_keep")?,
    }))
}

/// Of workers that are started here.
pub fn local(named: &Named) -> Result<LocalSettings, Failure> {
    let worker_type = match named.string("worker_type")?.as_str() {
        "native" => Some(Kind::Native),
        "http" => Some(Kind::Http),
        _ => None,
    };
    Ok(LocalSettings {
        command: named.strings("command")?,
        dir: named.string("dir")?.into(),
        env: named.environment("env")?,
        workers: named.range("workers")?,
        grow_after: named.seconds("grow_after")?,
        shrink_after: named.seconds("shrink_after")?,
        worker_type,
        compile: named.flag("compile")?,
        cancelling: Cancelling {
            cancel: named.flag("cancel")?,
            interrupt_timeout: named.finite_seconds("interrupt_timeout")?,
        },
        preload: named.flag("preload")?,
        shared_template: false,
        confinement: Confinement::default(),
        boot_timeout: named.finite_seconds("boot_timeout")?,
        max_requests: named.whole("max_requests")?,
        max_memory: named.whole("max_memory")?,
        max_failures: named.count("max_failures")?,
        give_up_after: named.seconds("give_up_after")?,
        watch: named.flag("watch")?,
    })
}

/// Of replicas, which others start.
fn replicas(named: &Named) -> Result<ReplicasSettings, Failure> {
    let told = |name: &str, problem: String| failure("option", format!("`{name}`: {problem}"));
    Ok(ReplicasSettings {
        target: Target::parse(&named.string("url")?).map_err(|problem| told("url", problem))?,
        slots: named.count("slots")?,
        refresh: named.if_any("refresh", Named::finite_seconds)?,
        ready_path: named.if_any("ready_path", Named::string)?,
        dns: named
            .if_any("dns", Named::string)?
            .map(|text| name_server(&text).map_err(|problem| told("dns", problem)))
            .transpose()?,
        boot_timeout: named.finite_seconds("boot_timeout")?,
        cancel: named.flag("cancel")?,
        ca: None,
    })
}

/// The address of a DNS server, with its port.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() != 0)
        .ok_or_else(|| "It must be an address and a port.".into())
}

/// What is wrong with the text of a setting that only this side can read, as a sentence.
/// @return `NULL` if nothing is.
/// @noRd
#[extendr]
fn option_problem(name: &str, text: &str) -> Robj {
    let problem = match name {
        "url" => Target::parse(text).err(),
        "route" => Route::parse(text).err().map(|error| error.to_string()),
        "dns" => name_server(text).err(),
        "hub" => HubAddress::parse(text).err(),
        "agents" => AgentName::of_address(text)
            .err()
            .map(|error| error.to_string()),
        "callbacks" => CallbackUrl::parse(text).err(),
        "otlp" => TraceSettings::parse(text).err(),
        "redirect" => RedirectSettings::parse(text, None, None).err(),
        "fronts" => Networks::parse(&text.split(',').collect::<Vec<_>>())
            .err()
            .map(|error| error.to_string()),
        _ => None,
    };
    problem.map_or(r!(NULL), Robj::from)
}

/// What is wrong with certificate and key, `NULL` if nothing is. `tls` is a list, as the setting has it.
/// @noRd
#[extendr]
fn tls_problem(tls: List) -> Robj {
    let problem = tls_settings(&Named::new(&tls)).and_then(|tls| ServerTls::load(&tls));
    match problem {
        Ok(_) => r!(NULL),
        Err(failure) => failure.message.into(),
    }
}

/// The one form of a route that is valid.
/// @noRd
#[extendr]
fn route_name(text: &str) -> Robj {
    Route::parse(text).map_or(r!(NULL), |route| Robj::from(&**route.name()))
}

extendr_module! {
    mod settings;
    fn option_problem;
    fn route_name;
    fn tls_problem;
}
