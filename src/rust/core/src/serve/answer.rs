//! What a handler answers.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use http_body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::compress::compress;
use super::pipe::PipeReader;
use super::service::Reply;
use crate::worker::native::{FILE, STREAM};

/// A body that comes bit by bit, as fast as it is read. After its error nothing more is asked of it.
pub(crate) type Coming = Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>;

/// The body of an answer.
pub enum Content {
    Bytes(Bytes),
    /// An absolute path: the front reads it.
    File(PathBuf),
    /// Written bit by bit.
    Stream(PipeReader),
    /// The same, from where it is made.
    Coming(Coming),
}

/// A complete answer, or the beginning of a stream.
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: Content,
}

/// An answer that is not HTTP.
#[derive(Debug, thiserror::Error)]
pub enum NotHttp {
    #[error("{0} is no status of a response")]
    Status(i64),
    #[error("`{0}` is no name of a header")]
    Name(String),
    #[error("the value of the header `{0}` has characters that are not allowed there")]
    Value(String),
    #[error("the path of the file has characters that cannot be passed on: {0}")]
    Path(String),
}

impl Answer {
    /// `headers` are names and values, in order; names may repeat. Framing is not theirs to say.
    ///
    /// # Errors
    /// [`NotHttp`], if a part of it cannot be said in HTTP.
    pub fn new(
        status: i64,
        headers: impl IntoIterator<Item = (String, Vec<u8>)>,
        content: Content,
    ) -> Result<Self, NotHttp> {
        let valid = u16::try_from(status)
            .ok()
            .filter(|code| (200..1000).contains(code))
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or(NotHttp::Status(status))?;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let known =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| NotHttp::Name(name.clone()))?;
            let value = HeaderValue::from_bytes(&value).map_err(|_| NotHttp::Value(name))?;
            map.append(known, value);
        }
        for ours in [header::TRANSFER_ENCODING, header::CONNECTION, FILE, STREAM] {
            map.remove(ours);
        }
        match &content {
            Content::Bytes(_) => {}
            Content::File(path) => {
                let value = HeaderValue::from_bytes(path.as_os_str().as_bytes())
                    .map_err(|_| NotHttp::Path(path.display().to_string()))?;
                map.remove(header::CONTENT_LENGTH);
                map.insert(FILE, value);
            }
            Content::Stream(_) | Content::Coming(_) => {
                map.remove(header::CONTENT_LENGTH);
                map.insert(STREAM, HeaderValue::from_static("1"));
            }
        }
        Ok(Self {
            status: valid,
            headers: map,
            content,
        })
    }

    /// For a request that nobody wants answered any more. The front drops it.
    pub(super) fn cancelled() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: HeaderMap::new(),
            content: Content::Bytes(Bytes::new()),
        }
    }

    /// `gzip` says whether the client takes that.
    pub(super) fn into_response(mut self, method: &Method, gzip: bool) -> Response<Reply> {
        // What HEAD would have got is the handler's to say; all other lengths are known here.
        if *method != Method::HEAD {
            self.headers.remove(header::CONTENT_LENGTH);
        }
        let mut response = Response::new(match self.content {
            Content::Bytes(bytes) if *method != Method::HEAD => {
                Reply::whole(compress(&mut self.headers, bytes, gzip))
            }
            Content::Bytes(bytes) => Reply::whole(bytes),
            Content::File(_) => Reply::whole(Bytes::new()),
            Content::Stream(reader) => Reply::Stream(reader),
            Content::Coming(body) => Reply::Coming(body),
        });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: i64, name: &str, value: &str) -> Result<Answer, NotHttp> {
        let headers = [(name.to_owned(), value.as_bytes().to_vec())];
        Answer::new(status, headers, Content::Bytes(Bytes::new()))
    }

    #[test]
    fn what_is_not_http_is_refused_with_its_name() {
        assert!(answer(200, "X-A", "b").is_ok());
        for status in [-1, 0, 101, 199, 1000, 1 << 40] {
            assert!(matches!(answer(status, "X-A", "b"), Err(NotHttp::Status(s)) if s == status));
        }
        assert!(matches!(answer(200, "X A", "b"), Err(NotHttp::Name(_))));
        assert!(matches!(
            answer(200, "X-A", "b\r\nc"),
            Err(NotHttp::Value(_))
        ));
    }

    #[test]
    fn framing_and_our_own_headers_are_not_the_handlers_to_set() {
        for name in [
            "Transfer-Encoding",
            "Connection",
            "faucet-file",
            "faucet-stream",
        ] {
            let answer = answer(200, name, "close").expect("valid");
            assert!(answer.headers.is_empty(), "{name}");
        }
    }
}
