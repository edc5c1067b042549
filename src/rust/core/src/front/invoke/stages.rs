//! The stages of a chain, and how one's answer becomes the next one's input.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::failure::Failed;
use crate::body::{spool, Abort};
use crate::environment::SystemError;
use crate::front::cause::Cause;
use crate::front::deadline::{deadline_value, DEADLINE};
use crate::front::direct::{self, Elsewhere, Input};
use crate::front::headers::X_REQUEST_ID;
use crate::front::incoming::Flowing;
use crate::front::reply::Reply;
use crate::front::request_body::RequestBody;
use crate::front::within::Origin;
use crate::front::Front;
use crate::functions::Options;
use crate::functions::{Chain, Stage};
use crate::pool::Visit;
use crate::worker::remote;

/// A stage whose function is served here.
struct Resolved {
    /// Its function's name, as it is served.
    function: String,
    target: Uri,
    /// In bytes.
    max_body: u64,
}

/// The stages of a chain, all of which are served here.
pub struct Stages(Vec<Resolved>);

impl Stages {
    /// Finds the functions of a chain, before anything is run.
    ///
    /// # Errors
    /// One is not served here, or does not take what its stage says.
    pub fn resolve(front: &Front, chain: &Chain) -> Result<Self, Box<Failed>> {
        let stages = chain.stages.iter().enumerate();
        let resolved = stages.map(|(at, stage)| resolve(front, at + 1, stage));
        resolved.collect::<Result<_, _>>().map(Self)
    }

    /// As they are served.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|stage| &*stage.function)
    }

    fn function(&self, stage: usize) -> &str {
        let resolved = stage.checked_sub(1).and_then(|at| self.0.get(at));
        resolved.map_or("", |resolved| &resolved.function)
    }
}

fn find(front: &Front, function: &str) -> Option<Visit> {
    let path = format!("/functions/{function}");
    let (visit, _) = front.pools.find(None, &path)?;
    (**visit.name() == *path).then_some(visit)
}

fn resolve(front: &Front, number: usize, stage: &Stage) -> Result<Resolved, Box<Failed>> {
    let written: Option<(Visit, String)> =
        find(front, &stage.function).map(|visit| (visit, stage.function.clone()));
    let found = written.or_else(|| {
        let other = stage.other_spelling()?;
        Some((find(front, &other)?, other))
    });
    let Some((visit, function)) = found else {
        let mut failed = Failed::of_cause(number, &stage.function, Cause::NoFunction);
        failed.message = format!("there is no function `{}`", stage.function);
        failed.more.insert("column".into(), stage.column.into());
        return Err(failed);
    };
    let query = stage.query();
    let mismatch = match (visit.roster.signature(), Options::parse(&query)) {
        (Some(signature), Ok(options)) => signature.check(&options).err(),
        _ => None,
    };
    if let Some(mismatch) = mismatch {
        let option = Value::from(mismatch.option());
        return Err(Box::new(Failed {
            message: mismatch.to_string(),
            cause: HeaderValue::from_static(remote::BAD_OPTION),
            more: Map::from_iter([("option".to_owned(), option)]),
            ..*Failed::of_cause(number, &function, Cause::BadRequest("an option is wrong"))
        }));
    }
    let target = match query.is_empty() {
        true => format!("/functions/{function}"),
        false => format!("/functions/{function}?{query}"),
    };
    let target = Uri::try_from(target);
    let target = target.map_err(|_| Failed::of_cause(number, &function, Cause::UriTooLong))?;
    Ok(Resolved {
        function,
        target,
        max_body: visit.limits.max_body,
    })
}

/// Where a chain has broken first: what breaks behind it does so for that.
#[derive(Default)]
pub struct Broken(Mutex<Option<(usize, Abort)>>);

impl Broken {
    fn note(&self, stage: usize, why: Abort) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert((stage, why));
    }

    fn first(&self) -> Option<(usize, Abort)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a stage answers, on its way to the next.
struct Between<B> {
    body: B,
    stage: usize,
    broken: Arc<Broken>,
}

