//! The body of a request: a client's, or that of a request which this server makes of itself.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

type Within = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send + Sync>>;
type BoxError = Box<dyn Error + Send + Sync>;

/// A body that is on its way.
pub enum RequestBody {
    /// From a client's connection.
    Wire(Incoming),
    /// From a stream of HTTP/2, which may be reset: hyper takes some codes for an end.
    Stream(Incoming),
    /// From within this process.
    Within(Within),
    /// The same, and all of it is there.
    Whole(Bytes),
}

/// Why it has not come to its end.
#[derive(Debug)]
pub enum RequestBodyError {
    Wire(hyper::Error),
    /// The stream was reset. Half a body is not to be taken for all of it.
    Reset,
    Within(BoxError),
}

impl RequestBody {
    pub fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    /// All of it at once.
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }

    /// All of it, if it is there, and of `most` bytes at most.
    pub fn take_within(&mut self, most: u64) -> Option<Bytes> {
        match self {
            Self::Whole(bytes) if bytes.len() as u64 <= most => Some(std::mem::take(bytes)),
            _ => None,
        }
    }

    /// The same, as HTTP/2 has it.
    #[must_use]
    pub fn of_stream(self) -> Self {
        match self {
            Self::Wire(body) => Self::Stream(body),
            body => body,
        }
    }

    /// Whether it has a connection of HTTP/1 to itself.
    pub fn is_on_connection(&self) -> bool {
        matches!(self, Self::Wire(_))
    }

    /// Whether it is written in this process.
    pub fn is_within(&self) -> bool {
        matches!(self, Self::Within(_) | Self::Whole(_))
    }

    /// One that somebody in this process writes. Its error is taken for its writer's leaving.
    pub fn within<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<BoxError>,
    {
        Self::Within(Box::pin(http_body_util::BodyExt::map_err(body, Into::into)))
    }
}

impl From<Incoming> for RequestBody {
    fn from(body: Incoming) -> Self {
        Self::Wire(body)
    }
}

impl RequestBodyError {
    /// Whether the body ended with its connection, its stream or its writer, and not with bytes that are no body.
    pub fn is_departure(&self) -> bool {
        let Self::Wire(error) = self else {
            return true;
        };
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        !cause.is_some_and(|cause: &io::Error| {
            matches!(
                cause.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
            )
        })
    }
}

impl fmt::Display for RequestBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => error.fmt(f),
            Self::Reset => f.write_str("the stream was reset"),
            Self::Within(error) => error.fmt(f),
        }
    }
}

impl Error for RequestBodyError {}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match self.get_mut() {
            Self::Wire(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(RequestBodyError::Wire),
            Self::Stream(body) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                match frame {
                    None if !body.is_end_stream() => {
                        Poll::Ready(Some(Err(RequestBodyError::Reset)))
                    }
                    frame => Poll::Ready(frame.map(|frame| frame.map_err(RequestBodyError::Wire))),
                }
            }
            Self::Within(body) => body
                .as_mut()
                .poll_frame(cx)
                .map_err(RequestBodyError::Within),
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Wire(body) | Self::Stream(body) => body.is_end_stream(),
            Self::Within(body) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Wire(body) | Self::Stream(body) => body.size_hint(),
            Self::Within(body) => body.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_is_there_is_one_piece() {
        let mut body = RequestBody::whole(Bytes::from_static(b"all"));
        assert!(body.is_within() && !body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(3));
        let frame = body.frame().await.expect("a piece").expect("no error");
        assert_eq!(frame.into_data().expect("data"), "all");
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert!(RequestBody::empty().is_end_stream());
    }

    #[test]
    fn only_what_is_there_is_taken_at_once() {
        let all = Bytes::from_static(b"all");
        let mut body = RequestBody::whole(all.clone());
        assert_eq!(body.take_within(2), None);
        assert_eq!(body.take_within(3), Some(all.clone()));
        assert!(body.is_end_stream());
        let mut coming = RequestBody::within(http_body_util::Full::new(all));
        assert_eq!(coming.take_within(3), None);
        assert!(!coming.is_end_stream());
    }
}
