//! Management: requests that deploy functions and tell of them, who may make them, and who has. An agent answers for itself, a
//! proxy for all of its agents.

mod ask;
mod audit;
mod openapi;
pub mod refusals;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use hyper::header::{HeaderValue, AUTHORIZATION, HOST, ORIGIN};
use hyper::{HeaderMap, Method, StatusCode, Uri};

pub use ask::Ask;
pub(in crate::functions) use ask::{bad, split, Query};
pub use audit::Audit;
pub use openapi::openapi;

use crate::body::Buffered;
use crate::client_address::ClientAddress;
use crate::front::{Admission, Cause, Managed, Management, Told};
use crate::functions::calls::{self, Calls};
use crate::pool::Pool;
use crate::token::Token;

/// What a request that is no upload may have, in bytes.
const SMALL: u64 = 1024 * 1024;

/// Future of an answer.
pub type Telling = Pin<Box<dyn Future<Output = Told> + Send>>;

/// Who keeps functions.
pub trait Deployments: Send + Sync + 'static {
    /// Answers. `base` is how the client has called this server, `http://host:port`; `body` is that of an upload. The work goes on
    /// though nobody may wait for its end.
    fn tell(self: Arc<Self>, ask: Ask, base: String, body: Buffered) -> Telling;

    /// No new work: the server is about to end. Answers that go on end.
    fn close(&self);

    /// No worker is left: what was there for workers goes.
    fn end(&self) {}
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// What those show who deploy. Without one, everybody may.
    pub token: Option<Token>,
    /// What those show who call functions. Without one, everybody may; those who may deploy may call, too.
    pub call_token: Option<Token>,
    /// Names by which this server is called, besides addresses and `localhost`.
    pub hosts: Vec<String>,
}

impl Access {
    fn may_deploy(&self, headers: &HeaderMap) -> Result<(), Cause> {
        match &self.token {
            Some(token) if token.is_shown_in(headers) => Ok(()),
            Some(_) => Err(Cause::Unauthorized),
            None if self.is_from_a_page(headers) => Err(Cause::Forbidden),
            None => Ok(()),
        }
    }

    /// Whether a web page may have sent it: a browser on this machine reaches what strangers cannot. It says from which page a
    /// request comes, and a page that has its own name lead here (DNS rebinding) calls this server by that name.
    fn is_from_a_page(&self, headers: &HeaderMap) -> bool {
        let is_own = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
            self.is_own_name(authority)
        };
        let own_page = |value: &HeaderValue| {
            // Other programs of this machine serve pages, too: only ours come from where the request goes.
            is_own(value)
                && headers.get(HOST).is_some_and(|host| {
                    let text = value.as_bytes();
                    text.ends_with(host.as_bytes())
                })
        };
        headers.get(ORIGIN).is_some_and(|origin| !own_page(origin))
            || headers.get(HOST).is_some_and(|host| !is_own(host))
    }

    fn is_own_name(&self, authority: &str) -> bool {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        host.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }
}

/// Management of those who keep functions.
pub struct Manager<D> {
    deployments: Arc<D>,
    /// Those that nobody waits for.
    calls: Arc<Calls>,
    access: Access,
    audit: Arc<Audit>,
    /// What an upload may have, in bytes.
    max_bundle: u64,
    /// Whether the token stays in a call's headers: who serves it asks for it, too.
    passes_token: bool,
}

impl<D: Deployments> Manager<D> {
    pub fn new(
        deployments: Arc<D>,
        calls: Arc<Calls>,
        access: Access,
        audit: Audit,
        max_bundle: u64,
        passes_token: bool,
    ) -> Self {
        Self {
            deployments,
            calls,
            access,
            audit: Arc::new(audit),
            max_bundle,
            passes_token,
        }
    }
}

