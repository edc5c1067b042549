//! The requests that a call becomes: with its tokens, its id and its deadline, by HTTP.

use hyper::header::{HeaderName, HeaderValue, AUTHORIZATION, HOST, ORIGIN};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use serde_json::Value;
use tonic::Status;

use super::deadline::Deadline;
use super::{answers, status};
use crate::front::{deadline_value, Caller, Reply, RequestBody, DEADLINE, X_REQUEST_ID};
use crate::functions::query_of;

/// Of a call's metadata, what its requests have, too: whose they are, whether a page sends them, and where they belong.
const PASSED_ON: [HeaderName; 5] = [
    AUTHORIZATION,
    ORIGIN,
    X_REQUEST_ID,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// An error's JSON has so many bytes at most that are looked at.
const LARGEST_ERROR: usize = 64 * 1024;

/// Makes the requests of one call.
pub(super) struct Asking {
    caller: Caller,
    headers: HeaderMap,
    deadline: Option<Deadline>,
}

impl Asking {
    pub(super) fn new<B>(caller: Caller, call: &Request<B>, deadline: Option<Deadline>) -> Self {
        let given = call.headers();
        let mut headers = HeaderMap::with_capacity(PASSED_ON.len() + 4);
        for name in PASSED_ON {
            if let Some(value) = given.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let authority = call.uri().authority();
        let host = authority.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        // It has one of the two, or it would not be here.
        if let Some(host) = host.or_else(|| given.get(HOST).cloned()) {
            headers.insert(HOST, host);
        }
        Self {
            caller,
            headers,
            deadline,
        }
    }

    /// The call's id.
    pub(super) fn id(&self) -> String {
        let id = self.headers.get(X_REQUEST_ID);
        let id = id.and_then(|id| id.to_str().ok());
        id.unwrap_or_default().to_owned()
    }

    /// Whether the pool of a path is here.
    pub(super) fn has(&self, path: &str) -> bool {
        let found = self.caller.front.pools.find(None, path);
        found.is_some()
    }

    /// Makes a request. The answer may be an error.
    ///
    /// # Errors
    /// The target is too long.
    pub(super) async fn send(
        &self,
        method: Method,
        target: String,
        more: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<Reply>, Status> {
        let target = Uri::try_from(target)
            .map_err(|_| Status::invalid_argument("what is asked for is too long"))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = target;
        let mut headers = self.headers.clone();
        headers.extend(more);
        if let Some(deadline) = self.deadline {
            headers.insert(DEADLINE, deadline_value(deadline.at()));
        }
        *request.headers_mut() = headers;
        let origin = self.caller.origin.clone();
        match self.caller.front.within(origin, request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }

    /// Asks management something. Without a `body` it is a GET.
    ///
    /// # Errors
    /// What it is refused with.
    pub(super) async fn manage(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Reply, Status> {
        let method = match body {
            None => Method::GET,
            Some(_) => Method::POST,
        };
        let body = body.map_or_else(RequestBody::empty, |json| {
            RequestBody::whole(json.to_string().into())
        });
        let target = target(path, &query_of(query.iter().copied()));
        let response = self.send(method, target, HeaderMap::new(), body).await?;
        succeeded(response, None).await.map(Response::into_body)
    }
}

/// A path with a query, if there is one.
pub(super) fn target(path: &str, query: &str) -> String {
    match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// An answer that is none of an error. `function` was called alone, if one was.
///
/// # Errors
/// It is one.
pub(super) async fn succeeded(
    response: Response<Reply>,
    function: Option<&str>,
) -> Result<Response<Reply>, Status> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    // Without it, the status says what has happened.
    let body = answers::whole(body, LARGEST_ERROR)
        .await
        .unwrap_or_default();
    Err(status::of_answer(
        parts.status,
        &parts.headers,
        &body,
        function,
    ))
}
