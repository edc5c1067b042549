//! What a proxy asks its agents.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::{HeaderMap, Method, StatusCode};
use serde_json::{json, Value};

use crate::client::{Answer, Client, Outgoing, RequestBody, ServerAddress};
use crate::functions::fleet::{AgentName, Seen, Status, Trouble};
use crate::functions::{Definition, Name};
use crate::ops::printable;
use crate::tls::ClientTls;
use crate::token::Token;

/// How long a connection may take, and an answer to what needs no work.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a deployment may take, and how long the agent is asked to wait for it.
const DEPLOY_WAIT: u64 = 300;
const DEPLOY_PATIENCE: Duration = Duration::from_secs(DEPLOY_WAIT + 30);

/// How long an upload may take.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(600);

/// The longest answer that is read, in bytes: a list of many functions.
const LONGEST: u64 = 64 * 1024 * 1024;

/// One agent, to be asked.
pub(super) struct AgentClient(Client);

/// An answer, read to its end.
struct Told {
    status: StatusCode,
    body: Vec<u8>,
}

impl Told {
    fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|_| "it answers with what is no JSON".to_owned())
    }

    /// Why it does not do what it was asked.
    fn error(&self) -> String {
        let json = self.json().unwrap_or_default();
        match json["error"].as_str() {
            Some(error) => printable::one_line(error.to_owned()),
            None => format!("it answers {}", self.status),
        }
    }

    /// What is wrong, if it is not `200`. Whether that is its last word is told by the status.
    fn check(self) -> Result<Self, Trouble> {
        match self.status {
            StatusCode::OK => Ok(self),
            // Another token, more room or a start of the agent can make these good.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Trouble::Unreachable(format!(
                "it does not take this proxy's token: {}",
                self.error()
            ))),
            status if status.is_server_error() => Err(Trouble::Unreachable(self.error())),
            _ => Err(Trouble::Refused(self.error())),
        }
    }
}

fn no_answer(error: impl std::fmt::Display) -> Trouble {
    Trouble::Unreachable(format!("it {error}"))
}

/// What is wrong, as text alone.
fn why(trouble: Trouble) -> String {
    match trouble {
        Trouble::Refused(why) | Trouble::Unreachable(why) => why,
    }
}

