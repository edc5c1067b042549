//! Taking what another server keeps.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, HOST};
use hyper::{Request, StatusCode, Uri};

use super::give::PATH;
use crate::body::Abort;
use crate::front::headers::X_REQUEST_ID;
use crate::front::one_time::Token;
use crate::front::reply::Reply;
use crate::worker::{remote, Connection, Outgoing};

/// How long the head of the answer may take: nothing has to be computed for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for what has this token. `host` is said, and `id` is the call's.
///
/// # Errors
/// It is not there; within a sentence.
pub async fn fetch(
    mut connection: Connection,
    host: HeaderValue,
    token: &Token,
    id: &HeaderValue,
) -> Result<Reply, String> {
    let uri = Uri::try_from(format!("{PATH}{token}")).map_err(|error| error.to_string())?;
    let mut request = Request::new(Outgoing::Empty);
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(X_REQUEST_ID, id.clone());
    let sent = tokio::time::timeout(PATIENCE, connection.send(request, None));
    let response = match sent.await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => return Err("it has broken the connection off".to_owned()),
        Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let said = response.headers().get(remote::KEPT);
    // Whoever else is at that address does not say it.
    let is_it = said.is_some_and(|said| *said == *token.to_string());
    if response.status() != StatusCode::OK || !is_it {
        let status = response.status().as_u16();
        return Err(format!(
            "what is there is something else, or nothing (status {status})"
        ));
    }
    let body = response.into_body();
    Ok(Reply::within(Fetched { connection, body }))
}

/// A body on its way here. To drop it is to close its connection.
struct Fetched {
    connection: Connection,
    body: Incoming,
}

impl Body for Fetched {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let this = &mut *self;
        let polled = this.connection.poll_frame(&mut this.body, cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(|_| Abort::BrokenOff)))
    }
}
