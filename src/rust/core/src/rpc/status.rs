//! What becomes of HTTP's errors: gRPC's codes, and what trailers say besides them. The only table of them.

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;
use tonic::metadata::{AsciiMetadataKey, MetadataValue};
use tonic::{Code, Status};

use crate::body::Abort;
use crate::front::{Cause, FAUCET_ERROR, X_REQUEST_ID};
use crate::functions::ServiceTaken;

/// A status' text has so many bytes at most: it travels as a header, of which clients take 8 KiB and no more.
const LONGEST: usize = 2048;

/// The code for what HTTP has answered. `cause` is `Faucet-Error`.
fn code_of(status: StatusCode, cause: &str) -> Code {
    match (status.as_u16(), cause) {
        (400 | 422, _) => Code::InvalidArgument,
        (401, _) => Code::Unauthenticated,
        (403, _) => Code::PermissionDenied,
        (404 | 410, _) => Code::NotFound,
        (405 | 415 | 501, _) => Code::Unimplemented,
        (408 | 504, _) => Code::DeadlineExceeded,
        (409, ServiceTaken::CAUSE) => Code::AlreadyExists,
        (409, _) => Code::FailedPrecondition,
        // Of memory, of disk, of what a body may have: there is no more.
        (413 | 429 | 507, _) => Code::ResourceExhausted,
        (499, _) => Code::Cancelled,
        // What the function itself says; gRPC's servers have it for what their methods throw.
        (500, "function_error") => Code::Unknown,
        // No worker has seen it: it may be sent again.
        (502, "worker_unreachable") => Code::Unavailable,
        // A worker that died may have done what it was asked for: not to be sent again by itself.
        (500 | 502, _) => Code::Internal,
        (503, _) => Code::Unavailable,
        (400..=499, _) => Code::FailedPrecondition,
        _ => Code::Unknown,
    }
}

/// What is known of a failure besides its text.
#[derive(Debug, Default)]
struct Details<'a> {
    cause: &'a str,
    stage: Option<u64>,
    function: Option<&'a str>,
    column: Option<u64>,
    option: Option<&'a str>,
    id: Option<&'a HeaderValue>,
}

fn short(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn status(code: Code, message: &str, details: &Details<'_>) -> Status {
    let mut status = Status::new(code, short(message));
    let metadata = status.metadata_mut();
    let mut put = |name: &'static str, value: &str| {
        // What no header can hold is not told.
        if let Ok(value) = MetadataValue::try_from(short(value)) {
            metadata.insert(AsciiMetadataKey::from_static(name), value);
        }
    };
    if !details.cause.is_empty() {
        put("faucet-error", details.cause);
    }
    for (name, number) in [
        ("faucet-stage", details.stage),
        ("faucet-column", details.column),
    ] {
        if let Some(number) = number {
            put(name, &number.to_string());
        }
    }
    for (name, text) in [
        ("faucet-function", details.function),
        ("faucet-option", details.option),
    ] {
        if let Some(text) = text {
            put(name, text);
        }
    }
    if let Some(id) = details.id.and_then(|id| id.to_str().ok()) {
        put("x-request-id", id);
    }
    status
}

/// Of what the server itself has to say.
pub(super) fn of_cause(cause: Cause) -> Status {
    let details = Details {
        cause: cause.name(),
        ..Details::default()
    };
    let code = code_of(cause.status(), cause.name());
    status(code, cause.explanation(), &details)
}

/// Of an answer that breaks off.
pub(super) fn of_abort(abort: Abort) -> Status {
    of_cause(abort.into())
}

/// Of an answer by HTTP that is an error. `function` was the only stage of the call, if there was one alone.
pub(super) fn of_answer(
    code: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
    function: Option<&str>,
) -> Status {
    let cause = headers.get(FAUCET_ERROR);
    let cause = cause.and_then(|cause| cause.to_str().ok());
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = std::str::from_utf8(body).unwrap_or_default();
    let message = json["error"].as_str().unwrap_or(text);
    let reason = code.canonical_reason().unwrap_or_default();
    let message = if message.is_empty() { reason } else { message };
    let details = Details {
        cause: cause.unwrap_or_default(),
        stage: json["stage"].as_u64().or(function.map(|_| 1)),
        function: json["function"].as_str().or(function),
        column: json["column"].as_u64(),
        option: json["option"].as_str(),
        id: headers.get(X_REQUEST_ID),
    };
    status(code_of(code, details.cause), message, &details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_its_body_and_headers_say() {
        let headers = HeaderMap::from_iter([
            (FAUCET_ERROR, HeaderValue::from_static("function_error")),
            (X_REQUEST_ID, HeaderValue::from_static("id-1")),
        ]);
        let body = Bytes::from_static(
            br#"{"error": "no \u00e9", "stage": 2, "function": "b", "call_id": "id-1"}"#,
        );
        let status = of_answer(StatusCode::INTERNAL_SERVER_ERROR, &headers, &body, None);
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, "no \u{e9}")
        );
        let said = |name: &str| {
            let value = status.metadata().get(name);
            value.map(|value| value.to_str().expect("a text").to_owned())
        };
        assert_eq!(said("faucet-error").as_deref(), Some("function_error"));
        assert_eq!(said("faucet-stage").as_deref(), Some("2"));
        assert_eq!(said("faucet-function").as_deref(), Some("b"));
        assert_eq!(said("x-request-id").as_deref(), Some("id-1"));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long = "\u{e9}".repeat(LONGEST);
        let body = Bytes::from(format!("x{long}"));
        let status = of_answer(StatusCode::BAD_GATEWAY, &HeaderMap::new(), &body, Some("a"));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.message().len(), LONGEST - 1);
        let none = of_answer(
            StatusCode::NOT_FOUND,
            &HeaderMap::new(),
            &Bytes::new(),
            None,
        );
        assert_eq!(none.message(), "Not Found");
    }

    #[test]
    fn each_cause_has_its_code() {
        for (cause, code) in [
            (Cause::BadRequest("x"), Code::InvalidArgument),
            (Cause::Unauthorized, Code::Unauthenticated),
            (Cause::Forbidden, Code::PermissionDenied),
            (Cause::NoRoute, Code::NotFound),
            (Cause::BodyTooLarge, Code::ResourceExhausted),
            (Cause::QueueFull, Code::Unavailable),
            (Cause::WorkerDied, Code::Internal),
            (Cause::WorkerUnreachable, Code::Unavailable),
            (Cause::Timeout, Code::DeadlineExceeded),
            (Cause::Storage, Code::ResourceExhausted),
        ] {
            assert_eq!(of_cause(cause).code(), code, "{cause:?}");
        }
        assert_eq!(of_abort(Abort::WorkerDied).code(), Code::Internal);
    }
}
