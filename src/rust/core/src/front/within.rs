//! Requests that this server makes of itself: they take the way of a client's, from the check of their heads to the log.

use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::Request;

use super::connection_state::ConnectionState;
use super::request_body::RequestBody;
use super::service::{Party, Peer, Serving};
use super::turn::ConnectionTurn;
use super::Front;
use crate::client_address::ClientAddress;

/// For whom such requests are made.
#[derive(Clone)]
pub struct Origin {
    address: ClientAddress,
    address_text: HeaderValue,
    scheme: HeaderValue,
}

impl Origin {
    pub fn new(address: ClientAddress) -> Self {
        Self {
            address,
            address_text: HeaderValue::try_from(address.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            scheme: HeaderValue::from_static("http"),
        }
    }

    /// For the client of a connection.
    pub(super) fn of(peer: &Peer) -> Self {
        Self {
            address: peer.address,
            address_text: peer.address_text.clone(),
            scheme: peer.scheme.clone(),
        }
    }
}

impl Front {
    /// Makes a request of this server itself. Resolves to its answer, and never fails. To drop it, or the answer's body before its
    /// end, is to leave, as a client does: a request that waits never reaches a worker, one at work is cancelled.
    pub(crate) fn within(
        self: &Arc<Self>,
        origin: Origin,
        request: Request<RequestBody>,
    ) -> Serving {
        let peer = Peer {
            front: self.clone(),
            connection: Arc::new(ConnectionState::default()),
            address: origin.address,
            address_text: origin.address_text,
            scheme: origin.scheme,
            is_front: false,
            turn: ConnectionTurn::default(),
            party: Party::Client,
        };
        Serving::new(Arc::new(peer), request, None)
    }
}
