//! The handle of a running server, as R holds it.

use std::sync::Arc;
use std::time::Duration;

use extendr_api::prelude::*;
use faucet_core::ops::routes::{AppRoute, AppRoutes};
use faucet_core::ops::status::{unix_seconds, Kind, PoolStatus, WorkerStatus};
use faucet_core::ops::{outlet, printable};
use faucet_core::server::{Phase, Request, Server};
use faucet_core::sources::Failure;

use crate::answer::{bad, failure, good, text, texts};
use crate::settings::{self, Named};
use crate::{memory, panics, signals};

/// A server, and the process it belongs to: after a fork the child must not touch it.
struct Handle {
    server: Server,
    pid: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            // The parent's: its threads do not exist here, and its workers are not ours to kill.
            self.server.abandon();
        }
    }
}

/// The server behind an R value; R may have restored that value from a file, or inherited it by fork.
fn with<T>(handle: Robj, f: impl FnOnce(&mut Server) -> T) -> Result<T, Failure> {
    let lost = || {
        failure(
            "handle",
            "This handle is not of a running server: a handle cannot be saved and restored.",
        )
    };
    let mut pointer = ExternalPtr::<Handle>::try_from(handle).map_err(|_| lost())?;
    let inner = pointer.try_addr_mut().map_err(|_| lost())?;
    if inner.pid != std::process::id() {
        return Err(failure(
            "handle",
            "This handle belongs to the R process that started the server; a fork of it cannot use it.",
        ));
    }
    Ok(f(&mut inner.server))
}

fn answer(result: Result<List, Failure>) -> List {
    result.unwrap_or_else(|failure| bad(&failure))
}

fn patience(milliseconds: i32) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

/// Starts a server: binds its port, starts its workers, returns at once.
/// @param settings Named list, complete and checked.
/// @noRd
#[extendr]
fn server_start(settings: List) -> List {
    outlet::occupy();
    memory::reuse_pieces();
    panics::install();
    let started = settings::read(&settings).and_then(Server::start);
    match started {
        Err(failure) => bad(&failure),
        Ok(server) => {
            panics::report_to(server.log());
            let url = server.url().map_or(r!(NULL), Robj::from);
            let admin = server.admin_url().map_or(r!(NULL), Robj::from);
            let workers = server.worker_address().map_or(r!(NULL), Robj::from);
            let pothead = server.pothead_address().map_or(r!(NULL), Robj::from);
            let handle = Handle {
                server,
                pid: std::process::id(),
            };
            good([
                ("handle", ExternalPtr::new(handle).into()),
                ("url", url),
                ("admin_url", admin),
                ("worker_address", workers),
                ("pothead_address", pothead),
            ])
        }
    }
}

/// What happened since the last poll; waits at most `timeout_ms` for something to happen.
/// @noRd
#[extendr]
fn server_poll(handle: Robj, timeout_ms: i32) -> List {
    answer(with(handle, |server| {
        if !signals::is_pending() {
            server.wait(patience(timeout_ms));
        }
        if signals::take_reopen() {
            server.reopen_logs();
        }
        for (lost, failed) in [outlet::OUTPUT.take_lost(), outlet::ERROR.take_lost()] {
            server.log().note_lost(lost, failed);
        }
        // Before the lines, so that those of workers that did not start are among them.
        let phase = server.phase();
        let (lines, dropped) = server.take_lines();
        let counts = server.counts();
        let config_changed = server.take_config_change();
        let problem = match &phase {
            Phase::Failed(failure) => failure.clone(),
            _ => failure("", ""),
        };
        let kind: Vec<&str> = lines.iter().map(|line| line.kind.name()).collect();
        let level: Vec<&str> = lines.iter().map(|line| line.level_name()).collect();
        let (kind, level) = (Robj::from(kind), Robj::from(level));
        let shown = texts(lines.iter().map(|line| line.text.as_str()));
        let problem_lines = texts(problem.lines.iter().map(String::as_str));
        good([
            ("state", phase.name().into()),
            ("ready", (counts.serving as i32).into()),
            ("total", (counts.total as i32).into()),
            ("kind", kind),
            ("level", level),
            ("text", shown),
            ("dropped", (dropped as f64).into()),
            ("class", problem.class.into()),
            ("message", text(&problem.message)),
            ("lines", problem_lines),
            ("config_changed", config_changed.into()),
            // Last: R may have had no memory for all the rest.
            ("signal", signals::take().into()),
        ])
    }))
}

