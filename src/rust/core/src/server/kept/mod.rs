//! What agents and proxies have in common: the folder where they keep what is deployed, and how they answer about it.

mod runner;
mod store;

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinError;

use crate::body::Buffered;
use crate::environment::SystemError;
use crate::front::Told;
use crate::functions::calls::{self, CallbackUrl, Calls};
use crate::functions::management::Access;
use crate::functions::{BadSecret, Broken, Name, Secrets, ServiceTaken};
use crate::ops::log::{Kind, Log, ERROR};
use crate::sources::Failure;
use crate::tls::ClientTls;

pub(super) use self::runner::WithinFront;
pub(super) use self::store::{Store, UploadFailed};

/// The calls that nobody waits for, as they were kept. `ca` is whose certificates are believed at the URLs that are told of their
/// end. To be called on R's thread.
///
/// # Errors
/// Class `option` or `system`: they cannot be read, or there are no certificates.
pub(super) fn open_calls(
    store: &Store,
    settings: &calls::Settings,
    access: &Access,
    ca: Option<&Path>,
    log: &Log,
) -> Result<Arc<Calls>, Failure> {
    let tls = settings.callbacks.iter().any(CallbackUrl::is_tls);
    let tls = tls.then(|| ClientTls::load(ca).map(Arc::new));
    // Functions are called as by a client.
    let token = access.call_token.clone();
    let opened = Calls::open(store.calls(), settings.clone(), token, tls.transpose()?);
    let (calls, broken) = opened.map_err(super::system)?;
    for broken in broken {
        set_aside(log, "call", &broken);
    }
    Ok(calls)
}

/// The route of a function's pool, at agents and proxies alike.
pub(super) fn route_of(name: &Name) -> String {
    format!("/functions/{name}")
}

/// Whether an archive was uploaded.
pub(super) fn bundle_known(store: &Store, digest: &str) -> Told {
    match store.has_bundle(digest) {
        true => Told::ok(json!({ "bundle": digest })),
        false => Told::refused(
            StatusCode::NOT_FOUND,
            "no_bundle",
            "there is no such bundle",
        ),
    }
}

/// What came of an upload.
pub(super) fn bundle_kept(kept: Result<Result<String, UploadFailed>, JoinError>) -> Told {
    match kept {
        Ok(Ok(digest)) => Told::ok(json!({ "bundle": digest, "status": "uploaded" })),
        Ok(Err(UploadFailed::System(error))) => storage(&error),
        Ok(Err(problem)) => {
            Told::refused(StatusCode::BAD_REQUEST, "bad_bundle", problem.to_string())
        }
        Err(error) => internal(&error.to_string()),
    }
}

/// The names of all secrets.
pub(super) fn secret_names(secrets: &Secrets) -> Told {
    Told::ok(secrets.names().map(Name::as_str).collect())
}

/// The value of a secret, as it was sent.
///
/// # Errors
/// What it is answered with: it cannot be read.
pub(super) fn secret_sent(body: &Buffered) -> Result<Vec<u8>, Told> {
    let mut value = vec![0; usize::try_from(body.len()).unwrap_or_default()];
    match body.copy_to(0, &mut value) {
        Ok(_) => Ok(value),
        Err(_) => Err(internal("the secret cannot be read")),
    }
}

/// What came of setting a secret: whether it has changed.
pub(super) fn secret_set(name: &Name, set: Result<Result<bool, BadSecret>, JoinError>) -> Told {
    match set {
        Ok(Ok(changed)) => Told::ok(json!({"secret": name.as_str(), "changed": changed})),
        Ok(Err(BadSecret::System(error))) => storage(&error),
        Ok(Err(problem)) => {
            Told::refused(StatusCode::BAD_REQUEST, "bad_secret", problem.to_string())
        }
        Err(error) => internal(&error.to_string()),
    }
}

/// Why a secret is not removed, if these functions have declared it.
pub(super) fn secret_in_use(name: &Name, users: &[Name]) -> Option<Told> {
    if users.is_empty() {
        return None;
    }
    let users: Vec<&str> = users.iter().map(Name::as_str).collect();
    let users = users.join(", ");
    let message = format!("secret `{name}` is declared by {users}: stop these first");
    Some(Told::refused(
        StatusCode::CONFLICT,
        "secret_in_use",
        message,
    ))
}

/// What came of removing a secret: whether it was there.
pub(super) fn secret_removed(name: &Name, removed: Result<io::Result<bool>, JoinError>) -> Told {
    match removed {
        Ok(Ok(true)) => Told::ok(json!({"secret": name.as_str(), "deleted": true})),
        Ok(Ok(false)) => {
            let message = format!("there is no secret `{name}`");
            Told::refused(StatusCode::NOT_FOUND, "no_secret", message)
        }
        Ok(Err(error)) => storage(&error),
        Err(error) => internal(&error.to_string()),
    }
}

/// A service of gRPC is another function's.
pub(super) fn service_taken(taken: &ServiceTaken) -> Told {
    let json = json!({
        "error": taken.to_string(),
        "field": "services",
        "service": taken.service,
        "takenBy": taken.function.as_str(),
    });
    Told::Json(StatusCode::CONFLICT, Some(ServiceTaken::CAUSE), json)
}

pub(super) fn storage(error: &io::Error) -> Told {
    let why = SystemError(error);
    tracing::error!("the state folder cannot be written: {why}");
    Told::refused(
        StatusCode::INSUFFICIENT_STORAGE,
        "storage",
        format!("this cannot be kept: {why}"),
    )
}

pub(super) fn internal(message: &str) -> Told {
    tracing::error!("{message}");
    Told::refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}

/// Says that a record is none.
pub(super) fn set_aside(log: &Log, what: &str, broken: &Broken) {
    let text = format!(
        "the record of {what} `{}` cannot be read and is set aside as {}: {}",
        broken.name,
        broken.path.display(),
        broken.why
    );
    log.push(Kind::Event, ERROR, text);
}
