//! `/__faucet__/livez` and `/__faucet__/readyz`, answered while every worker is busy.

use std::time::SystemTime;

use hyper::StatusCode;
use serde_json::{json, Value};

use super::status::{rfc3339, LookupStatus, PoolStatus, ServerStatus};

/// Paths below this one are faucet's own; no worker sees them.
pub const PREFIX: &str = "/__faucet__/";

/// Whether a path is that of a health check.
pub fn is_check(path: &str) -> bool {
    let Some(name) = path.strip_prefix(PREFIX) else {
        return false;
    };
    matches!(name, "livez" | "readyz") || name.starts_with("readyz/")
}

/// The answer to a health path; `None` if there is no such path. `readyz` is about all pools, and `readyz/sales` about the
/// one at `/sales`.
pub fn answer(path: &str, status: impl FnOnce() -> ServerStatus) -> Option<(StatusCode, Value)> {
    match path.strip_prefix(PREFIX)? {
        "livez" => {
            let status = status();
            Some(if status.is_live() {
                (StatusCode::OK, json!({"status": "live"}))
            } else {
                let unserved = status.unserved().map(|unserved| unserved.as_secs_f64());
                let body = json!({"status": "given up", "unserved": unserved});
                (StatusCode::SERVICE_UNAVAILABLE, body)
            })
        }
        "readyz" => Some(of_server(&status())),
        other => {
            let name = other.strip_prefix("readyz")?;
            let status = status();
            // The name of a host's pool begins with the host.
            let named = |name: &str| status.pools.iter().rfind(|pool| &*pool.pool == name);
            let pool = named(name).or_else(|| named(name.strip_prefix('/')?))?;
            let (ready, body) = of_pool(pool);
            Some((code(ready), body))
        }
    }
}

fn code(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn word(ready: bool, draining: bool) -> &'static str {
    match (ready, draining) {
        (true, _) => "ready",
        (false, true) => "draining",
        (false, false) => "not ready",
    }
}

fn of_server(status: &ServerStatus) -> (StatusCode, Value) {
    let ready = status.is_ready();
    let pools = &status.pools;
    let next_try: Option<SystemTime> = pools.iter().filter_map(PoolStatus::next_try).min();
    let body = json!({
        "status": word(ready, status.draining),
        "workers": status.workers().count(),
        "serving": pools.iter().map(PoolStatus::serving).sum::<usize>(),
        "failed": pools.iter().map(PoolStatus::failed).sum::<usize>(),
        "next_try": next_try.map(rfc3339),
        "queue": status.queue(),
        "pools": pools.iter().map(|pool| of_pool(pool).1).collect::<Vec<_>>(),
    });
    (code(ready), body)
}

fn of_pool(pool: &PoolStatus) -> (bool, Value) {
    let ready = pool.is_ready();
    let body = json!({
        "pool": &*pool.pool,
        "status": word(ready, pool.draining),
        "workers": pool.workers.len(),
        "serving": pool.serving(),
        "failed": pool.failed(),
        "next_try": pool.next_try().map(rfc3339),
        "queue": pool.queue,
        "lookup": pool.lookup.as_ref().map(LookupStatus::to_json),
    });
    (ready, body)
}