/// The names of all pools, and the workers now, pool by pool: a vector a column.
/// @noRd
#[extendr]
fn server_status(handle: Robj) -> List {
    answer(with(handle, |server| {
        let status = server.status();
        let workers: Vec<(&str, &WorkerStatus)> = status
            .iter()
            .flat_map(|pool| pool.workers.iter().map(|worker| (&*pool.pool, worker)))
            .collect();
        let column = |f: &dyn Fn(&WorkerStatus) -> Option<f64>| -> Robj {
            let values: Vec<Rfloat> = workers
                .iter()
                .map(|(_, worker)| f(worker).map_or(Rfloat::na(), Rfloat::from))
                .collect();
            Doubles::from_values(values).into()
        };
        let whole = |f: &dyn Fn(&WorkerStatus) -> Option<u32>| -> Robj {
            let values: Vec<Rint> = workers
                .iter()
                .map(|(_, worker)| {
                    f(worker)
                        .and_then(|number| i32::try_from(number).ok())
                        .map_or(Rint::na(), Rint::from)
                })
                .collect();
            Integers::from_values(values).into()
        };
        let pool: Vec<&str> = workers.iter().map(|(pool, _)| *pool).collect();
        let state: Vec<&str> = workers
            .iter()
            .map(|(_, worker)| worker.state.name())
            .collect();
        let address: Vec<Option<String>> = workers
            .iter()
            .map(|(_, worker)| Some(printable::text(worker.address.as_deref()?).into_owned()))
            .collect();
        let name: Vec<Option<String>> = workers
            .iter()
            .map(|(_, worker)| Some(printable::text(worker.name.as_deref()?).into_owned()))
            .collect();
        let kind: Vec<Option<&str>> = workers
            .iter()
            .map(|(_, worker)| worker.kind.map(Kind::name))
            .collect();
        // What a pool's workers say of their app holds for those that can say it.
        let of_native = |worker: &WorkerStatus| worker.kind == Some(Kind::Native);
        let compiled: Vec<Option<String>> = status
            .iter()
            .flat_map(|pool| pool.workers.iter().map(move |worker| (pool, worker)))
            .map(|(pool, worker)| {
                let routes = pool.routes.as_ref().filter(|_| of_native(worker))?;
                Some(routes.summary())
            })
            .collect();
        let queue: usize = status.iter().map(|pool| pool.queue).sum();
        good([
            ("pools", texts(status.iter().map(|pool| &*pool.pool))),
            ("pool", texts(pool)),
            ("worker", whole(&|worker| Some(worker.worker))),
            ("pid", whole(&|worker| worker.pid)),
            ("name", name.into()),
            ("address", address.into()),
            ("state", state.into()),
            ("worker_type", kind.into()),
            ("compiled", compiled.into()),
            ("slots", whole(&|worker| Some(worker.slots))),
            ("in_flight", whole(&|worker| Some(worker.in_flight))),
            ("sessions", whole(&|worker| worker.sessions)),
            ("requests", column(&|worker| Some(worker.requests as f64))),
            ("restarts", whole(&|worker| Some(worker.restarts))),
            (
                "memory",
                column(&|worker| worker.memory.map(|bytes| bytes as f64)),
            ),
            (
                "started",
                column(&|worker| worker.started.map(unix_seconds)),
            ),
            (
                "boot",
                column(&|worker| worker.boot.map(|boot| boot.as_secs_f64())),
            ),
            (
                "next_try",
                column(&|worker| worker.next_try.map(unix_seconds)),
            ),
            ("queue", (queue as i32).into()),
        ])
    }))
}

