//! Bodies of answers: tonic's as the front sends them, and HTTP's as calls read them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::Status;

use super::status;
use crate::body::Abort;
use crate::front::Reply;

/// Bytes of an answer that is read as a whole, at most: the details of ten thousand functions have less.
const LARGEST: usize = 16 * 1024 * 1024;

/// tonic's body.
struct Sent(tonic::body::Body);

impl Body for Sent {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        // It has none: errors are trailers.
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map_err(|_| Abort::BrokenOff)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

pub(super) fn reply(body: tonic::body::Body) -> Reply {
    Reply::within(Sent(body))
}

/// All of a body, of `most` bytes at most.
///
/// # Errors
/// It breaks off, or is larger.
pub(super) async fn whole(mut reply: Reply, most: usize) -> Result<Bytes, Status> {
    match reply.take_whole() {
        Some(all) if all.len() <= most => return Ok(all),
        Some(_) => return Err(too_large(most)),
        None => {}
    }
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = reply.frame().await {
        let frame = frame.map_err(status::of_abort)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + all.len() + data.len() > most {
            return Err(too_large(most));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn too_large(most: usize) -> Status {
    let message = format!("the answer has more than {most} bytes: Invoke takes it in parts");
    Status::resource_exhausted(message)
}

/// The JSON of an answer.
///
/// # Errors
/// It breaks off, is too large or is none.
pub(super) async fn json(reply: Reply) -> Result<serde_json::Value, Status> {
    let body = whole(reply, LARGEST).await?;
    serde_json::from_slice(&body).map_err(|_| Status::internal("the answer is no JSON"))
}
