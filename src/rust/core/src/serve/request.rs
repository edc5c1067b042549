//! A request as its handler gets it.

use hyper::{HeaderMap, Method, Uri};

use super::inlet::Inlet;
use crate::body::Buffered;

/// A request: complete, unless its body comes meanwhile.
pub struct Request {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    pub body: Buffered,
    /// If its body comes meanwhile: then `body` is empty.
    pub inlet: Option<Inlet>,
}
