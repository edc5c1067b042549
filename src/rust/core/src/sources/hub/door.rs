//! Where workers dial in: who is let in, and how long getting in may take.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::handshake::{shake_hands, Hello, Refusal};
use super::{Hub, Token};
use crate::client_stream::ClientStream;
use crate::descriptors::Descriptor;
use crate::environment::SystemError;
use crate::front::{is_the_other_sides, Front};
use crate::ops::News;
use crate::pool::Route;
use crate::tls::ServerTls;
use crate::worker::{watch_slot, Dialled};

/// How long a handshake may take, with that of TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How many may be under way; for one more, the oldest ends.
const MOST_HANDSHAKES: usize = 512;

/// After an accept error that is not the worker's fault.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Who has use for the connections of those who dial in.
pub trait Host: Send + Sync + 'static {
    /// Takes one. What the metrics call that, and what is wrong, for the log.
    fn receive(
        &self,
        hello: Hello,
        peer: SocketAddr,
        stream: ClientStream,
        descriptor: Descriptor,
    ) -> (&'static str, Option<&'static str>);
}

impl Host for Arc<Hub> {
    fn receive(
        &self,
        hello: Hello,
        peer: SocketAddr,
        stream: ClientStream,
        descriptor: Descriptor,
    ) -> (&'static str, Option<&'static str>) {
        let slot = Dialled::new(hello.name, peer, stream, false, descriptor);
        match self.offer(hello.route, slot) {
            Ok(()) => ("accepted", None),
            Err(_) => (
                "too_many_routes",
                Some("offers a slot for one more route, and there are as many as there may be"),
            ),
        }
    }
}

/// Handshakes that are under way, the oldest first.
#[derive(Default)]
struct UnderWay(VecDeque<AbortHandle>);

impl UnderWay {
    /// Adds one; whether another ends for it.
    fn begin(&mut self, handshake: AbortHandle) -> bool {
        if self.0.len() >= MOST_HANDSHAKES {
            self.0.retain(|handshake| !handshake.is_finished());
        }
        let full = self.0.len() >= MOST_HANDSHAKES;
        if full {
            self.0.pop_front().iter().for_each(AbortHandle::abort);
        }
        self.0.push_back(handshake);
        full
    }
}

/// Takes workers until the server takes no more clients.
pub async fn let_in_workers(
    front: Arc<Front>,
    host: Arc<impl Host>,
    token: Option<Token>,
    tls: Option<Arc<ServerTls>>,
    listener: TcpListener,
) {
    let token = Arc::new(token);
    let refused = Arc::new(News::default());
    let mut under_way = UnderWay::default();
    accept(front.clone(), listener, |stream, peer, descriptor| {
        let (task, host, token) = (front.clone(), host.clone(), token.clone());
        let (refused, tls) = (refused.clone(), tls.clone());
        let handshake = async move {
            let unavailable = if task.lifecycle.draining.load(Ordering::Relaxed) {
                Some("the hub is shutting down")
            } else {
                None
            };
            let shaken = async {
                let stream = match tls {
                    None => ClientStream::Tcp(stream),
                    Some(tls) => tls.accept(stream).await?,
                };
                shake_hands(stream, token.as_ref().as_ref(), unavailable).await
            };
            let outcome = match tokio::time::timeout(HANDSHAKE, shaken).await {
                Err(_) => "timeout",
                Ok(Err(_)) => "broken_off",
                Ok(Ok(Err(refusal))) => {
                    if refused.due().is_some() {
                        tell(&refusal, peer);
                    }
                    refusal.name()
                }
                Ok(Ok(Ok((hello, stream)))) => {
                    let (outcome, complaint) = host.receive(hello, peer, stream, descriptor);
                    if let Some(complaint) = complaint.filter(|_| refused.due().is_some()) {
                        tracing::warn!("{peer} {complaint}");
                    }
                    outcome
                }
            };
            task.metrics.offer(outcome);
        };
        // It says nothing any more.
        if under_way.begin(tokio::spawn(handshake).abort_handle()) {
            front.metrics.offer("pushed_out");
        }
    })
    .await;
}

fn tell(refusal: &Refusal, peer: SocketAddr) {
    match refusal {
        Refusal::Unauthorized => {
            tracing::warn!("{peer} offers a slot without the token: it is refused");
        }
        Refusal::Malformed(why) => {
            tracing::warn!("{peer} offers no slot as it should: {why}");
        }
        Refusal::Unavailable(_) => {}
    }
}

/// Takes workers of POTHEAD until the server takes no more clients: each connection is a slot at once, for one request.
pub async fn let_in_pothead(front: Arc<Front>, hub: Arc<Hub>, listener: TcpListener) {
    accept(front.clone(), listener, |stream, peer, descriptor| {
        let stream = ClientStream::Tcp(stream);
        let name = peer.ip().to_string().into();
        let slot = Dialled::new(name, peer, stream, true, descriptor);
        let outcome = match hub.offer(Route::root(), slot) {
            Ok(()) => "accepted",
            Err(_) => "too_many_routes",
        };
        front.metrics.offer(outcome);
    })
    .await;
}

/// Accepts until the [door is closed](crate::front::Connections::close_door). Nothing that a worker or the system does ends
/// this loop.
async fn accept(
    front: Arc<Front>,
    listener: TcpListener,
    mut take: impl FnMut(TcpStream, SocketAddr, Descriptor),
) {
    let news = News::default();
    let mut closed = pin!(front.connections.closed());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed.as_mut() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_other_sides(&error) => continue,
            Err(error) => {
                if news.due().is_some() {
                    tracing::warn!("cannot accept workers: {}", SystemError(&error));
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(descriptor) = front.store.descriptors().take() else {
            if news.due().is_some() {
                tracing::warn!("a worker cannot be let in: too few descriptors are left");
            }
            front.metrics.offer("no_room");
            continue;
        };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        // Loses at most some latency.
        let _ = stream.set_nodelay(true);
        watch_slot((&stream).into());
        take(stream, peer, descriptor);
    }
}
