//! Calls of functions and of chains of them: input and output as they come.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::header::{HeaderName, HeaderValue, ACCEPT, CONTENT_TYPE};
use hyper::{HeaderMap, Method, Response};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::ask::{succeeded, target, Asking};
use super::proto::{InvokeRequest, InvokeResponse};
use super::{answers, status, LARGEST_MESSAGE};
use crate::front::{Reply, RequestBody};
use crate::functions::{query_of, Chain};

/// Bytes of output in one message at most: each message is copied whole.
const PIECE: usize = 256 * 1024;

/// What a message has besides its output, at most: a media type and an id.
const BESIDES: usize = 16 * 1024;

/// Why an input has not come to its end: the call's client is told that, and not what its functions made of it.
#[derive(Clone, Default)]
struct Broken(Arc<Mutex<Option<Status>>>);

impl Broken {
    fn set(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    fn or(&self, status: Status) -> Status {
        let why = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        why.unwrap_or(status)
    }
}

/// The input: that of the first message, and of those after it.
struct Input {
    first: Bytes,
    rest: Streaming<InvokeRequest>,
    broken: Broken,
}

impl Input {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        loop {
            let message = ready!(Pin::new(&mut self.rest).poll_next(cx));
            return Poll::Ready(match message {
                None => None,
                Some(Ok(message)) if !message.chain.is_empty() => Some(Err(
                    Status::invalid_argument("only the first message says what is called"),
                )),
                // It would be an end of its own to some.
                Some(Ok(message)) if message.data.is_empty() => continue,
                Some(message) => Some(message.map(|message| message.data)),
            });
        }
    }
}

impl Body for Input {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let next = ready!(self.next(cx));
        if let Some(Err(status)) = &next {
            self.broken.set(status.clone());
        }
        Poll::Ready(next.map(|next| next.map(Frame::data)))
    }
}

/// Whether there is nothing after the first message, as far as one can tell without waiting; what there is, is added to it.
async fn is_complete(input: &mut Input) -> Result<bool, Status> {
    let next = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut input.rest).poll_next(cx)));
    match next.await {
        Poll::Pending => Ok(false),
        Poll::Ready(None) => Ok(true),
        Poll::Ready(Some(Err(status))) => Err(status),
        Poll::Ready(Some(Ok(message))) if !message.chain.is_empty() => Err(
            Status::invalid_argument("only the first message says what is called"),
        ),
        Poll::Ready(Some(Ok(message))) => {
            input.first = match (input.first.is_empty(), message.data.is_empty()) {
                (true, _) => message.data,
                (false, true) => std::mem::take(&mut input.first),
                (false, false) => [&input.first[..], &message.data[..]].concat().into(),
            };
            Ok(false)
        }
    }
}

/// Calls what the first message of a stream says.
///
/// # Errors
/// No output has come, and none will.
pub(super) async fn invoke(
    asking: &Asking,
    mut messages: Streaming<InvokeRequest>,
) -> Result<Output, Status> {
    let mut first = messages.message().await?.unwrap_or_default();
    let broken = Broken::default();
    let mut input = Input {
        first: std::mem::take(&mut first.data),
        rest: messages,
        broken: broken.clone(),
    };
    let complete = is_complete(&mut input).await?;
    let body = match complete {
        true => RequestBody::whole(input.first),
        false => RequestBody::within(input),
    };
    let response = send(asking, first, body, complete).await;
    let response = response.map_err(|status| broken.or(status))?;
    Ok(Output::new(Head::of(asking, response), broken))
}

/// Calls with all of the input, and returns all of the output.
///
/// # Errors
/// The call failed, or its output does not fit in a message.
pub(super) async fn call(
    asking: &Asking,
    mut request: InvokeRequest,
) -> Result<InvokeResponse, Status> {
    let body = RequestBody::whole(std::mem::take(&mut request.data));
    let head = Head::of(asking, send(asking, request, body, true).await?);
    let most = LARGEST_MESSAGE - BESIDES;
    Ok(InvokeResponse {
        data: answers::whole(head.reply, most).await?,
        content_type: head.content_type,
        call_id: head.call_id,
    })
}

/// The request by HTTP. One function alone is called as such if all of its input is there: no chain is in the way then. In
/// a chain it has its input as that comes, if it reads it so.
async fn send(
    asking: &Asking,
    request: InvokeRequest,
    body: RequestBody,
    complete: bool,
) -> Result<Response<Reply>, Status> {
    let mut headers = HeaderMap::new();
    put(&mut headers, CONTENT_TYPE, &request.content_type)?;
    put(&mut headers, ACCEPT, &request.accept)?;
    let alone = match complete && !request.buffer {
        true => alone(asking, &request.chain),
        false => None,
    };
    let (target, function) = match alone {
        Some((target, function)) => (target, Some(function)),
        None => {
            let buffer = request.buffer.then_some(("buffer", "1"));
            let chain = ("chain", &*request.chain);
            let options = std::iter::once(chain).chain(buffer);
            (target("/invoke", &query_of(options)), None)
        }
    };
    let response = asking.send(Method::POST, target, headers, body).await?;
    succeeded(response, function.as_deref()).await
}

/// Where the only function of a chain is called, and its name, if it is here by that name.
fn alone(asking: &Asking, chain: &str) -> Option<(String, String)> {
    let mut stages = Chain::parse(chain).ok()?.stages;
    let stage = stages.pop().filter(|_| stages.is_empty())?;
    let path = format!("/functions/{}", stage.function);
    if !asking.has(&path) {
        return None;
    }
    Some((target(&path, &stage.query()), stage.function))
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) -> Result<(), Status> {
    if text.is_empty() {
        return Ok(());
    }
    let value = HeaderValue::from_str(text)
        .map_err(|_| Status::invalid_argument(format!("`{name}` cannot have that value")))?;
    headers.insert(name, value);
    Ok(())
}

/// What the first message of an output says, and where the output comes from.
struct Head {
    content_type: String,
    call_id: String,
    reply: Reply,
}

impl Head {
    fn of(asking: &Asking, response: Response<Reply>) -> Self {
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok());
        Self {
            content_type: kind.unwrap_or_default().to_owned(),
            call_id: asking.id(),
            reply: response.into_body(),
        }
    }
}

/// The messages of an output. There is at least one: it says what the output is.
pub(super) struct Output {
    /// Until it is told.
    head: Option<(String, String)>,
    /// Of the last piece, what did not fit in a message.
    rest: Bytes,
    reply: Reply,
    broken: Broken,
}

impl Output {
    fn new(head: Head, broken: Broken) -> Self {
        Self {
            head: Some((head.content_type, head.call_id)),
            rest: Bytes::new(),
            reply: head.reply,
            broken,
        }
    }

    fn message(&mut self, mut data: Bytes) -> InvokeResponse {
        if data.len() > PIECE {
            self.rest = data.split_off(PIECE);
        }
        let (content_type, call_id) = self.head.take().unwrap_or_default();
        InvokeResponse {
            content_type,
            call_id,
            data,
        }
    }
}

impl Stream for Output {
    type Item = Result<InvokeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.message(rest))));
        }
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut this.reply).poll_frame(cx)) {
                None if this.head.is_some() => Some(Ok(this.message(Bytes::new()))),
                None => None,
                Some(Err(abort)) => Some(Err(this.broken.or(status::of_abort(abort)))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(this.message(data))),
                    // Trailers of a function's own.
                    Err(_) => continue,
                },
            });
        }
    }
}
