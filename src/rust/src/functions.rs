//! What those are told who keep functions: R has checked and normalised it.

use std::time::Duration;

use faucet_core::functions::fleet::AgentName;
use faucet_core::functions::management::Access;
use faucet_core::server::{AgentSettings, ProxySettings};
use faucet_core::sources::Failure;
use faucet_core::token::Token;

use crate::settings::{local, pool_limits, Named};

/// Between two looks of a proxy at an agent.
const CHECK_EVERY: Duration = Duration::from_secs(1);

fn token(named: &Named, name: &str) -> Result<Option<Token>, Failure> {
    let token = named.if_any(name, Named::string)?;
    Ok(token.map(Token::new))
}

/// Who may deploy and call.
fn access(named: &Named) -> Result<Access, Failure> {
    let mut hosts = named.strings("admin_hosts")?;
    hosts.push(named.string("host")?);
    Ok(Access {
        token: token(named, "token")?,
        call_token: token(named, "call_token")?,
        hosts,
    })
}

/// Of a proxy.
pub fn proxy(named: &Named) -> Result<ProxySettings, Failure> {
    let agents = named.strings("proxy_agents")?;
    let agents = agents.iter().map(|text| {
        AgentName::of_address(text).map_err(|problem| {
            Failure::new(
                "option",
                format!("`agents`: \"{text}\" is no agent: {problem}"),
            )
        })
    });
    let host = named.if_any("agent_host", Named::string)?;
    Ok(ProxySettings {
        agents: agents.collect::<Result<_, _>>()?,
        door: match host {
            Some(host) => Some((host, named.port("agent_port")?)),
            None => None,
        },
        tls: named.flag("agent_tls")?,
        ca: named.if_any("ca", Named::string)?.map(Into::into),
        agent_token: token(named, "agent_token")?,
        state_dir: named.string("state_dir")?.into(),
        access: access(named)?,
        max_bundle: named.whole("max_bundle")?.unwrap_or(u64::MAX),
        limits: pool_limits(named)?,
        agent_grace: named.seconds("agent_grace")?.unwrap_or(Duration::MAX),
        check_every: CHECK_EVERY,
        drain_timeout: named.seconds("shutdown_timeout")?,
    })
}

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
        // No agent dials proxies from R yet: `run_agent()` has no such argument.
        calls: None,
        run_as: named.if_any("run_as", Named::string)?,
    })
}
