//! Why a chain is not answered, as its caller reads it.

use http_body_util::BodyExt;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde_json::{json, Map, Value};

use crate::body::Abort;
use crate::front::answers::json as json_response;
use crate::front::cause::{Cause, FAUCET_ERROR};
use crate::front::management::Told;
use crate::front::reply::Reply;
use crate::functions::ChainError;
use crate::worker::remote;

/// As much of a stage's answer is looked at for what it says of its failure, in bytes.
const LONGEST: usize = 64 * 1024;

/// What became of a stage.
pub struct Failed {
    /// From 1.
    pub stage: usize,
    pub function: String,
    pub status: StatusCode,
    /// For `Faucet-Error`.
    pub cause: HeaderValue,
    pub message: String,
    /// More of it, to be told as it is.
    pub more: Map<String, Value>,
    pub retry_after: Option<HeaderValue>,
}

impl Failed {
    /// For a cause of ours.
    pub fn of_cause(stage: usize, function: &str, cause: Cause) -> Box<Self> {
        Box::new(Self {
            stage,
            function: function.to_owned(),
            status: cause.status(),
            cause: HeaderValue::from_static(cause.name()),
            message: cause.explanation().to_owned(),
            more: Map::new(),
            retry_after: None,
        })
    }

    /// For a stage whose answer broke off.
    pub fn of_abort(stage: usize, function: &str, why: Abort) -> Box<Self> {
        Self::of_cause(stage, function, Cause::from(why))
    }

    /// For a stage that has answered with something else than success.
    pub async fn of_answer(stage: usize, function: &str, response: Response<Reply>) -> Box<Self> {
        let (parts, body) = response.into_parts();
        let status = match parts.status {
            status if status.is_client_error() || status.is_server_error() => status,
            _ => StatusCode::BAD_GATEWAY,
        };
        let cause = parts.headers.get(FAUCET_ERROR).cloned();
        let text = beginning(body).await;
        let mut fields = match serde_json::from_slice(&text) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let message = match fields.remove("error") {
            Some(Value::String(message)) => without_status(&message).to_owned(),
            _ => format!(
                "the function has answered with status {}",
                parts.status.as_u16()
            ),
        };
        fields.retain(|name, _| name == "option");
        Box::new(Self {
            stage,
            function: function.to_owned(),
            status,
            cause: cause.unwrap_or_else(|| HeaderValue::from_static(cause_of(status))),
            message,
            more: fields,
            retry_after: parts.headers.get(header::RETRY_AFTER).cloned(),
        })
    }

    pub fn response(self, id: &HeaderValue) -> Response<Reply> {
        let fields = self.fields();
        let mut response = told(self.status, self.cause, fields, id);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }

    /// The same where there is no call yet.
    pub fn told(self) -> Told {
        let fields = self.fields();
        let headers = HeaderMap::from_iter([(FAUCET_ERROR, self.cause)]);
        Told::Headed(self.status, Box::new(headers), fields.into())
    }

    fn fields(&self) -> Map<String, Value> {
        let mut fields = self.more.clone();
        fields.insert("error".into(), self.message.as_str().into());
        fields.insert("stage".into(), self.stage.into());
        fields.insert("function".into(), self.function.as_str().into());
        fields
    }
}

/// The cause behind a status of which nothing else is known.
fn cause_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_GATEWAY => Cause::WorkerDied.name(),
        StatusCode::GATEWAY_TIMEOUT => Cause::Timeout.name(),
        _ => remote::FUNCTION_ERROR,
    }
}

/// Our own texts begin with the status, like plumber's: "502 - Bad Gateway: ".
fn without_status(message: &str) -> &str {
    let has_status = message.split_once(" - ").filter(|(status, _)| {
        status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit())
    });
    match has_status.and_then(|(_, rest)| rest.split_once(": ")) {
        Some((_, text)) => text,
        None => message,
    }
}

async fn beginning(mut body: Reply) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < LONGEST {
        match body.frame().await {
            Some(Ok(frame)) => {
                text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data))
            }
            _ => break,
        }
    }
    text
}

fn told(
    status: StatusCode,
    cause: HeaderValue,
    mut fields: Map<String, Value>,
    id: &HeaderValue,
) -> Response<Reply> {
    fields.insert("call_id".into(), id.to_str().unwrap_or_default().into());
    let mut response = json_response(status, Value::Object(fields).to_string());
    response.headers_mut().insert(FAUCET_ERROR, cause);
    response
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The chain cannot be read.
pub fn bad_chain(error: &ChainError, id: &HeaderValue) -> Response<Reply> {
    let cause = HeaderValue::from_static("bad_chain");
    let fields = fields(json!({"error": error.message, "column": error.column}));
    told(StatusCode::BAD_REQUEST, cause, fields, id)
}

/// A parameter is missing, unknown or wrong.
pub fn bad_parameter(message: &str, id: &HeaderValue) -> Response<Reply> {
    let cause = HeaderValue::from_static("bad_request");
    told(
        StatusCode::BAD_REQUEST,
        cause,
        fields(json!({ "error": message })),
        id,
    )
}

pub fn wrong_method(id: &HeaderValue) -> Response<Reply> {
    let cause = HeaderValue::from_static("method_not_allowed");
    let fields = fields(json!({"error": "chains are called by POST"}));
    let mut response = told(StatusCode::METHOD_NOT_ALLOWED, cause, fields, id);
    let allowed = HeaderValue::from_static("POST");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}