/// What changes something by this method and path, for the log of who was refused.
fn attempted(method: &Method, uri: &Uri) -> Option<String> {
    let changes = !matches!(*method, Method::GET | Method::HEAD) && uri.path() != "/list";
    changes.then(|| format!("{method} {}", uri.path()))
}

impl<D: Deployments> Management for Manager<D> {
    fn is_for(&self, path: &str) -> bool {
        ask::is_management(path) || calls::is_for(path)
    }

    fn admit(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        client: ClientAddress,
    ) -> Admission {
        if calls::is_for(uri.path()) {
            let (what, most) = match *method {
                Method::POST => ("async", self.calls.max_input()),
                _ => ("calls", SMALL),
            };
            return match self.may_call(headers, what, client) {
                Ok(()) => Admission::Admitted(most),
                Err(cause) => Admission::Refused(cause),
            };
        }
        if let Err(cause) = self.access.may_deploy(headers) {
            self.refused(method, uri, client, cause);
            return Admission::Refused(cause);
        }
        let upload = uri.path().starts_with("/bundles");
        Admission::Admitted(if upload { self.max_bundle } else { SMALL })
    }

    fn refused(&self, method: &Method, uri: &Uri, client: ClientAddress, cause: Cause) {
        // A call changes nothing.
        let attempted = attempted(method, uri).filter(|_| !calls::is_for(uri.path()));
        if let Some(what) = attempted {
            let status = cause.status().as_u16();
            self.audit
                .write(&client.to_string(), &what, "", status, cause.name());
        }
    }

    fn manage(&self, request: Managed) -> Pin<Box<dyn Future<Output = Told> + Send + '_>> {
        if calls::is_for(request.uri.path()) {
            return self.calls.clone().tell(request);
        }
        Box::pin(async move {
            let upload = request.uri.path().starts_with("/bundles");
            let text = match upload {
                true => Vec::new(),
                false => whole(&request.body),
            };
            let client = request.client.to_string();
            let ask = match Ask::read(&request.method, &request.uri, &text) {
                Ok(ask) => ask,
                Err(told) => {
                    if let Some(what) = attempted(&request.method, &request.uri) {
                        self.note(&client, &what, "", &told);
                    }
                    return told;
                }
            };
            let noted = ask.action().map(|action| (action, ask.subject()));
            let deployments = self.deployments.clone();
            let (base, body, audit) = (request.base, request.body, self.audit.clone());
            // A change is whole, whoever waits for it.
            let work = tokio::spawn(async move {
                let told = deployments.tell(ask, base, body).await;
                if let Some((action, subject)) = noted {
                    note(&audit, &client, action, &subject, &told);
                }
                told
            });
            work.await.unwrap_or_else(|error| {
                tracing::error!("a request for management failed: {error}");
                Told::refused(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "this failed in a way that nobody has thought of: see the log",
                )
            })
        })
    }

    fn admit_invocation(&self, headers: &HeaderMap, client: ClientAddress) -> Result<(), Cause> {
        self.may_call(headers, "chain", client)
    }

    fn admit_call(
        &self,
        pool: &Pool,
        headers: &mut HeaderMap,
        client: ClientAddress,
    ) -> Result<(), Cause> {
        self.may_call(headers, pool.name(), client)?;
        if self.access.call_token.is_some() && !self.passes_token {
            headers.remove(AUTHORIZATION);
        }
        Ok(())
    }

    fn refused_in_worker(&self, pool: &Pool, what: &HeaderValue, client: ClientAddress) {
        let client = client.to_string();
        for refusal in refusals::read(what) {
            // An earlier caller's, who is known no more.
            let client = if refusal.past { "" } else { &client };
            let (action, message) = (refusal.action, &refusal.message);
            self.audit
                .write(client, action, pool.name(), refusal.status, message);
        }
    }

    fn close(&self) {
        self.deployments.close();
        self.calls.close();
    }

    fn cut(&self) {
        self.calls.cut();
    }

    fn end(&self) {
        self.deployments.end();
    }

    fn idle(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.calls.idle())
    }
}