impl<B: Body<Data = Bytes, Error = Abort> + Unpin> Body for Between<B> {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(why)) = &frame {
            self.broken.note(self.stage, *why);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a stage is asked for where nobody says that: what its input is, if it can be.
fn accepted(kind: Option<&HeaderValue>) -> HeaderValue {
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    HeaderValue::from_static(match media.to_ascii_lowercase().as_str() {
        // What curl says of any text.
        "" | "text/plain" | "application/x-www-form-urlencoded" => "text/plain, */*;q=0.5",
        "application/json" => "application/json, */*;q=0.5",
        "text/csv" => "text/csv, */*;q=0.5",
        "application/octet-stream" => "application/octet-stream, */*;q=0.5",
        _ => "*/*",
    })
}

/// A call of a chain.
pub struct Invocation {
    pub front: Arc<Front>,
    pub origin: Origin,
    pub id: HeaderValue,
    pub deadline: Option<Instant>,
    /// As the client has sent them, but for what concerns its connection and its body.
    pub headers: HeaderMap,
}

impl Invocation {
    /// Starts the stages, one when there is an answer of the one before. Resolves when there is one of the last. All end when
    /// this, or the answer, is dropped.
    ///
    /// # Errors
    /// One of them failed before that.
    pub async fn run(
        &self,
        stages: &Stages,
        input: RequestBody,
        broken: &Arc<Broken>,
    ) -> Result<Response<Reply>, Box<Failed>> {
        let mut input = input;
        let mut kept = None;
        let mut kind = self.headers.get(header::CONTENT_TYPE).cloned();
        let last = stages.0.len();
        for (at, stage) in stages.0.iter().enumerate() {
            let number = at + 1;
            let mut request = self.request(stage, number == last, kind, input);
            self.introduce(&mut request, number, stages.0.get(number), kept.take());
            // Never fails.
            let mut response = match self.front.within(self.origin.clone(), request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if !response.status().is_success() {
                let failed = Failed::of_answer(number, &stage.function, response).await;
                return Err(self.first_failure(stages, broken).unwrap_or(failed));
            }
            if number == last {
                return Ok(response.map(Reply::nested));
            }
            kind = response.headers().get(header::CONTENT_TYPE).cloned();
            kept = response.extensions_mut().remove::<Elsewhere>();
            input = self.input(number, response.into_body(), kept.clone(), broken);
        }
        // A chain has a stage.
        Err(Failed::of_cause(0, "", Cause::NoFunction))
    }

    /// The same, once all of the answer is there: at most as much as the last function takes as input.
    ///
    /// # Errors
    /// The answer broke off, or cannot be kept.
    pub async fn complete(
        &self,
        stages: &Stages,
        response: Response<Reply>,
        broken: &Broken,
    ) -> Result<Response<Reply>, Box<Failed>> {
        let last = stages.0.len();
        let failed = |cause| Failed::of_cause(last, stages.function(last), cause);
        let (parts, mut body) = response.into_parts();
        let (writer, reader) = spool(&self.front.store, self.front.limits.body_memory, None);
        let most = stages.0.last().map_or(0, |stage| stage.max_body);
        let copy = async {
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|why| {
                    let first = self.first_failure(stages, broken);
                    first.unwrap_or_else(|| Failed::of_abort(last, stages.function(last), why))
                })?;
                if let Ok(chunk) = frame.into_data() {
                    length += chunk.len() as u64;
                    if length > most {
                        let mut failed = failed(Cause::BodyTooLarge);
                        failed.message =
                            format!("the answer has more than the {most} bytes that are kept");
                        return Err(failed);
                    }
                    writer.push(chunk).await.map_err(|error| {
                        tracing::error!("an answer cannot be kept: {}", SystemError(&error));
                        failed(Cause::Storage)
                    })?;
                }
            }
            Ok(())
        };
        let copied = match self.deadline {
            None => copy.await,
            Some(at) => tokio::time::timeout_at(at, copy)
                .await
                .unwrap_or_else(|_| Err(failed(Cause::Timeout))),
        };
        copied?;
        writer.finish(None);
        Ok(Response::from_parts(parts, Reply::spool(reader)))
    }

    fn first_failure(&self, stages: &Stages, broken: &Broken) -> Option<Box<Failed>> {
        let (stage, why) = broken.first()?;
        Some(Failed::of_abort(stage, stages.function(stage), why))
    }

    /// What a stage answers, for the one behind it. `kept`: where its bytes are, if they are not in `reply`.
    fn input(
        &self,
        stage: usize,
        mut reply: Reply,
        kept: Option<Elsewhere>,
        broken: &Arc<Broken>,
    ) -> RequestBody {
        let broken = broken.clone();
        match kept {
            None => match reply.take_whole() {
                // With its reply, the stage is over.
                Some(all) => RequestBody::whole(all),
                None => RequestBody::within(Between {
                    body: reply,
                    stage,
                    broken,
                }),
            },
            Some(kept) => {
                let store = self.front.store.clone();
                RequestBody::within(Between {
                    body: Input::new(kept, reply, store, self.id.clone()),
                    stage,
                    broken,
                })
            }
        }
    }

    /// Tells of a stage's request who is before and behind it.
    fn introduce(
        &self,
        request: &mut Request<RequestBody>,
        number: usize,
        next: Option<&Resolved>,
        input: Option<Elsewhere>,
    ) {
        let flowing = match &input {
            Some(_) => Flowing::Kept,
            None => Flowing::Begun,
        };
        request.extensions_mut().insert(flowing);
        let next = next.and_then(|next| find(&self.front, &next.function));
        request.extensions_mut().insert(direct::Stage {
            follows: number > 1,
            input,
            next: next.map(|visit| (*visit).clone()),
        });
    }

    fn request(
        &self,
        stage: &Resolved,
        is_last: bool,
        kind: Option<HeaderValue>,
        input: RequestBody,
    ) -> Request<RequestBody> {
        let mut headers = self.headers.clone();
        match kind {
            Some(kind) => headers.insert(header::CONTENT_TYPE, kind),
            None => headers.remove(header::CONTENT_TYPE),
        };
        let wanted = headers.get(header::ACCEPT).filter(|_| is_last);
        if wanted.map_or(true, |wanted| wanted == "*/*") {
            headers.insert(header::ACCEPT, accepted(headers.get(header::CONTENT_TYPE)));
        }
        if !is_last {
            headers.remove(header::ACCEPT_ENCODING);
        }
        headers.insert(X_REQUEST_ID, self.id.clone());
        if let Some(at) = self.deadline {
            headers.insert(DEADLINE, deadline_value(at));
        }
        let mut request = Request::new(input);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = stage.target.clone();
        *request.headers_mut() = headers;
        request
    }
}
