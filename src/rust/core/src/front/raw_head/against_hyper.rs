//! What is followed here is what hyper parses: whatever bytes come, in whatever pieces.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::header::TRANSFER_ENCODING;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{head_of, Doubt, Framing, RawHead};

/// Gives a stream of bytes in pieces, as a socket does; what is written goes nowhere.
struct Pieces {
    head: Arc<RawHead>,
    left: Vec<u8>,
    sizes: Vec<usize>,
    at: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.at += 1;
        if self.at % 2 == 0 {
            // Nothing has come yet.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = self.sizes[self.at / 2 % self.sizes.len()];
        let size = size.min(self.left.len()).min(buf.remaining());
        let piece: Vec<u8> = self.left.drain(..size).collect();
        buf.put_slice(&piece);
        self.head.append(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A request as hyper has it, where our bytes begin, and what was said of it.
#[derive(Debug)]
struct Found {
    hypers: String,
    ours: Option<String>,
    has_length: bool,
    chunked: bool,
    doubt: Option<Doubt>,
}

fn find(head: &RawHead, request: &Request<Incoming>) -> Found {
    let chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let framing = if chunked {
        Framing::Chunked
    } else {
        Framing::Length(request.body().size_hint().exact().unwrap_or(0))
    };
    let raw = {
        let state = head.lock();
        head_of(&state.bytes)
            .map(|(start, end)| String::from_utf8_lossy(&state.bytes[start..end]).into_owned())
    };
    let has_length = raw
        .as_ref()
        .is_some_and(|raw| raw.to_ascii_lowercase().contains("\ncontent-length:"));
    Found {
        hypers: format!("{} {} ", request.method(), request.uri()),
        ours: raw,
        has_length,
        chunked,
        doubt: head.take(request.method().as_str(), framing),
    }
}

/// All that hyper finds in these bytes.
fn parse(bytes: Vec<u8>, sizes: Vec<usize>) -> Vec<Found> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let head = Arc::new(RawHead::default());
    let pieces = Pieces {
        head: head.clone(),
        left: bytes,
        sizes,
        at: 0,
    };
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = found.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        sink.lock().expect("no panic").push(find(&head, &request));
        async move {
            // Whether it is well-formed or not.
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(pieces), service);
    // However it ends.
    let _ = runtime.block_on(connection);
    let found = std::mem::take(&mut *found.lock().expect("no panic"));
    found
}

/// As hyper has a target: what is behind a `#` is none of a server's business.
fn without_fragment(head: &str) -> String {
    let mut parts = head.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some(rest)) => {
            let target = target.split('#').next().unwrap_or_default();
            format!("{method} {target} {rest}")
        }
        _ => head.to_owned(),
    }
}

const PARTS: [&str; 19] = [
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a HTTP/1.1\nHost: a\n\n",
    "\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT /c HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /",
    "PUT /d HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    "POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /f HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nGET /\r\n0\r\n\r\n",
    "POST /g HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST /h HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "POST /i HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "1b \r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
    "0\r\nX: y\r\nContent-Length: 9\r\n\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "0\r\nX: y\nZ: w\r\n\r\n",
    "000A;\r\n0123456789\r\n",
    "GET /#j HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n",
    "x",
];

/// Parts one after the other, with some bytes changed.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let parts = vec(0..PARTS.len(), 1..12);
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (parts, changes).prop_map(|(parts, changes)| {
        let mut bytes: Vec<u8> = Vec::new();
        for part in parts {
            bytes.extend_from_slice(PARTS[part].as_bytes());
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_found_where_hyper_finds_it(
        bytes in stream(),
        sizes in vec(1usize..80, 1..6),
    ) {
        for found in parse(bytes.clone(), sizes) {
            let ours = without_fragment(&found.ours.clone().unwrap_or_default());
            prop_assert!(ours.starts_with(&found.hypers), "{:?} in {:?}", found, bytes);
            let both = (found.has_length && found.chunked).then_some(Doubt::Both);
            prop_assert_eq!(found.doubt, both, "{:?}", found);
        }
    }
}

#[test]
fn what_the_parts_are_made_of_is_found_at_all() {
    let bytes = [PARTS[0], PARTS[6], PARTS[5], PARTS[3], PARTS[2]].concat();
    for size in 1..bytes.len() {
        let found = parse(bytes.clone().into_bytes(), vec![size]);
        let found: Vec<_> = found.into_iter().map(|found| found.hypers).collect();
        assert_eq!(
            found,
            ["GET /a ", "POST /f ", "POST /e ", "PUT /c ", "GET /b "]
        );
    }
}
