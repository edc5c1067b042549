//! Giving what is kept to whoever comes for it.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, Version};

use crate::front::answers::rejection;
use crate::front::cause::Cause;
use crate::front::check::check;
use crate::front::headers::{self, X_REQUEST_ID};
use crate::front::one_time::{recorded, Token};
use crate::front::record::Call;
use crate::front::reply::Reply;
use crate::front::request_body::RequestBody;
use crate::front::request_id::new_request_id;
use crate::front::service::Peer;
use crate::front::Front;
use crate::worker::remote::KEPT;

/// What the path of all that is kept begins with; then comes its token.
pub const PATH: &str = "/__faucet__/kept/";

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Whether a request is for something that is kept.
pub fn is_for(request: &Request<RequestBody>) -> bool {
    request.uri().path().starts_with(PATH)
}

fn find(front: &Front, request: &Request<RequestBody>) -> Result<Response<Reply>, Cause> {
    let token = request.uri().path().strip_prefix(PATH);
    let token = token.and_then(Token::parse).ok_or(Cause::NoRoute)?;
    if *request.method() != Method::GET {
        return Err(Cause::NoRoute);
    }
    let body = front.direct.kept.take(&token).ok_or(Cause::Gone)?;
    let said = HeaderValue::try_from(token.to_string()).map_err(|_| Cause::NoRoute)?;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(KEPT, said);
    headers.insert(header::CONTENT_TYPE, BYTES);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// Answers a request for something that is kept: whoever knows its token may have it, once. It is no call of a function, but is
/// logged like one.
pub fn give(
    peer: &Peer,
    mut request: Request<RequestBody>,
    doubtful: Option<Cause>,
    call: &Arc<Call>,
) -> Response<Reply> {
    let front = &peer.front;
    let id = headers::given_request_id(request.headers()).unwrap_or_else(new_request_id);
    let found = doubtful
        .map_or_else(|| check(&request), Err)
        .and_then(|()| find(front, &request));
    let whose = (front.ops.clone(), id);
    let mut record = recorded(peer, &mut request, call, whose, PATH);
    let http2 = request.version() == Version::HTTP_2;
    let head = *request.method() == Method::HEAD;
    let (mut response, cause) = match found {
        Ok(response) => {
            peer.connection.let_stall();
            (response, None)
        }
        Err(cause) => (rejection(cause, "", head, http2), Some(cause)),
    };
    response
        .headers_mut()
        .insert(X_REQUEST_ID, record.id.clone());
    record.answered(response.status(), cause);
    response.map(|reply| reply.recorded(record, http2))
}
