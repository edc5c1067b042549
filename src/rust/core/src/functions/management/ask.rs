//! What management is asked for, read from a request.

use std::time::Duration;

use hyper::{Method, StatusCode, Uri};
use serde_json::Value;

use crate::front::Told;
use crate::functions::{Definition, Name, Options};

/// How long a request may wait for deployments to settle, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How many lines of a log are told if nobody says.
const LINES: usize = 100;

/// What is asked for. `wait` is how long the answer may take, until deployments have settled.
#[derive(Debug)]
pub enum Ask {
    Deploy {
        definitions: Vec<Definition>,
        wait: Duration,
    },
    Rollback {
        name: Name,
        wait: Duration,
    },
    Stop {
        name: Name,
        remove: bool,
    },
    /// Of all functions, or of one.
    Details(Option<String>),
    /// Of all agents, or of one.
    List(Option<String>),
    Log {
        name: String,
        lines: usize,
        follow: bool,
    },
    HasBundle(String),
    PutBundle,
    Secrets,
    PutSecret(Name),
    DeleteSecret(Name),
    Agents,
    AddAgent(String),
    RemoveAgent(String),
    OpenApi,
}

impl Ask {
    /// What an audit log calls a change; `None` for what changes nothing.
    pub fn action(&self) -> Option<&'static str> {
        Some(match self {
            Self::Deploy { .. } => "deploy",
            Self::Rollback { .. } => "rollback",
            Self::Stop { .. } => "stop",
            Self::PutBundle => "upload",
            Self::PutSecret(_) => "secret_set",
            Self::DeleteSecret(_) => "secret_delete",
            Self::AddAgent(_) => "agent_add",
            Self::RemoveAgent(_) => "agent_remove",
            _ => return None,
        })
    }

    /// What it is about, for the audit log.
    pub fn subject(&self) -> String {
        match self {
            Self::Deploy { definitions, .. } => {
                let names: Vec<&str> = definitions.iter().map(|d| d.name.as_str()).collect();
                names.join(" ")
            }
            Self::Rollback { name, .. }
            | Self::Stop { name, .. }
            | Self::PutSecret(name)
            | Self::DeleteSecret(name) => name.as_str().to_owned(),
            Self::AddAgent(agent) | Self::RemoveAgent(agent) => agent.clone(),
            _ => String::new(),
        }
    }
}

/// The paths of management, of which some have more behind them.
pub(super) const PATHS: [&str; 11] = [
    "/deploy",
    "/details",
    "/list",
    "/log",
    "/stop",
    "/rollback",
    "/bundles",
    "/secrets",
    "/agents",
    "/openapi.json",
    "/functions",
];

/// The first segment of a path, and what is behind it.
pub(in crate::functions) fn split(path: &str) -> (&str, Option<&str>) {
    let end = path.get(1..).and_then(|rest| rest.find('/'));
    match end {
        None => (path, None),
        Some(at) => (&path[..=at], Some(&path[at + 2..])),
    }
}

/// Whether a path is one of management's. Calls of functions have their name behind `/functions/`.
pub fn is_management(path: &str) -> bool {
    match split(path) {
        ("/functions", _) => false,
        ("/bundles" | "/secrets" | "/agents", _) => true,
        (first, None) => PATHS.contains(&first),
        _ => false,
    }
}

pub(in crate::functions) fn bad(message: impl Into<String>) -> Told {
    Told::refused(StatusCode::BAD_REQUEST, "bad_request", message)
}

fn name_in(text: &str) -> Result<Name, Told> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| bad("a name must be UTF-8"))?;
    Name::parse(&decoded).map_err(|error| bad(format!("`{decoded}` is no name: {error}")))
}

/// The query of a request: only what is known may be in it, once.
pub(in crate::functions) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// What it is answered with, as of all methods here.
    pub(in crate::functions) fn of(uri: &Uri) -> Result<Self, Told> {
        let options = Options::parse(uri.query().unwrap_or_default());
        let options = options.map_err(|error| bad(error.to_string()))?;
        let pairs = options.iter();
        Ok(Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        ))
    }

    pub(in crate::functions) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// A number of seconds, 0 or more.
    pub(in crate::functions) fn seconds(&mut self, name: &str) -> Result<Option<Duration>, Told> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
        let seconds = seconds.filter(|seconds| seconds.is_finite());
        let seconds =
            seconds.ok_or_else(|| bad(format!("`{name}` must be a number of seconds")))?;
        // Beyond what a time can hold it is as good as for ever.
        Ok(Some(
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
        ))
    }

    /// How long the answer may take.
    pub(in crate::functions) fn wait(&mut self) -> Result<Duration, Told> {
        let wait = self.seconds("wait")?;
        Ok(wait.unwrap_or_default().min(LONGEST_WAIT))
    }

    /// A truth: `?follow` and `?follow=1` say so.
    pub(in crate::functions) fn flag(&mut self, name: &str) -> Result<bool, Told> {
        match self.take(name).as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("" | "1" | "true") => Ok(true),
            Some(_) => Err(bad(format!("`{name}` must be 1 or 0"))),
        }
    }

    pub(in crate::functions) fn end(self) -> Result<(), Told> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(bad(format!(
                "`{name}` is nothing that this can be asked with"
            ))),
        }
    }
}