impl AgentClient {
    /// # Errors
    /// It cannot be dialled.
    pub(super) fn new(
        agent: &AgentName,
        tls: Option<Arc<ClientTls>>,
        token: Option<Token>,
    ) -> Result<Self, String> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Self(Client {
            address: ServerAddress::parse(&format!("{scheme}://{agent}"))?,
            tls,
            token,
            connect_timeout: PATIENCE,
        }))
    }

    async fn ask(
        &self,
        method: Method,
        path: String,
        body: RequestBody,
        patience: Duration,
    ) -> Result<Told, Trouble> {
        let head = method == Method::HEAD;
        let outgoing = Outgoing {
            method,
            path,
            headers: HeaderMap::new(),
            body,
        };
        let asked = async {
            let answer = self.0.send(outgoing).await.map_err(no_answer)?;
            let status = answer.status;
            let body = match head {
                true => Vec::new(),
                false => answer.whole(LONGEST).await.map_err(no_answer)?,
            };
            Ok(Told { status, body })
        };
        tokio::time::timeout(patience, asked)
            .await
            .unwrap_or_else(|_| {
                let seconds = patience.as_secs();
                Err(no_answer(format!("has not answered within {seconds} s")))
            })
    }

    async fn get(&self, path: &str) -> Result<Told, Trouble> {
        let asked = self.ask(Method::GET, path.into(), RequestBody::empty(), PATIENCE);
        asked.await?.check()
    }

    async fn post(&self, path: &str, body: &Value, patience: Duration) -> Result<Told, Trouble> {
        let body = RequestBody::Bytes(body.to_string().into());
        let asked = self.ask(Method::POST, path.into(), body, patience);
        asked.await
    }

    /// What the agent lists: short, and another text as soon as something has changed.
    ///
    /// # Errors
    /// Why it does not say.
    pub(super) async fn list(&self) -> Result<Vec<u8>, String> {
        let told = self.get("/list").await.map_err(why)?;
        Ok(told.body)
    }

    /// All that the agent says of its functions. What this version of faucet does not understand is left out.
    ///
    /// # Errors
    /// Why it does not say.
    pub(super) async fn details(&self) -> Result<BTreeMap<Name, Seen>, String> {
        let json = self.get("/details").await.map_err(why)?.json()?;
        let all = json.as_array().ok_or("it answers as no agent does")?;
        Ok(all.iter().filter_map(seen).collect())
    }

    /// Has the agent run a function, and waits until it does.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn deploy(
        &self,
        definition: &Definition,
        bundle: Option<&Path>,
    ) -> Result<Option<Seen>, Trouble> {
        if let (crate::functions::Code::Bundle(digest), Some(bundle)) = (&definition.code, bundle) {
            self.upload(digest, bundle).await?;
        }
        let body = json!([definition.to_json()]);
        let path = format!("/deploy?wait={DEPLOY_WAIT}");
        let told = self.post(&path, &body, DEPLOY_PATIENCE).await?.check()?;
        let json = told.json().map_err(Trouble::Unreachable)?;
        let one = &json[0];
        let status = one["status"].as_str().and_then(Status::named);
        let message = one["message"].as_str().map(str::to_owned);
        match (status, message) {
            (None, _) => Err(Trouble::Unreachable("it answers as no agent does".into())),
            // What it had before may still serve.
            (Some(Status::Failed | Status::Stopped), message) => {
                Err(Trouble::Refused(told_lines(message, one)))
            }
            (Some(Status::Deployed), Some(message)) => {
                Err(Trouble::Refused(told_lines(Some(message), one)))
            }
            (Some(status), _) => Ok(Some(Seen {
                status,
                definition: definition.clone(),
                message: None,
                report: Value::Null,
            })),
        }
    }

    /// Sends an archive that the agent has not got.
    async fn upload(&self, digest: &str, bundle: &Path) -> Result<(), Trouble> {
        let path = format!("/bundles/{digest}");
        let asked = self.ask(Method::HEAD, path, RequestBody::empty(), PATIENCE);
        match asked.await? {
            told if told.status == StatusCode::NOT_FOUND => {}
            told => return told.check().map(|_| ()),
        }
        let path = bundle.to_owned();
        let body = tokio::task::spawn_blocking(move || RequestBody::file(&path)).await;
        let body = match body {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let why = format!("the bundle {digest} was not uploaded, or is not kept any more");
                return Err(Trouble::Refused(why));
            }
            Err(error) => return Err(Trouble::Unreachable(error.to_string())),
        };
        let asked = self.ask(Method::PUT, "/bundles".into(), body, UPLOAD_PATIENCE);
        asked.await?.check().map(|_| ())
    }

    /// Has the agent run a function no more.
    ///
    /// # Errors
    /// It may run it still.
    pub(super) async fn remove(&self, name: &Name) -> Result<Option<Seen>, Trouble> {
        let body = json!({"name": name.as_str(), "remove": true});
        let told = self.post("/stop", &body, DEPLOY_PATIENCE).await?;
        if told.status != StatusCode::NOT_FOUND {
            told.check()?;
        }
        Ok(None)
    }

    /// Gives the agent a secret.
    ///
    /// # Errors
    /// It has not taken it.
    pub(super) async fn set_secret(&self, name: &Name, value: Vec<u8>) -> Result<(), String> {
        let body = RequestBody::Bytes(value.into());
        let asked = self.ask(Method::PUT, format!("/secrets/{name}"), body, PATIENCE);
        let told = asked.await.map_err(why)?;
        told.check().map(|_| ()).map_err(why)
    }

    /// Takes a secret from the agent.
    ///
    /// # Errors
    /// It may have it still.
    pub(super) async fn drop_secret(&self, name: &Name) -> Result<(), String> {
        let path = format!("/secrets/{name}");
        let asked = self.ask(Method::DELETE, path, RequestBody::empty(), PATIENCE);
        let told = asked.await.map_err(why)?;
        match told.status {
            StatusCode::NOT_FOUND => Ok(()),
            _ => told.check().map(|_| ()).map_err(why),
        }
    }

    /// The last lines of a function's log there.
    ///
    /// # Errors
    /// Why it does not tell them.
    pub(super) async fn log(&self, name: &Name, lines: usize) -> Result<String, String> {
        let told = self.get(&format!("/log?entrypoint={name}&n={lines}")).await;
        let json = told.map_err(why)?.json()?;
        let text = json["logs"].as_str();
        Ok(text.ok_or("it answers as no agent does")?.to_owned())
    }

    /// The same, and what comes from then on.
    ///
    /// # Errors
    /// Why it does not tell them.
    pub(super) async fn follow(&self, name: &Name, lines: usize) -> Result<Answer, String> {
        let outgoing = Outgoing {
            method: Method::GET,
            path: format!("/log?entrypoint={name}&n={lines}&follow=1"),
            headers: HeaderMap::new(),
            body: RequestBody::empty(),
        };
        match tokio::time::timeout(PATIENCE, self.0.send(outgoing)).await {
            Ok(Ok(answer)) if answer.status == StatusCode::OK => Ok(answer),
            Ok(Ok(answer)) => Err(format!("it answers {}", answer.status)),
            Ok(Err(error)) => Err(format!("it {error}")),
            Err(_) => Err("it has not answered in time".into()),
        }
    }
}

/// Why a deployment failed, with what the function has printed.
fn told_lines(message: Option<String>, told: &Value) -> String {
    let message = message.unwrap_or_else(|| "it failed".into());
    let lines = told["lines"].as_array().into_iter().flatten();
    let lines = lines.filter_map(Value::as_str);
    std::iter::once(message.as_str())
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n")
}

/// One function, as an agent's details have it.
fn seen(details: &Value) -> Option<(Name, Seen)> {
    let name = Name::parse(details["name"].as_str()?).ok()?;
    let definition = Definition::parse_all(details["definition"].to_string().as_bytes());
    let mut definition = definition.ok()?.pop()?;
    // Where else it is, is none of the agent's business.
    definition.to_agent = None;
    definition.replicas = 1;
    let seen = Seen {
        status: Status::named(details["status"].as_str()?)?,
        definition,
        message: details["message"].as_str().map(str::to_owned),
        report: details.clone(),
    };
    Some((name, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_tell_is_read() {
        let (name, found) = seen(&json!({
            "name": "f", "status": "deployed", "version": 3, "workers": 1,
            "definition": {"name": "f", "command": "cat", "toAgent": "a:1", "replicas": 2},
        }))
        .expect("a function");
        assert_eq!((name.as_str(), found.status), ("f", Status::Deployed));
        assert_eq!(
            (found.definition.to_agent, found.definition.replicas),
            (None, 1)
        );
        assert_eq!(found.report["workers"], 1);
        for other in [
            json!({}),
            json!({"name": "f", "status": "new", "definition": {"name": "f", "command": "cat"}}),
            json!({"name": "f", "status": "deployed", "definition": {"name": "f", "news": 1}}),
            json!({"name": "f", "status": "failed", "definition": null}),
        ] {
            assert!(seen(&other).is_none(), "{other}");
        }
    }
}
