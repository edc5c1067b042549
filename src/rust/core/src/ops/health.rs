//! `/__faucet__/livez` and `/__faucet__/readyz`, answered while every worker is busy.

use hyper::StatusCode;
use serde_json::{json, Value};

use super::status::{rfc3339, LookupStatus, Status};

/// Paths below this one are faucet's own; no worker sees them.
pub const PREFIX: &str = "/__faucet__/";

/// Whether a path is that of a health check.
pub fn is_check(path: &str) -> bool {
    let name = path.strip_prefix(PREFIX);
    matches!(name, Some("livez" | "readyz"))
}

/// The answer to a health path; `None` if there is no such path.
pub fn answer(path: &str, status: impl FnOnce() -> Status) -> Option<(StatusCode, Value)> {
    match path.strip_prefix(PREFIX)? {
        "livez" => {
            let status = status();
            Some(if status.is_live() {
                (StatusCode::OK, json!({"status": "live"}))
            } else {
                let unserved = status.unserved.map(|unserved| unserved.as_secs_f64());
                let body = json!({"status": "given up", "unserved": unserved});
                (StatusCode::SERVICE_UNAVAILABLE, body)
            })
        }
        "readyz" => {
            let status = status();
            let (code, word) = if status.is_ready() {
                (StatusCode::OK, "ready")
            } else if status.draining {
                (StatusCode::SERVICE_UNAVAILABLE, "draining")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready")
            };
            let body = json!({
                "status": word,
                "workers": status.workers.len(),
                "serving": status.serving(),
                "failed": status.failed(),
                "next_try": status.next_try().map(rfc3339),
                "queue": status.queue,
                "lookup": status.lookup.as_ref().map(LookupStatus::to_json),
            });
            Some((code, body))
        }
        _ => None,
    }
}
