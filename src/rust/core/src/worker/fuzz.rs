//! Fuzz targets: what workers say.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

use hyper::StatusCode;

use super::native::{read_answer, Said};
use super::remote::{is_crowded, is_refusal, said_workers, BUSY, WORKERS};
use crate::fuzz::headers_of;

/// An answer on the control socket; then the headers of an answer over HTTP.
pub fn answer(data: &[u8]) {
    let said = now(read_answer(data)).ok();
    let expected = if data.starts_with(b"interrupted\n") || data.starts_with(b"told\n") {
        Some(Said::Done)
    } else {
        data.starts_with(b"over\n").then_some(Said::Over)
    };
    assert_eq!(said, expected);

    let headers = headers_of(data);
    let workers = said_workers(&headers);
    assert!(workers.is_none() || headers.contains_key(WORKERS));
    for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
        assert!(!is_refusal(status, &headers) || is_crowded(&headers));
    }
    assert!(!is_crowded(&headers) || headers.contains_key(BUSY));
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

/// Of a future that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(&Arc::new(Nobody).into())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("bytes are always there"),
    }
}
