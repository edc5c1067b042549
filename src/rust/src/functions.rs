//! What those are told who keep functions: R has checked and normalised it.

use std::path::PathBuf;
use std::time::Duration;

use faucet_core::functions::calls::{self, CallbackUrl};
use faucet_core::functions::fleet::AgentName;
use faucet_core::functions::management::Access;
use faucet_core::offers::{CallsSettings, HubAddress};
use faucet_core::server::{AgentSettings, ProxySettings};
use faucet_core::sources::Failure;
use faucet_core::token::Token;

use crate::answer::failure;
use crate::settings::{local, pool_limits, Named};

/// Of an agent.
pub fn agent(named: &Named) -> Result<AgentSettings, Failure> {
    let worker = named.list("function_worker")?;
    Ok(AgentSettings {
        state_dir: named.string("state_dir")?.into(),
        access: access(named)?,
        max_bundle: named.whole("max_bundle")?.unwrap_or(u64::MAX),
        worker: local(&Named::new(&worker))?,
        template: match named.if_any("function_template", Named::list)? {
            Some(template) => Some(local(&Named::new(&template))?),
            None => None,
        },
        limits: pool_limits(named)?,
        drain_timeout: named.seconds("shutdown_timeout")?,
        run_as: named.if_any("run_as", Named::string)?,
        calls: calls(named)?,
        ca: named.if_any("ca", Named::string)?.map(PathBuf::from),
        async_calls: async_calls(named)?,
    })
}

/// The proxies that an agent dials, if it dials some.
fn calls(named: &Named) -> Result<Option<CallsSettings>, Failure> {
    let Some(proxies) = named.if_any("proxies", Named::strings)? else {
        return Ok(None);
    };
    let proxies = proxies.iter().map(|text| HubAddress::parse(text));
    let proxies = proxies.collect::<Result<_, _>>();
    Ok(Some(CallsSettings {
        proxies: proxies.map_err(|problem| failure("option", format!("`hub`: {problem}")))?,
        token: token(named, "token")?,
        name: named.string("name")?,
        ca: named.if_any("ca", Named::string)?.map(PathBuf::from),
    }))
}

/// Between two looks of a proxy at an agent.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Of a proxy.
pub fn proxy(named: &Named) -> Result<ProxySettings, Failure> {
    let agents = named.strings("agents")?;
    let agents = agents.iter().map(|text| AgentName::of_address(text));
    let agents = agents.collect::<Result<_, _>>();
    Ok(ProxySettings {
        agents: agents.map_err(|problem| failure("option", format!("`agents`: {problem}")))?,
        door: match named.if_any("agent_port", Named::port)? {
            Some(port) => Some((named.string("agent_host")?, port)),
            None => None,
        },
        tls: named.flag("agents_tls")?,
        ca: named.if_any("ca", Named::string)?.map(PathBuf::from),
        agent_token: token(named, "agent_token")?,
        state_dir: named.string("state_dir")?.into(),
        access: access(named)?,
        max_bundle: named.whole("max_bundle")?.unwrap_or(u64::MAX),
        limits: pool_limits(named)?,
        agent_grace: named.finite_seconds("agent_grace")?,
        check_every: CHECK_EVERY,
        drain_timeout: named.seconds("shutdown_timeout")?,
        async_calls: async_calls(named)?,
    })
}

/// What may be kept of calls that nobody waits for.
fn async_calls(named: &Named) -> Result<calls::Settings, Failure> {
    let callbacks = named.strings("callbacks")?;
    let callbacks = callbacks.iter().map(|text| CallbackUrl::parse(text));
    let callbacks = callbacks.collect::<Result<_, _>>();
    Ok(calls::Settings {
        result_ttl: named.finite_seconds("result_ttl")?,
        max_calls: named.count("max_calls")? as usize,
        max_results: named.whole("max_results")?.unwrap_or(u64::MAX),
        callbacks: callbacks
            .map_err(|problem| failure("option", format!("`callbacks`: {problem}")))?,
        ..calls::Settings::default()
    })
}

fn access(named: &Named) -> Result<Access, Failure> {
    let mut hosts = named.strings("admin_hosts")?;
    hosts.push(named.string("host")?);
    Ok(Access {
        token: token(named, "token")?,
        call_token: token(named, "call_token")?,
        hosts,
    })
}

fn token(named: &Named, name: &str) -> Result<Option<Token>, Failure> {
    let token = named.if_any(name, Named::string)?;
    Ok(token.map(Token::new))
}
