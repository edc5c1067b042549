//! The two sockets of a worker, and what is served there, on whatever runtime.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::control;
use super::handler::Handler;
use super::service;
use crate::body::Store;
use crate::environment::SystemError;
use crate::heads::ROOM_FOR_HEADERS;
use crate::worker::native::control_path;
use crate::worker::widen;

/// After an error of accept: the system is out of something.
const PAUSE: Duration = Duration::from_millis(50);

/// Sockets at which a front may connect. Dropped, they are removed.
pub(crate) struct Listening {
    path: PathBuf,
    /// Until they are served.
    sockets: Option<(StdListener, StdListener)>,
}

/// What is the same for all requests there.
#[derive(Clone)]
pub(crate) struct Terms {
    pub store: Store,
    /// How much of a request's body stays in memory, in bytes.
    pub body_memory: u64,
    /// The path of the app's documentation, for the front to tell.
    pub docs: Option<String>,
    /// What the function takes that is served, as JSON in one line, for the front to tell.
    pub signature: Option<String>,
    /// The app's routes, as JSON in one line, for the front to tell.
    pub routes: Option<Arc<str>>,
}

impl Listening {
    /// At `path` and its [`control_path`].
    ///
    /// # Errors
    /// The sockets cannot be had.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        // In this order: once the other is there, a front may ask here.
        let control = listen(&control_path(path))?;
        let http = listen(path)?;
        Ok(Self {
            path: path.to_owned(),
            sockets: Some((http, control)),
        })
    }

    /// Serves until it is dropped, and with it every connection.
    ///
    /// # Errors
    /// The runtime cannot have the sockets.
    pub(crate) async fn serve<H: Handler>(
        mut self,
        handler: Arc<H>,
        terms: Terms,
    ) -> io::Result<()> {
        let Some((http, control)) = self.sockets.take() else {
            return Ok(());
        };
        let http = UnixListener::from_std(http)?;
        let control = UnixListener::from_std(control)?;
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                stream = accept(&http) => {
                    let conversation = converse(handler.clone(), terms.clone(), stream);
                    // What is logged meanwhile is the pool's whose workers these are.
                    tasks.spawn(conversation.in_current_span());
                }
                stream = accept(&control) => {
                    let (handler, terms) = (handler.clone(), terms.clone());
                    tasks.spawn(async move {
                        // A front that hangs up has said all it wanted.
                        let _ = control::serve(&*handler, &terms, stream).await;
                    });
                }
                // So that what is over is forgotten. How it ended, the front has seen.
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(control_path(&self.path));
    }
}

fn listen(path: &Path) -> io::Result<StdListener> {
    let listener = StdListener::bind(path)?;
    // Its folder is private already.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next connection. May be dropped at any time.
async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!("cannot accept: {}", SystemError(&error));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse<H: Handler>(handler: Arc<H>, terms: Terms, stream: UnixStream) {
    widen(&stream);
    let service = service_fn(|request| {
        let (handler, store) = (handler.clone(), terms.store.clone());
        service::serve(handler, store, terms.body_memory, request)
    });
    // How it ends, the front sees for itself.
    let _ = http1::Builder::new()
        .max_headers(ROOM_FOR_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
