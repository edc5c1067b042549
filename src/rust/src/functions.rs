//! What those are told who keep functions: R has checked and normalised it.

use faucet_core::functions::management::Access;
use faucet_core::server::AgentSettings;
use faucet_core::sources::Failure;
use faucet_core::token::Token;

use crate::settings::{local, pool_limits, Named};

/// Of an agent.
pub fn agent(named: &Named) -> Result<AgentSettings, Failure> {
    let worker = named.list("function_worker")?;
    let token = |name: &str| {
        let token = named.if_any(name, Named::string);
        token.map(|token| token.map(Token::new))
    };
    let mut hosts = named.strings("admin_hosts")?;
    hosts.push(named.string("host")?);
    Ok(AgentSettings {
        state_dir: named.string("state_dir")?.into(),
        access: Access {
            token: token("token")?,
            call_token: token("call_token")?,
            hosts,
        },
        max_bundle: named.whole("max_bundle")?.unwrap_or(u64::MAX),
        worker: local(&Named::new(&worker))?,
        template: match named.if_any("function_template", Named::list)? {
            Some(template) => Some(local(&Named::new(&template))?),
            None => None,
        },
        limits: pool_limits(named)?,
        drain_timeout: named.seconds("shutdown_timeout")?,
        run_as: named.if_any("run_as", Named::string)?,
    })
}
