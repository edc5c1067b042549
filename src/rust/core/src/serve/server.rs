//! The thread that speaks HTTP for one worker.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::dispatcher::Dispatcher;
use super::listening::{Listening, Terms};
use crate::body::Store;
use crate::descriptors::Descriptors;
use crate::environment::SystemError;
use crate::signals;

/// Threads that open and keep large bodies.
const FILE_THREADS: usize = 2;

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
    /// The app's routes, as JSON in one line, for the front to tell.
    pub routes: Option<Arc<str>>,
}

/// A running server. Dropping it ends the thread and removes the sockets.
pub struct Server {
    dispatcher: Arc<Dispatcher>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and starts the thread.
    ///
    /// # Errors
    /// The sockets or the thread cannot be had.
    pub fn start(settings: Settings, dispatcher: Arc<Dispatcher>) -> io::Result<Self> {
        let listening = Listening::bind(&settings.socket)?;
        let (stop, stopped) = oneshot::channel();
        let served = dispatcher.clone();
        let terms = Terms {
            // Its one front sees to limits.
            store: Store::new(u64::MAX, Descriptors::new(usize::MAX), FILE_THREADS)?,
            body_memory: settings.body_memory,
            docs: settings.docs,
            signature: settings.signature,
            routes: settings.routes,
        };
        let thread = signals::start_thread("faucet-serve", signals::STACK, move || {
            let dispatcher = Closing(served);
            run(&dispatcher.0, terms, listening, stopped);
        })?;
        Ok(Self {
            dispatcher,
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
    }
}

/// Tells the handler that nothing more will come, however the thread ends.
struct Closing(Arc<Dispatcher>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn run(
    dispatcher: &Arc<Dispatcher>,
    terms: Terms,
    listening: Listening,
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
        tokio::select! {
            served = listening.serve(dispatcher.clone(), terms) => {
                if let Err(error) = served {
                    tracing::error!("cannot serve: {}", SystemError(&error));
                }
            }
            _ = stopped => {}
        }
    });
    runtime.shutdown_background();
}
