//! A request as its handler gets it: complete.

use hyper::{HeaderMap, Method, Uri};

use crate::body::Buffered;

/// A complete request.
pub struct Request {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    pub body: Buffered,
}
