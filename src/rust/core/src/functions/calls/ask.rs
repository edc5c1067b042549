//! What is asked about calls that nobody waits for, read from a request.

use std::time::Duration;

use hyper::{HeaderMap, Method, StatusCode, Uri};

use super::callback::CallbackUrl;
use super::CallId;
use crate::front::Told;
use crate::functions::management::{bad, split, Query};
use crate::functions::Chain;

/// Of a request that is to be a call, those headers that are for its functions.
const PASSED: [&str; 3] = ["content-type", "accept", "traceparent"];

/// What is asked for.
#[derive(Debug)]
pub enum Ask {
    /// Its body is the input.
    Begin(Box<Begin>),
    /// `wait` is how long the answer may take, until the call has ended.
    Status {
        id: CallId,
        wait: Duration,
    },
    Result(CallId),
    /// To cancel it, or to forget it if it has ended.
    Remove(CallId),
}

/// A call as it is wanted.
#[derive(Debug)]
pub struct Begin {
    pub chain: Chain,
    /// As it was written.
    pub text: String,
    pub headers: HeaderMap,
    pub callback: Option<CallbackUrl>,
    pub result_ttl: Option<Duration>,
    pub timeout: Option<Duration>,
    pub retry: bool,
}

/// Whether a path is one of these.
pub fn is_for(path: &str) -> bool {
    matches!(split(path), ("/async", _) | ("/calls", Some(_)))
}

impl Ask {
    /// Reads a request, whose path is one of these.
    ///
    /// # Errors
    /// What it is answered with: 400, 404 or 405.
    pub fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, Told> {
        let mut query = Query::of(uri)?;
        let ask = match split(uri.path()) {
            ("/async", path) if *method == Method::POST => {
                Self::Begin(Box::new(Begin::read(path, &mut query, headers)?))
            }
            ("/async", _) => return Err(Told::WrongMethod("POST")),
            (_, path) => Self::of_call(method, path.unwrap_or_default(), &mut query)?,
        };
        query.end()?;
        Ok(ask)
    }

    fn of_call(method: &Method, path: &str, query: &mut Query) -> Result<Self, Told> {
        let (text, what) = path.split_once('/').unwrap_or((path, ""));
        let id = CallId::parse(text).filter(|_| matches!(what, "" | "result"));
        let id = id.ok_or_else(no_call)?;
        match (method.as_str(), what) {
            ("GET" | "HEAD", "") => {
                let wait = query.wait()?;
                Ok(Self::Status { id, wait })
            }
            ("DELETE", "") => Ok(Self::Remove(id)),
            ("GET" | "HEAD", _) => Ok(Self::Result(id)),
            (_, "") => Err(Told::WrongMethod("GET, HEAD, DELETE")),
            _ => Err(Told::WrongMethod("GET, HEAD")),
        }
    }
}

impl Begin {
    /// `path` is what is behind `/async/`.
    fn read(path: Option<&str>, query: &mut Query, headers: &HeaderMap) -> Result<Self, Told> {
        let text = match (path.filter(|path| !path.is_empty()), query.take("chain")) {
            (None, Some(chain)) => chain,
            (Some(path), None) => {
                let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
                let decoded = decoded.map_err(|_| bad("the chain must be UTF-8"))?;
                decoded.into_owned()
            }
            (None, None) => return Err(bad("`chain` is missing: `/async?chain=NAME`")),
            (Some(_), Some(_)) => {
                return Err(bad("there are two chains: in the path, and `chain`"))
            }
        };
        let chain = Chain::parse(&text).map_err(|error| {
            let value = serde_json::json!({ "error": error.message, "column": error.column });
            Told::Json(StatusCode::BAD_REQUEST, Some("bad_chain"), value)
        })?;
        let timeout = query.seconds("timeout")?;
        if timeout == Some(Duration::ZERO) {
            return Err(bad("`timeout` must be above 0"));
        }
        Ok(Self {
            chain,
            text,
            headers: passed(headers)?,
            callback: callback(query)?,
            result_ttl: query.seconds("result_ttl")?,
            timeout,
            retry: query.flag("retry")?,
        })
    }
}

fn passed(headers: &HeaderMap) -> Result<HeaderMap, Told> {
    let mut passed = HeaderMap::new();
    for name in PASSED {
        let name = hyper::header::HeaderName::from_static(name);
        if let Some(value) = headers.get(&name) {
            // They are kept as text.
            if value.to_str().is_err() {
                return Err(bad(format!("`{name}` must be of visible ASCII characters")));
            }
            passed.insert(name, value.clone());
        }
    }
    Ok(passed)
}