/// Where apps have their documentation: the pools' routes, and the paths in them.
/// @noRd
#[extendr]
fn server_docs(handle: Robj) -> List {
    answer(with(handle, |server| {
        let status = server.status();
        let docs = |pool: &PoolStatus| Some((pool.pool.clone(), pool.docs.clone()?));
        let docs: Vec<_> = status.iter().filter_map(docs).collect();
        good([
            ("pool", texts(docs.iter().map(|(pool, _)| &**pool))),
            ("path", texts(docs.iter().map(|(_, path)| path.as_str()))),
        ])
    }))
}

/// The routes of apps, as far as their workers told of them: a vector a column, with a row for each route of each pool. `pools`
/// are those of which they are known.
/// @noRd
#[extendr]
fn server_routes(handle: Robj) -> List {
    answer(with(handle, |server| {
        let status = server.status();
        let known: Vec<(&str, &AppRoutes)> = status
            .iter()
            .filter_map(|pool| Some((&*pool.pool, pool.routes.as_ref()?)))
            .collect();
        let routes: Vec<(&str, &AppRoute)> = known
            .iter()
            .flat_map(|(pool, routes)| routes.iter().map(|route| (*pool, route)))
            .collect();
        // The app has a say in it, and it is shown to people.
        let column = |f: &dyn Fn(&AppRoute) -> &str| -> Vec<String> {
            let shown = |(_, route): &(&str, &AppRoute)| printable::text(f(route)).into_owned();
            routes.iter().map(shown).collect()
        };
        let why: Vec<Option<String>> = routes
            .iter()
            .map(|(_, route)| Some(printable::text(route.why.as_deref()?).into_owned()))
            .collect();
        let compiled: Vec<bool> = routes.iter().map(|(_, route)| route.compiled).collect();
        good([
            ("pools", texts(known.iter().map(|(pool, _)| *pool))),
            ("pool", texts(routes.iter().map(|(pool, _)| *pool))),
            ("method", column(&|route| &route.method).into()),
            ("path", column(&|route| &route.path).into()),
            ("compiled", compiled.into()),
            ("why", why.into()),
        ])
    }))
}

/// How the names resolve that workers are found by: a vector a column, with a row for each pool that has one.
/// @noRd
#[extendr]
fn server_lookup(handle: Robj) -> List {
    answer(with(handle, |server| {
        let lookups = server.lookups();
        let message: Vec<Option<String>> = lookups
            .iter()
            .map(|(_, lookup)| {
                let message = printable::text(&lookup.message).into_owned();
                (!message.is_empty()).then_some(message)
            })
            .collect();
        let state: Vec<&str> = lookups
            .iter()
            .map(|(_, lookup)| lookup.state.name())
            .collect();
        let since: Vec<f64> = lookups
            .iter()
            .map(|(_, lookup)| unix_seconds(lookup.since))
            .collect();
        let addresses: Vec<i32> = lookups
            .iter()
            .map(|(_, lookup)| i32::try_from(lookup.addresses).unwrap_or(i32::MAX))
            .collect();
        good([
            ("pool", texts(lookups.iter().map(|(pool, _)| &**pool))),
            (
                "url",
                texts(lookups.iter().map(|(_, lookup)| lookup.url.as_str())),
            ),
            ("state", state.into()),
            ("message", message.into()),
            ("since", since.into()),
            ("addresses", addresses.into()),
        ])
    }))
}

