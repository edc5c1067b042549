//! A call of a chain: each stage is a request of this server's own, whose body is what the stage before it answers.
//!
//! All stages run at the same time, and none waits for another in a circle, whatever chains cross:
//!
//! - A stage that waits for a worker while others have all of them takes in what the stage before it writes, up to `max_body`, or
//!   fails; so that one never waits for a worker that somebody else has (`Inflow::fill`). It may wait for one that only has to start.
//! - A stage that has a worker waits for the stage before it, which has one, too, as it has written something; or for the stage
//!   behind it to read. That one reads if it has a worker, and takes in what comes if it has none.
//! - So whoever holds a worker waits at last for the client, which has `idle_timeout`, or for its own code.
//! - Of two stages at agents, what the first writes may be kept there for the agent of the second (see [`direct`](super::direct)).
//!   The second one asks for a worker at once then, and nothing is taken in while it may get one that nobody has; as soon as others
//!   have all of them, or after a while, what is kept is fetched and taken in here, for which nobody needs a worker. The agent takes
//!   it, if it does, only once it has a worker for it, and refuses it at once if it has none. So none of the above changes: it is
//!   read by a stage that has a worker, or taken in.
//!
//! A function that does not read as it goes takes a worker when all of its input is there.

mod failure;
mod stages;

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response};
use tokio::time::Instant;

use super::cause::Cause;
use super::deadline::deadline_of;
use super::management::{Management, Told};
use super::reply::Reply;
use super::request_body::RequestBody;
use super::service::Peer;
use super::within::Origin;
use super::Front;
use crate::functions::Chain;
use crate::functions::Options;
use crate::traces::{begin_unsampled, Span};
use failure::{bad_chain, bad_parameter, wrong_method};
use stages::{Broken, Stages};

/// Where chains are called.
pub const PATH: &str = "/invoke";

/// What is asked for.
struct Asked {
    chain: Chain,
    deadline: Option<Instant>,
    /// All of the answer or nothing.
    buffer: bool,
}

/// Answers a call of a chain. `id` is the call's, and `span`, if it has one.
///
/// # Errors
/// It shows no token, or is no request as it must be. What becomes of a stage is answered.
pub async fn invoke(
    peer: &Peer,
    management: &dyn Management,
    request: &mut Request<RequestBody>,
    id: &HeaderValue,
    span: Option<&mut Span>,
) -> Result<Response<Reply>, Cause> {
    management.admit_invocation(request.headers(), peer.address)?;
    if request.method() != Method::POST {
        return Ok(wrong_method(id));
    }
    let given = deadline_of(request.headers())?;
    let query = request.uri().query().unwrap_or_default();
    let asked = match asked(query, given) {
        Ok(asked) => asked,
        Err(refused) => return Ok(refused(id)),
    };
    let stages = match Stages::resolve(&peer.front, &asked.chain) {
        Ok(stages) => stages,
        Err(failed) => return Ok(failed.response(id)),
    };
    let body = std::mem::replace(request.body_mut(), RequestBody::empty());
    let headers = std::mem::take(request.headers_mut());
    let mut headers = own_headers(headers, request.uri().authority().map(|host| host.as_str()));
    match span {
        Some(span) => {
            span.of_chain(stages.functions());
            span.tell(&mut headers);
        }
        None => begin_unsampled(&mut headers),
    }
    let call = stages::Invocation {
        front: peer.front.clone(),
        origin: Origin::of(peer),
        id: id.clone(),
        deadline: asked.deadline,
        headers,
    };
    let broken = Arc::new(Broken::default());
    let answered = match call.run(&stages, body, &broken).await {
        Ok(response) if asked.buffer => call.complete(&stages, response, &broken).await,
        answered => answered,
    };
    Ok(answered.unwrap_or_else(|failed| failed.response(id)))
}

/// Why a chain would not be begun now; `None` if it would.
pub(crate) fn refusal(front: &Front, chain: &Chain) -> Option<Told> {
    Stages::resolve(front, chain)
        .err()
        .map(|failed| failed.told())
}

type Refusal = Box<dyn FnOnce(&HeaderValue) -> Response<Reply> + Send>;

fn asked(query: &str, given: Option<Instant>) -> Result<Asked, Refusal> {
    let parameter =
        |message: String| -> Refusal { Box::new(move |id| bad_parameter(&message, id)) };
    let options = Options::parse(query).map_err(|error| parameter(error.to_string()))?;
    let (mut chain, mut deadline, mut buffer) = (None, given, false);
    for (name, value) in options.iter() {
        match name {
            "chain" if chain.is_none() => chain = Some(value),
            "timeout" => {
                let mut said = HeaderMap::new();
                if let Ok(value) = HeaderValue::from_str(value) {
                    said.insert(super::deadline::DEADLINE, value);
                }
                let own = match deadline_of(&said) {
                    Ok(own) if !said.is_empty() => own,
                    _ => return Err(parameter("`timeout` must be a number of seconds".into())),
                };
                deadline = deadline.into_iter().chain(own).min();
            }
            "buffer" => {
                buffer = match value {
                    "1" | "true" | "TRUE" => true,
                    "0" | "false" | "FALSE" => false,
                    _ => return Err(parameter("`buffer` must be 1 or 0".into())),
                }
            }
            "chain" => return Err(parameter("there is more than one `chain`".into())),
            other => {
                return Err(parameter(format!(
                    "`{other}` is not known: there are chain, timeout and buffer"
                )))
            }
        }
    }
    let text =
        chain.ok_or_else(|| parameter("`chain` is missing: POST /invoke?chain=...".into()))?;
    match Chain::parse(text) {
        Ok(chain) => Ok(Asked {
            chain,
            deadline,
            buffer,
        }),
        Err(error) => Err(Box::new(move |id| bad_chain(&error, id))),
    }
}

/// What of a call's headers its stages see.
fn own_headers(mut headers: HeaderMap, authority: Option<&str>) -> HeaderMap {
    super::headers::strip_ours(&mut headers);
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::EXPECT,
        header::UPGRADE,
        header::RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
    ] {
        headers.remove(name);
    }
    if !headers.contains_key(header::HOST) {
        let host = authority.and_then(|host| HeaderValue::from_str(host).ok());
        let host = host.unwrap_or_else(|| HeaderValue::from_static("localhost"));
        headers.insert(header::HOST, host);
    }
    headers
}
