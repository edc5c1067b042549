//! The connection to a service of gRPC, or to an agent that has one: one, by HTTP/2, for all of its calls.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{Address, Remote, Worker, REST};
use crate::client_stream::ClientStream;
use crate::clock::coarse_millis;
use crate::descriptors::Descriptors;

/// How long opening the connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What may arrive of one answer before it is taken, and of all together, in bytes: memory that nobody counts. Where as many calls as
/// a faucet has at a time on a connection are all slow to be taken, none is in another's way.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * STREAM_WINDOW;

/// A service that says nothing while it has calls is asked this often whether it is there, and has as long to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The body of a call.
pub type CallBody = Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>;

/// What calls are made by.
pub type CallSender = SendRequest<CallBody>;

/// A connection, and when it was asked for last, on the coarse clock.
struct Known {
    sender: CallSender,
    used: u64,
}

/// The connection, once there is one.
#[derive(Default)]
pub struct Service(Mutex<Option<Known>>);

impl Service {
    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, if there is one that can be used again.
    fn known(&self) -> Option<CallSender> {
        let now = coarse_millis();
        let mut known = self.lock();
        let rested = known
            .as_ref()
            .is_some_and(|known| now.saturating_sub(known.used) >= REST.as_millis() as u64);
        // Its other side may be about to close it. Calls that it has go on.
        if rested {
            *known = None;
        }
        let known = known.as_mut()?;
        known.used = now;
        Some(known.sender.clone())
    }

    /// What calls of `worker`, whose this is, are made by.
    ///
    /// # Errors
    /// It cannot be reached, or does not speak HTTP/2.
    pub async fn sender(
        &self,
        worker: &Worker,
        descriptors: &Descriptors,
    ) -> io::Result<CallSender> {
        if let Some(mut sender) = self.known() {
            if !sender.is_closed() && sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let connect = connect(worker, descriptors);
        let sender = tokio::time::timeout(CONNECT_TIMEOUT, connect).await??;
        *self.lock() = Some(Known {
            sender: sender.clone(),
            used: coarse_millis(),
        });
        Ok(sender)
    }
}

async fn open(worker: &Worker) -> io::Result<ClientStream> {
    let socket = match &worker.address {
        Address::Tcp(address) => TcpStream::connect(address).await?,
        // It dials itself.
        Address::Callers(callers) => return callers.take().await,
        Address::Unix(_) | Address::Dialled(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    socket.set_nodelay(true)?;
    match worker.remote.as_ref().and_then(Remote::peer) {
        None => Ok(ClientStream::Tcp(socket)),
        Some(peer) => peer.connect_http2(socket).await,
    }
}

async fn connect(worker: &Worker, descriptors: &Descriptors) -> io::Result<CallSender> {
    let none = || io::Error::from_raw_os_error(nix::errno::Errno::EMFILE as i32);
    let descriptor = descriptors.take_spare().ok_or_else(none)?;
    let stream = open(worker).await?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Ends when the last who could call has gone. What ends it before, each call hears of.
    tokio::spawn(async move {
        let _ = connection.await;
        drop(descriptor);
    });
    Ok(sender)
}
