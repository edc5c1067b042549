//! A turn: a worker that waits for the next request on one connection. Another faucet's front asks for one when it was
//! told that every worker here is busy.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use tokio::task::AbortHandle;

use super::cause::Cause;
use super::connection_state::Shutdown;
use super::fronts::{Named, Place};
use super::queue;
use super::service::Peer;
use crate::lock::Lease;
use crate::pool::Pool;
use crate::worker::Worker;

/// How long a front waits for its turn before it has to ask again.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a worker waits for the request whose turn it is.
const UNUSED: Duration = Duration::from_secs(1);

/// A worker's lease, and who takes it away from a front that does not use it.
struct Turn {
    pool: Arc<Pool>,
    lease: Lease<Worker>,
    _timer: Timer,
    _place: Place,
    /// If it may be used on another connection.
    _named: Option<Named>,
}

struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The turn of one connection, given back with it.
#[derive(Default)]
pub struct ConnectionTurn(Mutex<Option<Box<Turn>>>);

impl ConnectionTurn {
    fn lock(&self) -> MutexGuard<'_, Option<Box<Turn>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is one for a worker of `pool`.
    pub fn is_for(&self, pool: &Arc<Pool>) -> bool {
        let turn = self.lock();
        turn.as_ref()
            .is_some_and(|turn| Arc::ptr_eq(&turn.pool, pool))
    }

    /// The lease, if it is still there.
    pub fn take(&self) -> Option<Lease<Worker>> {
        let turn = self.lock().take();
        turn.map(|turn| turn.lease)
    }
}

/// Waits for a worker and keeps it for the next request of `peer`, or, if it is for calls by gRPC, for one that has the name which
/// is returned. Who stops waiting leaves the queue.
pub async fn wait(
    peer: &Arc<Peer>,
    pool: &Arc<Pool>,
    arrived: Instant,
) -> Result<Option<HeaderValue>, Cause> {
    // One that was not used would be waited for.
    drop(peer.turn.take());
    let place = Place::take(&peer.front, peer.address).ok_or(Cause::QueueFull)?;
    let acquire = async {
        let Some(offer) = peer.offer() else {
            return queue::acquire(&pool.table, None, arrived).await;
        };
        loop {
            offer.open(&pool.table).await;
            let acquired = queue::acquire(&pool.table, None, arrived).await;
            // Meanwhile others may have begun.
            if acquired.0.is_err() || offer.admits_turn(&pool.table) {
                return acquired;
            }
        }
    };
    let mut waiting = pin!(tokio::time::timeout(PATIENCE, acquire));
    let lease = std::future::poll_fn(|cx| {
        // Once a shutdown is asked for, the next request would be refused.
        if peer.connection.shutdown() != Shutdown::None {
            return Poll::Ready(Err(Cause::Draining));
        }
        waiting.as_mut().poll(cx).map(|waited| match waited {
            Ok((lease, _)) => lease,
            Err(_) => Err(Cause::Busy),
        })
    })
    .await?;
    Ok(keep(peer, pool, lease, place))
}

fn keep(
    peer: &Arc<Peer>,
    pool: &Arc<Pool>,
    lease: Lease<Worker>,
    place: Place,
) -> Option<HeaderValue> {
    let named = match pool.is_grpc() {
        true => Named::of(peer),
        false => None,
    };
    let name = named.as_ref().map(|named| named.name().clone());
    // The connection may end before: nothing here keeps it.
    let late = Arc::downgrade(peer);
    let timer = tokio::spawn(async move {
        tokio::time::sleep(UNUSED).await;
        if let Some(peer) = late.upgrade() {
            drop(peer.turn.take());
        }
    });
    *peer.turn.lock() = Some(Box::new(Turn {
        pool: pool.clone(),
        lease,
        _timer: Timer(timer.abort_handle()),
        _place: place,
        _named: named,
    }));
    name
}
