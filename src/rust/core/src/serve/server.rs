//! The thread that speaks HTTP for one worker.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

use super::control;
use super::dispatcher::Dispatcher;
use super::service;
use crate::body::Store;
use crate::descriptors::Descriptors;
use crate::environment::SystemError;
use crate::heads::ROOM_FOR_HEADERS;
use crate::signals;
use crate::worker::native::control_path;
use crate::worker::widen;

/// Threads that open and keep large bodies.
const FILE_THREADS: usize = 2;

/// After an error of accept: the system is out of something.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a worker serves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the socket for HTTP. That for control has its name from it.
    pub socket: PathBuf,
    /// How much of a request's body stays in memory, in bytes.
    pub body_memory: u64,
    /// The path of the app's documentation, for the front to tell.
    pub docs: Option<String>,
    /// What the function takes that is served, as JSON in one line, for the front to tell.
    pub signature: Option<String>,
}

/// A running server. Dropping it ends the thread and removes the sockets.
pub struct Server {
    dispatcher: Arc<Dispatcher>,
    settings: Settings,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and starts the thread.
    ///
    /// # Errors
    /// The sockets or the thread cannot be had.
    pub fn start(settings: Settings, dispatcher: Arc<Dispatcher>) -> io::Result<Self> {
        // In this order: once the other is there, a front may ask here.
        let control = listen(&control_path(&settings.socket))?;
        let http = listen(&settings.socket)?;
        let (stop, stopped) = oneshot::channel();
        let (served, its) = (dispatcher.clone(), settings.clone());
        // Its one front sees to limits.
        let store = Store::new(u64::MAX, Descriptors::new(usize::MAX), FILE_THREADS)?;
        let thread = signals::start_thread("faucet-serve", signals::STACK, move || {
            let dispatcher = Closing(served);
            run(&dispatcher.0, &store, &its, http, control, stopped);
        })?;
        Ok(Self {
            dispatcher,
            settings,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where its requests are.
    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.settings.socket);
        let _ = std::fs::remove_file(control_path(&self.settings.socket));
    }
}

/// Tells the handler that nothing more will come, however the thread ends.
struct Closing(Arc<Dispatcher>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn listen(path: &Path) -> io::Result<StdListener> {
    let listener = StdListener::bind(path)?;
    // Its folder is private already.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn run(
    dispatcher: &Arc<Dispatcher>,
    store: &Store,
    settings: &Settings,
    http: StdListener,
    control: StdListener,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("no runtime: {}", SystemError(&error));
            return;
        }
    };
    runtime.block_on(async {
        let (Ok(http), Ok(control)) = (
            UnixListener::from_std(http),
            UnixListener::from_std(control),
        ) else {
            return;
        };
        let serving = accept(http, |stream| {
            tokio::spawn(converse(
                dispatcher.clone(),
                store.clone(),
                settings.body_memory,
                stream,
            ));
        });
        let controlling = accept(control, |stream| {
            let (dispatcher, settings) = (dispatcher.clone(), settings.clone());
            tokio::spawn(async move {
                // A front that hangs up has said all it wanted.
                let _ = control::serve(&dispatcher, &settings, stream).await;
            });
        });
        tokio::select! {
            () = serving => {}
            () = controlling => {}
            _ = stopped => {}
        }
    });
    runtime.shutdown_background();
}

async fn accept(listener: UnixListener, begin: impl Fn(UnixStream)) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => begin(stream),
            Err(error) => {
                tracing::warn!("cannot accept: {}", SystemError(&error));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(dispatcher: Arc<Dispatcher>, store: Store, body_memory: u64, stream: UnixStream) {
    widen(&stream);
    let service = service_fn(|request| {
        service::serve(dispatcher.clone(), store.clone(), body_memory, request)
    });
    // How it ends, the front sees for itself.
    let _ = http1::Builder::new()
        .max_headers(ROOM_FOR_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