fn callback(query: &mut Query) -> Result<Option<CallbackUrl>, Told> {
    let Some(text) = query.take("callback") else {
        return Ok(None);
    };
    let url = CallbackUrl::parse(&text);
    url.map(Some).map_err(|problem| {
        let message = format!("`callback` cannot be asked: {problem}");
        Told::refused(StatusCode::BAD_REQUEST, "callback_refused", message)
    })
}

pub(super) fn no_call() -> Told {
    Told::refused(
        StatusCode::NOT_FOUND,
        "no_call",
        "there is no such call, or it was forgotten",
    )
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn read(method: &str, uri: &str) -> Result<Ask, (u16, &'static str)> {
        let method = method.parse().expect("a method");
        let uri: Uri = uri.parse().expect("a target");
        assert!(is_for(uri.path()), "{uri}");
        let headers = HeaderMap::from_iter([
            (hyper::header::ACCEPT, HeaderValue::from_static("text/csv")),
            (hyper::header::COOKIE, HeaderValue::from_static("a=b")),
        ]);
        Ask::read(&method, &uri, &headers).map_err(|told| match told {
            Told::Json(status, cause, _) => (status.as_u16(), cause.unwrap_or_default()),
            Told::WrongMethod(allowed) => (405, allowed),
            _ => panic!("no error"),
        })
    }

    fn begin(uri: &str) -> Begin {
        match read("POST", uri) {
            Ok(Ask::Begin(begin)) => *begin,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn which_paths_are_these() {
        for path in ["/async", "/async/", "/async/sed", "/calls/", "/calls/x/y"] {
            assert!(is_for(path), "{path}");
        }
        for path in [
            "/",
            "/calls",
            "/asynchronous",
            "/functions/async",
            "/invoke",
        ] {
            assert!(!is_for(path), "{path}");
        }
    }

    #[test]
    fn what_is_to_be_a_call() {
        let plain = begin("/async/sed%20e=s/a+b/c/%20%7C%20upper");
        assert_eq!(plain.text, "sed e=s/a+b/c/ | upper");
        assert_eq!(plain.chain.stages.len(), 2);
        assert_eq!(plain.headers.len(), 1);
        assert_eq!(
            (plain.timeout, plain.result_ttl, plain.retry),
            (None, None, false)
        );
        let full = begin(
            "/async?chain=a+|+b&timeout=1.5&result_ttl=60&retry=1&callback=http%3A%2F%2Fx%2Fy",
        );
        assert_eq!(full.text, "a | b");
        assert_eq!(full.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(full.result_ttl, Some(Duration::from_secs(60)));
        assert!(full.retry);
        assert_eq!(full.callback.expect("one").as_str(), "http://x/y");
    }

    #[test]
    fn what_is_asked_of_a_call() {
        let id = CallId::new().expect("random");
        let path = format!("/calls/{id}");
        let status = read("GET", &format!("{path}?wait=2"));
        assert!(
            matches!(status, Ok(Ask::Status { id: of, wait }) if of == id && wait.as_secs() == 2)
        );
        let result = read("HEAD", &format!("{path}/result"));
        assert!(matches!(result, Ok(Ask::Result(of)) if of == id));
        assert!(matches!(read("DELETE", &path), Ok(Ask::Remove(of)) if of == id));
        for (method, path, expected) in [
            ("PUT", path.clone(), (405, "GET, HEAD, DELETE")),
            ("DELETE", format!("{path}/result"), (405, "GET, HEAD")),
            ("GET", format!("{path}/other"), (404, "no_call")),
            ("GET", "/calls/abc".into(), (404, "no_call")),
            ("GET", format!("{path}?x=1"), (400, "bad_request")),
        ] {
            assert_eq!(read(method, &path).expect_err(&path), expected);
        }
    }

    #[test]
    fn what_is_no_call() {
        for (uri, cause) in [
            ("/async", "bad_request"),
            ("/async/", "bad_request"),
            ("/async/a?chain=b", "bad_request"),
            ("/async/a?e=1", "bad_request"),
            ("/async/a?timeout=0", "bad_request"),
            ("/async/a?timeout=soon", "bad_request"),
            ("/async/a?result_ttl=-1", "bad_request"),
            ("/async/a?retry=often", "bad_request"),
            ("/async/a%20%7C", "bad_chain"),
            ("/async/http%3A%2F%2Fa", "bad_chain"),
            ("/async/a?callback=ftp%3A%2F%2Fa", "callback_refused"),
        ] {
            assert_eq!(read("POST", uri).expect_err(uri), (400, cause), "{uri}");
        }
        assert_eq!(read("GET", "/async/a").expect_err("GET"), (405, "POST"));
    }
}