/// The hubs that slots are offered to, address by address: a vector a column.
/// @noRd
#[extendr]
fn server_hubs(handle: Robj) -> List {
    answer(with(handle, |server| {
        let hubs = server.hubs();
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let address: Vec<Option<String>> = hubs
            .iter()
            .map(|hub| hub.address.map(|address| address.to_string()))
            .collect();
        let offers: Vec<i32> = hubs.iter().map(|hub| number(hub.offers)).collect();
        let connections: Vec<i32> = hubs.iter().map(|hub| number(hub.connections)).collect();
        let trouble: Vec<Option<String>> = hubs
            .iter()
            .map(|hub| Some(printable::text(hub.trouble.as_deref()?).into_owned()))
            .collect();
        good([
            ("hub", texts(hubs.iter().map(|hub| hub.hub.as_str()))),
            ("address", address.into()),
            ("offers", offers.into()),
            ("connections", connections.into()),
            ("trouble", trouble.into()),
        ])
    }))
}

/// Starts a command: a named list with `name`, and what that takes of `n`, `timeout`, `pool` (a name), `pools` (settings
/// of each).
/// @noRd
#[extendr]
fn server_command(handle: Robj, command: List) -> List {
    let command = |server: &mut Server| -> Result<Request, Failure> {
        let named = Named::new(&command);
        let pool = || {
            named
                .if_any("pool", Named::string)
                .map(|pool| pool.map(Arc::from))
        };
        Ok(match named.string("name")?.as_str() {
            "scale" => Request::Scale(pool()?, named.range("n")?),
            "reload" => Request::Reload(pool()?),
            "add_pool" => {
                let settings = settings::read_pool(&named.list("settings")?)?;
                Request::AddPool(Box::new(server.prepare(settings)?))
            }
            "remove_pool" => {
                Request::RemovePool(named.string("pool")?.into(), named.seconds("timeout")?)
            }
            "configure" => {
                let pools = settings::read_pools(&named.list("pools")?)?;
                let pools = pools.into_iter().map(|pool| server.prepare(pool));
                let pools = pools.collect::<Result<_, _>>()?;
                Request::Configure(pools, named.seconds("timeout")?)
            }
            "refuse_reload" => Request::RefuseReload,
            "drain" => Request::Drain(named.seconds("timeout")?),
            "stop" => Request::Stop(named.seconds("timeout")?),
            "kill" => Request::Kill,
            other => {
                return Err(failure(
                    "internal",
                    format!("There is no command `{other}`."),
                ));
            }
        })
    };
    let asked = with(handle, |server| {
        let request = command(server)?;
        let id = server.ask(request);
        Ok(good([("id", (id as f64).into())]))
    });
    answer(asked.and_then(|asked| asked))
}

/// The result of a command; waits at most `timeout_ms` for it.
/// @noRd
#[extendr]
fn server_result(handle: Robj, id: f64, timeout_ms: i32) -> List {
    let result = with(handle, |server| {
        let id = id as u64;
        server.result(id).or_else(|| {
            server.wait(patience(timeout_ms));
            server.result(id)
        })
    });
    match result {
        Err(failure) | Ok(Some(Err(failure))) => bad(&failure),
        Ok(done) => good([("done", done.is_some().into())]),
    }
}

/// What R says of a gate, whose place among all begins at 1.
/// @noRd
#[extendr]
fn server_answer_gate(handle: Robj, gate: i32, open: bool) -> List {
    answer(with(handle, |server| {
        if let Some(gate) = usize::try_from(gate)
            .ok()
            .and_then(|gate| gate.checked_sub(1))
        {
            server.answer_gate(gate, open);
        }
        good([])
    }))
}

/// Whether the server's thread runs.
/// @noRd
#[extendr]
fn server_is_running(handle: Robj) -> List {
    answer(with(handle, |server| {
        good([("running", server.is_running().into())])
    }))
}

extendr_module! {
    mod server;
    fn server_start;
    fn server_poll;
    fn server_status;
    fn server_docs;
    fn server_routes;
    fn server_lookup;
    fn server_hubs;
    fn server_command;
    fn server_result;
    fn server_answer_gate;
    fn server_is_running;
}
