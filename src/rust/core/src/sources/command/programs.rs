//! Requests for a pool's program, as they come over its socket.

use std::future::Future;
use std::io;
use std::sync::Arc;

use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{HeaderMap, Method};
use serde_json::json;

use super::arguments::arguments;
use super::call::Calls;
use super::input::Input;
use super::output::Ended;
use super::program::Program;
use crate::environment::SystemError;
use crate::functions::Options;
use crate::serve::{Answer, Content, Handler, Outcome, Request, Why};
use crate::worker::remote;

/// Bits of a request's number that count the requests of one worker; above them is the worker's own number, which is no
/// larger than a pool is.
const COUNTING: u32 = 40;

/// What the numbers of a worker's requests are above.
pub fn numbers_above(id: u32) -> u64 {
    u64::from(id) << COUNTING
}

/// Whose request it is.
pub fn worker_of(number: u64) -> u32 {
    u32::try_from(number >> COUNTING).unwrap_or(u32::MAX)
}

/// Runs a program for each request.
pub struct Programs {
    pub program: Arc<Program>,
    pub calls: Arc<Calls>,
}

impl Handler for Programs {
    async fn handle(self: Arc<Self>, number: Option<u64>, request: Request) -> Option<Answer> {
        // Without one it comes from nobody that we know.
        let number = number?;
        let signature = &self.program.settings.signature;
        let options = match Options::parse(request.target.query().unwrap_or_default()) {
            Ok(options) => options,
            Err(error) => {
                return problem(400, remote::BAD_OPTION, json!({"error": error.to_string()}))
            }
        };
        if let Err(mismatch) = signature.check(&options) {
            let body = json!({"error": mismatch.to_string(), "option": mismatch.option()});
            return problem(400, remote::BAD_OPTION, body);
        }
        let kind = media_type(&request.headers);
        if request.method == Method::HEAD {
            // Whoever wants no answer wants no work done either.
            return answer(200, kind, Content::Bytes(Default::default()));
        }
        let arguments = arguments(&options, signature);
        let input = match request.inlet {
            Some(inlet) => Input::Coming(inlet),
            None => Input::Complete(request.body),
        };
        let (call, place) = self.calls.begin(number);
        let start = self
            .program
            .clone()
            .start(worker_of(number), arguments, input, call, place);
        let mut output = match start.await {
            Ok(output) => output,
            Err(error) => return self.not_started(number, &error),
        };
        match output.begin().await {
            None => answer(200, kind, Content::Coming(Box::pin(output))),
            Some(Ended::Well) => answer(200, kind, Content::Bytes(Default::default())),
            Some(Ended::Unwanted) => None,
            Some(Ended::Badly(how)) => {
                let error = format!("`{}` {how}", self.program.settings.name());
                problem(500, remote::FUNCTION_ERROR, json!({"error": error}))
            }
        }
    }

    fn interrupt(&self, number: u64, _why: Why) -> impl Future<Output = Outcome> + Send {
        let call = self.calls.get(number);
        if let Some(call) = &call {
            call.end();
        }
        std::future::ready(match call {
            Some(_) => Outcome::Interrupted,
            None => Outcome::Over,
        })
    }

    fn tell(&self, number: u64) -> bool {
        self.calls.get(number).is_some()
    }
}

impl Programs {
    fn not_started(&self, number: u64, error: &io::Error) -> Option<Answer> {
        let (name, why) = (self.program.settings.name(), SystemError(error));
        let worker = worker_of(number);
        let message = format!("`{name}` could not be started: {why}");
        tracing::error!(worker, "{message}");
        problem(500, remote::FUNCTION_ERROR, json!({"error": message}))
    }
}

/// What a program writes is text, CSV or JSON if that is what the client asks for in the first place; nobody else can tell.
fn media_type(headers: &HeaderMap) -> &'static str {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let first = accepted.unwrap_or_default().split([',', ';']).next();
    match first
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "text/plain" => "text/plain; charset=utf-8",
        "text/csv" => "text/csv; charset=utf-8",
        "application/json" => "application/json",
        _ => "application/octet-stream",
    }
}

fn answer(status: i64, kind: &str, content: Content) -> Option<Answer> {
    let headers = [(CONTENT_TYPE.to_string(), kind.as_bytes().to_vec())];
    // All of it is ours, and is HTTP.
    Answer::new(status, headers, content).ok()
}

fn problem(status: i64, cause: &str, body: serde_json::Value) -> Option<Answer> {
    let headers = [
        (CONTENT_TYPE.to_string(), b"application/json".to_vec()),
        (remote::ERROR.to_string(), cause.as_bytes().to_vec()),
    ];
    let content = Content::Bytes(body.to_string().into());
    Answer::new(status, headers, content).ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_media_type_is_the_first_that_the_client_names() {
        for (accept, expected) in [
            ("text/plain", "text/plain; charset=utf-8"),
            ("Text/Plain;q=0.5, */*", "text/plain; charset=utf-8"),
            ("text/csv, */*;q=0.5", "text/csv; charset=utf-8"),
            ("application/json, text/plain", "application/json"),
            ("*/*", "application/octet-stream"),
            ("text/html", "application/octet-stream"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(media_type(&headers), expected, "{accept}");
        }
        assert_eq!(media_type(&HeaderMap::new()), "application/octet-stream");
    }

    #[test]
    fn a_number_tells_its_worker() {
        assert_eq!(worker_of(numbers_above(3) + 1), 3);
        assert_eq!(worker_of(numbers_above(65_536) - 1), 65_535);
    }
}