impl<D> Manager<D> {
    /// Whether a call of `what` may be made.
    fn may_call(
        &self,
        headers: &HeaderMap,
        what: &str,
        client: ClientAddress,
    ) -> Result<(), Cause> {
        let Some(call_token) = &self.access.call_token else {
            return Ok(());
        };
        let token = self.access.token.as_ref();
        if call_token.is_shown_in(headers) || token.is_some_and(|token| token.is_shown_in(headers))
        {
            return Ok(());
        }
        let cause = Cause::Unauthorized;
        let status = cause.status().as_u16();
        self.audit
            .write(&client.to_string(), "call", what, status, cause.name());
        Err(cause)
    }

    fn note(&self, client: &str, action: &str, subject: &str, told: &Told) {
        note(&self.audit, client, action, subject, told);
    }
}

fn note(audit: &Audit, client: &str, action: &str, subject: &str, told: &Told) {
    let mut subject = subject;
    let (status, message) = match told {
        Told::Json(status, _, value) => {
            // What was uploaded has its name from its bytes.
            subject = value["bundle"].as_str().unwrap_or(subject);
            // Also of one whose version before goes on.
            let failed =
                value.as_array().into_iter().flatten().find_map(|one| {
                    (one["status"] != "deploying").then(|| one["message"].as_str())?
                });
            let error = value["error"].as_str().or(failed);
            (status.as_u16(), error.unwrap_or_default())
        }
        Told::Headed(status, ..) | Told::Nothing(status) => (status.as_u16(), ""),
        Told::Text(_) | Told::File(..) => (200, ""),
        Told::WrongMethod(_) => (405, "method_not_allowed"),
    };
    audit.write(client, action, subject, status, message);
}

/// A body that is small. What of it is in a file is read at once: there is none unless memory is short.
fn whole(body: &Buffered) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(body.len()).unwrap_or_default()];
    match body.copy_to(0, &mut bytes) {
        Ok(count) => bytes.truncate(count),
        Err(_) => bytes.clear(),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                let name = hyper::header::HeaderName::from_static(name);
                (name, HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    #[test]
    fn a_page_deploys_nothing_where_there_is_no_token() {
        let access = Access {
            hosts: vec!["agent.example".into()],
            ..Access::default()
        };
        let may = |pairs: &[(&'static str, &str)]| access.may_deploy(&headers(pairs)).is_ok();
        assert!(may(&[]));
        assert!(may(&[("host", "127.0.0.1:9000")]));
        assert!(may(&[("host", "localhost:9000")]));
        assert!(may(&[("host", "[::1]:9000")]));
        assert!(may(&[("host", "Agent.example:9000")]));
        assert!(may(&[
            ("host", "localhost:9000"),
            ("origin", "http://localhost:9000")
        ]));
        assert!(!may(&[("host", "evil.example:9000")]));
        assert!(!may(&[
            ("host", "localhost:9000"),
            ("origin", "http://evil.example")
        ]));
        assert!(!may(&[
            ("host", "localhost:9000"),
            ("origin", "http://localhost:3000")
        ]));
        assert!(!may(&[("host", "localhost:9000"), ("origin", "null")]));
    }

    #[test]
    fn tokens() {
        let access = Access {
            token: Some(Token::new("deploy".into())),
            ..Access::default()
        };
        let may = |text: &str| access.may_deploy(&headers(&[("authorization", text)]));
        assert_eq!(may("Bearer deploy"), Ok(()));
        assert_eq!(may("bearer deploy"), Ok(()));
        assert_eq!(may("Bearer deploy "), Err(Cause::Unauthorized));
        assert_eq!(may("deploy"), Err(Cause::Unauthorized));
        assert_eq!(
            access.may_deploy(&HeaderMap::new()),
            Err(Cause::Unauthorized)
        );
    }
}