/// The fields of a JSON object in a body: only what is known may be in it.
fn object(body: &[u8]) -> Result<serde_json::Map<String, Value>, Told> {
    if body.is_empty() {
        return Ok(serde_json::Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(bad("the body must be a JSON object")),
        Err(error) => Err(bad(format!("the body is no JSON: {error}"))),
    }
}

fn text_field(
    object: &mut serde_json::Map<String, Value>,
    field: &str,
) -> Result<Option<String>, Told> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(bad(format!("`{field}` must be a text"))),
    }
}

fn needed(object: &mut serde_json::Map<String, Value>, field: &str) -> Result<String, Told> {
    text_field(object, field)?.ok_or_else(|| bad(format!("`{field}` is missing")))
}

fn named(object: &mut serde_json::Map<String, Value>) -> Result<Name, Told> {
    let text = needed(object, "name")?;
    Name::parse(&text).map_err(|error| bad(format!("`name` is none: {error}")))
}

fn no_more(object: serde_json::Map<String, Value>) -> Result<(), Told> {
    match object.into_iter().next() {
        None => Ok(()),
        Some((field, _)) => Err(bad(format!("`{field}` is no field here"))),
    }
}

impl Ask {
    /// Reads a request, whose path is one of management's. `body` is empty for an upload, which is read elsewhere.
    ///
    /// # Errors
    /// What it is answered with: 400, 404 or 405.
    pub fn read(method: &Method, uri: &Uri, body: &[u8]) -> Result<Self, Told> {
        let mut query = Query::of(uri)?;
        let (first, rest) = split(uri.path());
        let ask = match (method.as_str(), first, rest) {
            ("POST", "/deploy", None) => Self::Deploy {
                wait: query.wait()?,
                definitions: Definition::parse_all(body).map_err(|error| {
                    let value = serde_json::json!({
                        "error": error.to_string(), "field": error.field, "function": error.number,
                    });
                    Told::Json(StatusCode::BAD_REQUEST, Some("bad_definition"), value)
                })?,
            },
            ("POST", "/rollback", None) => {
                let mut fields = object(body)?;
                let name = named(&mut fields)?;
                no_more(fields)?;
                let wait = query.wait()?;
                Self::Rollback { name, wait }
            }
            ("POST", "/stop", None) => {
                let mut fields = object(body)?;
                let name = named(&mut fields)?;
                let remove = match fields.remove("remove") {
                    None | Some(Value::Null) => false,
                    Some(Value::Bool(remove)) => remove,
                    Some(_) => return Err(bad("`remove` must be true or false")),
                };
                no_more(fields)?;
                Self::Stop { name, remove }
            }
            ("GET" | "HEAD", "/details", None) => Self::Details(query.take("name")),
            ("GET" | "HEAD", "/list", None) => Self::List(query.take("atAgent")),
            ("POST", "/list", None) => {
                let mut fields = object(body)?;
                let agent = text_field(&mut fields, "atAgent")?;
                no_more(fields)?;
                Self::List(agent.filter(|agent| !agent.is_empty()))
            }
            ("GET" | "HEAD", "/log", None) => Self::log(&mut query)?,
            ("PUT" | "POST", "/bundles", None) => Self::PutBundle,
            ("GET" | "HEAD", "/bundles", Some(digest)) => Self::HasBundle(digest.to_owned()),
            ("GET" | "HEAD", "/secrets", None) => Self::Secrets,
            ("PUT", "/secrets", Some(name)) => Self::PutSecret(name_in(name)?),
            ("DELETE", "/secrets", Some(name)) => Self::DeleteSecret(name_in(name)?),
            ("GET" | "HEAD", "/agents", None) => Self::Agents,
            ("POST", "/agents", None) => {
                let mut fields = object(body)?;
                let agent = needed(&mut fields, "agent")?;
                no_more(fields)?;
                Self::AddAgent(agent)
            }
            ("DELETE", "/agents", Some(agent)) => Self::RemoveAgent(agent.to_owned()),
            ("GET" | "HEAD", "/openapi.json", None) => Self::OpenApi,
            (_, first, rest) => return Err(Told::WrongMethod(methods(first, rest.is_some()))),
        };
        query.end()?;
        Ok(ask)
    }

    fn log(query: &mut Query) -> Result<Self, Told> {
        let name = query.take("entrypoint").or_else(|| query.take("name"));
        let lines = match query.take("n") {
            None => LINES,
            Some(text) => text
                .parse()
                .map_err(|_| bad("`n` must be a number of lines"))?,
        };
        let follow = query.flag("follow")?;
        Ok(Self::Log {
            name: name.ok_or_else(|| bad("`entrypoint` is missing: the function's name"))?,
            lines,
            follow,
        })
    }
}

