//! One request over HTTP: its body is read, the handler is asked, its answer is sent.

use std::fs::File;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request as HttpRequest, Response, StatusCode};

use super::answer::{Answer, Coming};
use super::compress;
use super::handler::Handler;
use super::inlet::Inlet;
use super::pipe::PipeReader;
use super::request::Request;
use crate::body::{Buffered, Store};
use crate::environment::SystemError;
use crate::worker::native::{BODY_FILE, FLOW, REQUEST_NUMBER};

/// What clients are told of a failure whose reason is none of their business: in httpuv's words.
const EXCEPTION: &str = "An exception occurred.";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The body of a response.
pub(super) enum Reply {
    Whole(Option<Bytes>),
    Stream(PipeReader),
    Coming(Coming),
}

impl Reply {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(reader) => Pin::new(reader).poll_frame(cx),
            Self::Coming(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) | Self::Coming(_) => SizeHint::default(),
        }
    }
}

pub(super) async fn serve<H: Handler>(
    handler: Arc<H>,
    store: Store,
    body_memory: u64,
    request: HttpRequest<Incoming>,
) -> Result<Response<Reply>, std::convert::Infallible> {
    let (mut parts, body) = request.into_parts();
    let number = take_number(&mut parts.headers);
    let id = parts.headers.get(REQUEST_ID).cloned();
    let rest = parts.headers.remove(BODY_FILE);
    let flows = parts.headers.remove(FLOW).is_some();
    // Its sender has seen to limits and times.
    let read = async {
        if flows {
            return Ok((Buffered::default(), Some(Inlet::new(body))));
        }
        // What comes before a file has been in the sender's memory, and is in ours: a body has one file.
        let memory = if rest.is_some() {
            u64::MAX
        } else {
            body_memory
        };
        let mut body = Buffered::read_from(body, &store, memory, u64::MAX, None)
            .await
            .map_err(io::Error::other)?;
        if let Some(rest) = rest {
            let (file, length) = store.run(move || open_rest(rest.as_bytes())).await?;
            body.append_file(file, length, &store);
        }
        Ok::<_, io::Error>((body, None))
    };
    let (body, inlet) = match read.await {
        Ok(read) => read,
        Err(error) => return Ok(unreadable(&error, id.as_ref())),
    };
    let method = parts.method.clone();
    let gzip = compress::is_accepted(&parts.headers);
    let request = Request {
        method: parts.method,
        target: parts.uri,
        headers: parts.headers,
        body,
        inlet,
    };
    let answer = handler.handle(number, request).await;
    Ok(answer
        .unwrap_or_else(Answer::cancelled)
        .into_response(&method, gzip))
}

pub(super) fn take_number(headers: &mut HeaderMap) -> Option<u64> {
    headers.remove(REQUEST_NUMBER)?.to_str().ok()?.parse().ok()
}

fn open_rest(value: &[u8]) -> io::Result<(File, u64)> {
    let (length, path) = parse_rest(value).ok_or(io::ErrorKind::InvalidData)?;
    Ok((File::open(path)?, length))
}

/// The value of [`BODY_FILE`].
pub(super) fn parse_rest(value: &[u8]) -> Option<(u64, &str)> {
    let (length, path) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    Some((length.parse().ok()?, path))
}

/// The reason is for the front, which shows what a worker prints, and nothing for the client.
fn unreadable(error: &io::Error, id: Option<&HeaderValue>) -> Response<Reply> {
    let id = id.map_or("(without an id)".into(), |id| {
        String::from_utf8_lossy(id.as_bytes())
    });
    let line = format!(
        "The body of request {id} could not be read: {}\n",
        SystemError(error)
    );
    // A front that does not read it is gone, and so is this worker soon.
    let _ = io::stderr().write_all(line.as_bytes());
    let mut response = Response::new(Reply::whole(EXCEPTION.into()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
