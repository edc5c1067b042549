//! What a hub, and a machine that offers its workers to hubs, are told: R has checked and normalised it.

use std::path::PathBuf;

use extendr_api::prelude::*;
use faucet_core::gates::{is_cpu_told, is_memory_told, Gate, GateSettings};
use faucet_core::offers::{is_loopback, HubAddress, OffersSettings, RedirectSettings};
use faucet_core::pool::Route;
use faucet_core::sources::hub::{HubSettings, Token};
use faucet_core::sources::Failure;

use crate::answer::failure;
use crate::settings::{pool_limits, Named};

/// Of workers that dial in.
pub fn hub(named: &Named) -> Result<HubSettings, Failure> {
    Ok(HubSettings {
        worker_host: named.string("worker_host")?,
        worker_port: named.port("worker_port")?,
        pothead_port: named.if_any("pothead_port", Named::port)?,
        token: token(named)?,
        forget_after: named.seconds("forget_after")?,
        limits: pool_limits(named)?,
        cancel: named.flag("cancel")?,
    })
}

/// Of a machine that offers its workers to hubs.
pub fn offers(named: &Named) -> Result<OffersSettings, Failure> {
    let told = |name: &str, problem: String| failure("option", format!("`{name}`: {problem}"));
    let hubs = named.strings("hub")?;
    let hubs = hubs.iter().map(|text| HubAddress::parse(text));
    let redirect = match named.if_any("redirect", Named::string)? {
        None => None,
        Some(url) => {
            let host = named.if_any("redirect_host", Named::string)?;
            let port = named.if_any("redirect_port", Named::port)?;
            let redirect = RedirectSettings::parse(&url, host, port);
            Some(redirect.map_err(|problem| told("redirect", problem))?)
        }
    };
    Ok(OffersSettings {
        hubs: hubs
            .collect::<Result<_, _>>()
            .map_err(|problem| told("hub", problem))?,
        token: token(named)?,
        name: named.string("name")?,
        route: Route::parse(&named.string("route")?)
            .map_err(|problem| told("route", format!("{problem}.")))?,
        gates: gates(&Named::new(&named.list("gates")?))?,
        ca: named.if_any("ca", Named::string)?.map(PathBuf::from),
        redirect,
    })
}

fn token(named: &Named) -> Result<Option<Token>, Failure> {
    Ok(named.if_any("token", Named::string)?.map(Token::new))
}

/// `strict`, and the conditions in `all`: each a list with `kind`, and what that takes.
fn gates(named: &Named) -> Result<GateSettings, Failure> {
    let all = named.list("all")?;
    let gates = all.values().map(|gate| {
        let gate = gate.as_list().unwrap_or_default();
        let gate = Named::new(&gate);
        Ok(match gate.string("kind")?.as_str() {
            "cpu" => Gate::Cpu {
                idle: gate.number("idle")?,
            },
            "memory" => Gate::Memory {
                free: gate.whole("free")?.unwrap_or(u64::MAX),
            },
            _ => Gate::Asked,
        })
    });
    Ok(GateSettings {
        gates: gates.collect::<Result<_, Failure>>()?,
        strict: named.flag("strict")?,
    })
}

/// Whether what is sent to a hub's address, which is valid, can be read by others.
/// @noRd
#[extendr]
fn hub_is_exposed(text: &str) -> bool {
    HubAddress::parse(text).map_or(true, |hub| hub.is_exposed())
}

/// The one form of a hub's address that is valid.
/// @noRd
#[extendr]
fn hub_address(text: &str) -> Robj {
    HubAddress::parse(text).map_or(r!(NULL), |hub| Robj::from(hub.to_string()))
}

/// Whether only this machine reaches a host.
/// @noRd
#[extendr]
fn host_is_loopback(host: &str) -> bool {
    is_loopback(host)
}

/// Whether this system tells what a gate of some kind is about.
/// @noRd
#[extendr]
fn gate_is_told(kind: &str) -> bool {
    match kind {
        "cpu" => is_cpu_told(),
        "memory" => is_memory_told(),
        _ => true,
    }
}

extendr_module! {
    mod hubs;
    fn gate_is_told;
    fn hub_address;
    fn hub_is_exposed;
    fn host_is_loopback;
}