/// The methods of a path of management's: its first segment, and whether more is behind it.
fn methods(first: &str, more: bool) -> &'static str {
    match (first, more) {
        ("/deploy" | "/rollback" | "/stop", _) => "POST",
        ("/list" | "/agents", false) => "GET, HEAD, POST",
        ("/agents", true) => "DELETE",
        ("/bundles", false) => "PUT, POST",
        ("/secrets", true) => "PUT, DELETE",
        _ => "GET, HEAD",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, uri: &str, body: &str) -> Result<Ask, (u16, String)> {
        let method = method.parse().expect("a method");
        let uri = uri.parse().expect("a target");
        Ask::read(&method, &uri, body.as_bytes()).map_err(|told| match told {
            Told::Json(status, _, value) => (
                status.as_u16(),
                value["error"].as_str().unwrap_or_default().to_owned(),
            ),
            Told::WrongMethod(allowed) => (405, allowed.to_owned()),
            _ => panic!("no error"),
        })
    }

    #[test]
    fn which_paths_are_managements() {
        for path in [
            "/deploy",
            "/list",
            "/bundles",
            "/bundles/ab",
            "/secrets/db",
            "/agents/a:9000",
        ] {
            assert!(is_management(path), "{path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/functions/a",
            "/functions",
            "/deploy/x",
            "/deployed",
            "/__faucet/ready",
        ] {
            assert!(!is_management(path), "{path}");
        }
    }

    #[test]
    fn what_can_be_asked() {
        let ask = |method, uri, body| read(method, uri, body).expect(uri);
        let deploy = ask(
            "POST",
            "/deploy?wait=1.5",
            r#"{"name": "a", "command": "cat"}"#,
        );
        assert!(matches!(
            deploy,
            Ask::Deploy { ref definitions, wait } if definitions.len() == 1 && wait == Duration::from_millis(1500)
        ));
        assert_eq!(
            (deploy.action(), deploy.subject()),
            (Some("deploy"), "a".into())
        );
        let long = ask("POST", "/rollback?wait=1e300", r#"{"name": "a"}"#);
        assert!(matches!(long, Ask::Rollback { wait, .. } if wait == LONGEST_WAIT));
        let stop = ask("POST", "/stop", r#"{"name": "a", "remove": true}"#);
        assert!(matches!(stop, Ask::Stop { remove: true, .. }));
        assert!(matches!(ask("POST", "/list", ""), Ask::List(None)));
        let list = ask("POST", "/list", r#"{"atAgent": "a:1"}"#);
        assert!(matches!(list, Ask::List(Some(agent)) if agent == "a:1"));
        let log = ask("GET", "/log?entrypoint=a&n=3&follow=1", "");
        assert!(matches!(log, Ask::Log { ref name, lines: 3, follow: true } if name == "a"));
        assert_eq!(log.action(), None);
        assert!(
            matches!(ask("PUT", "/secrets/d%62", ""), Ask::PutSecret(name) if name.as_str() == "db")
        );
    }

    #[test]
    fn what_cannot_is_named() {
        for (method, uri, body, status, expected) in [
            ("GET", "/deploy", "", 405, "POST"),
            ("DELETE", "/bundles/a", "", 405, "GET, HEAD"),
            ("GET", "/bundles", "", 405, "PUT, POST"),
            ("POST", "/secrets/a", "", 405, "PUT, DELETE"),
            ("PUT", "/list", "", 405, "GET, HEAD, POST"),
            ("POST", "/deploy", "{}", 400, "`name` is missing"),
            (
                "POST",
                "/deploy?wait=x",
                r#"{"name": "a", "command": "cat"}"#,
                400,
                "`wait` must be a number of seconds",
            ),
            ("POST", "/stop", "", 400, "`name` is missing"),
            ("POST", "/stop", "[]", 400, "the body must be a JSON object"),
            (
                "POST",
                "/stop",
                r#"{"name": "a", "b": 1}"#,
                400,
                "`b` is no field here",
            ),
            (
                "POST",
                "/stop",
                r#"{"name": 1}"#,
                400,
                "`name` must be a text",
            ),
            (
                "GET",
                "/log",
                "",
                400,
                "`entrypoint` is missing: the function's name",
            ),
            (
                "GET",
                "/log?entrypoint=a&n=-1",
                "",
                400,
                "`n` must be a number of lines",
            ),
            (
                "GET",
                "/list?x=1",
                "",
                400,
                "`x` is nothing that this can be asked with",
            ),
        ] {
            assert_eq!(
                read(method, uri, body).expect_err(uri),
                (status, expected.to_owned())
            );
        }
        let (status, problem) = read("PUT", "/secrets/a%2Fb", "").expect_err("a slash");
        assert_eq!(status, 400);
        assert!(problem.starts_with("`a/b` is no name"), "{problem}");
    }
}
