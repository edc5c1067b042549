//! What a request has to do with bytes that are kept: where its own are, and who may take its answer's.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, Response, StatusCode};

use super::input::{may_take, Elsewhere};
use super::joined::Joined;
use super::source::{Reached, Source};
use crate::body::Inflow;
use crate::front::cause::Cause;
use crate::front::departure::Progress;
use crate::front::exchange::{Answer, AnswerBody};
use crate::front::one_time::Token;
use crate::front::reply::Reply;
use crate::front::request_body::RequestBody;
use crate::front::sendable::{Onward, Sendable};
use crate::front::Front;
use crate::lock::Table;
use crate::pool::Pool;
use crate::worker::native::STREAM;
use crate::worker::remote::{KEEP, KEEP_IT, KEPT, SOURCE};
use crate::worker::Worker;

/// What a request of a chain's says of the stages beside its own, to be found among its extensions.
#[derive(Clone)]
pub struct Stage {
    /// Whether its input is what a stage before it answers.
    pub follows: bool,
    /// Where that is, if it is kept.
    pub input: Option<Elsewhere>,
    /// That of the stage behind it, if there is one.
    pub next: Option<Arc<Pool>>,
}

/// A request's part in it, if it has one.
pub struct Handover {
    /// At the proxy.
    stage: Option<Stage>,
    /// Who works on it, and where others wait for that.
    worker: Option<(Arc<Worker>, Arc<Table<Worker>>)>,
    /// Whether it was asked to keep its answer.
    asked: bool,
    /// At an agent: whether its answer is a stage's input.
    is_input: bool,
    /// At an agent: whether its answer is to be kept.
    keeps: bool,
    /// At an agent: where its bytes are, until they are taken.
    source: Option<Result<Source, String>>,
    reached: Option<Reached>,
}

impl Handover {
    /// Takes what a request says of it. `from_front`: whether the word of whoever sends it is taken.
    pub fn of(request: &mut Request<RequestBody>, from_front: bool) -> Option<Box<Self>> {
        let stage = request.extensions_mut().remove::<Stage>();
        let headers = request.headers();
        let (keep, source) = match from_front {
            true => (headers.get(KEEP), Source::of(headers)),
            false => (None, None),
        };
        let (is_input, keeps) = (keep.is_some(), keep == Some(&KEEP_IT));
        let any = stage.is_some() || is_input || source.is_some();
        any.then(|| {
            Box::new(Self {
                stage,
                worker: None,
                asked: false,
                is_input,
                keeps,
                source,
                reached: None,
            })
        })
    }

    /// Whether its answer is the input of a stage, at an agent.
    pub fn is_input(&self) -> bool {
        self.is_input
    }

    /// Sees whether the request's bytes, if they are elsewhere, can be had from there. `flows`: whether its worker reads them as they
    /// come.
    ///
    /// # Errors
    /// They cannot; within a sentence.
    pub async fn reach(&mut self, front: &Front, flows: bool) -> Result<(), String> {
        match self.source.take() {
            None => Ok(()),
            // They could be taken once, and whoever has no worker for them then would have lost them.
            Some(_) if !flows => Err("the function there takes its input as a whole".into()),
            Some(source) => {
                let reached = source?.reach(&front.direct, &front.store).await?;
                self.reached = Some(reached);
                Ok(())
            }
        }
    }

    /// Whether its bytes are still to be taken: that is not to wait for a worker.
    pub fn is_to_take(&self) -> bool {
        self.reached.is_some()
    }

    /// Takes its bytes, now that there is a worker. What came with the request is their control. `id` is the call's.
    ///
    /// # Errors
    /// They cannot be had; within a sentence.
    pub async fn take(
        &mut self,
        front: &Front,
        id: &HeaderValue,
        inflow: Option<Inflow>,
    ) -> Result<Option<Inflow>, String> {
        let Some(reached) = self.reached.take() else {
            return Ok(inflow);
        };
        let inflow = inflow.ok_or("whoever has sent it there has said nothing of its end")?;
        let bytes = reached.take(&front.direct, id).await?;
        Ok(Some(
            inflow.over(|control| Box::pin(Joined::new(bytes, control))),
        ))
    }

    /// Where its input is kept, if it is.
    pub fn input(&self) -> Option<&Elsewhere> {
        self.stage.as_ref()?.input.as_ref()
    }

    /// A worker of `pool` has it. Says in its headers where its input is, and whether its answer is to be kept, and returns the way that
    /// the input goes, for the log.
    pub fn choose(
        &mut self,
        front: &Front,
        pool: &Pool,
        worker: &Arc<Worker>,
        request: &mut Sendable,
    ) -> Option<&'static str> {
        let stage = self.stage.as_ref()?;
        self.worker = Some((worker.clone(), pool.table.clone()));
        self.asked = false;
        worker.remote.as_ref()?;
        let direct = &front.direct;
        request.onward = stage.next.as_ref().map(|next| {
            let takes = |taker: &Worker| may_take(direct, taker, worker);
            match worker.is_faucet() && next.limits.streams && next.roster.any(takes) {
                true => Onward::Kept,
                false => Onward::Passed,
            }
        });
        self.asked = request.onward == Some(Onward::Kept);
        request.headers.remove(SOURCE);
        let chosen = match &stage.input {
            Some(input) => input.choose(direct, worker),
            None => None,
        };
        let way = chosen.map(|(source, way)| {
            request.headers.insert(SOURCE, source);
            way
        });
        stage.follows.then_some(way.unwrap_or("proxy"))
    }

    /// It is to be sent again, to somebody else perhaps.
    pub fn reconsider(&self, request: &mut Sendable) {
        request.headers.remove(SOURCE);
        if let Some(input) = self.input() {
            input.reconsider();
        }
    }

    /// The agent that has it cannot have its input.
    pub fn refused(&self, front: &Front, why: &HeaderMap) {
        if let Some((input, (taker, _))) = self.input().zip(self.worker.as_ref()) {
            let why = why.get(SOURCE).and_then(|why| why.to_str().ok());
            input.refused(
                &front.direct,
                &taker.address,
                why.unwrap_or("it does not say why"),
            );
        }
    }

    /// Where the bytes of an answer are kept, if they are. Whoever was not asked to keep them has no say.
    ///
    /// # Errors
    /// They are, but it is not said how they can be had: what has come here in their place is not to be taken for them.
    pub fn kept(&self, answer: &Answer) -> Result<Option<Elsewhere>, Cause> {
        let said = answer.headers.get(KEPT).filter(|_| self.asked);
        let (Some(said), Some((holder, others))) = (said, self.worker.clone()) else {
            return Ok(None);
        };
        let token = said.to_str().ok().and_then(Token::parse);
        let streams = matches!(answer.body, AnswerBody::Streaming(_));
        let token = token.filter(|_| streams).ok_or(Cause::BadResponse)?;
        Ok(Some(Elsewhere::new(holder, others, token)))
    }

    /// Keeps the bytes of an answer, if that was asked for and is worth it: while they are written. What is there already may as well
    /// be sent.
    pub fn keep(&self, front: &Front, response: Response<Reply>) -> Response<Reply> {
        let streams = response.headers().contains_key(STREAM)
            && response.status().is_success()
            && response.status() != StatusCode::NO_CONTENT;
        // Nobody could come for it any more.
        let ends = || front.lifecycle.draining.load(Ordering::Relaxed);
        if !self.keeps || !streams || ends() {
            return response;
        }
        let written = match response.body().progress() {
            Some(Progress::Spool(written)) if written.is_open() => written,
            _ => return response,
        };
        let descriptors = front.store.descriptors();
        let most = descriptors.room_for_connections(front.limits.max_connections);
        let (mut head, body) = response.into_parts();
        let (body, token) = front.direct.kept.keep(body, written, most);
        let token = token.and_then(|token| HeaderValue::try_from(token.to_string()).ok());
        if let Some(mut token) = token {
            token.set_sensitive(true);
            head.headers.insert(KEPT, token);
        }
        Response::from_parts(head, body)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::body::{spool, Store};
    use crate::worker::Address;

    fn handover(asked: bool) -> Handover {
        let address = Address::Tcp(([10, 0, 0, 1], 9000).into());
        let worker = Arc::new(Worker::new(1, 1, address, Box::new(|_, _| {})));
        Handover {
            stage: None,
            worker: Some((worker, Table::new(1))),
            asked,
            is_input: false,
            keeps: false,
            source: None,
            reached: None,
        }
    }

    fn answer(token: &str, body: AnswerBody) -> Answer {
        let token = HeaderValue::try_from(token).expect("text");
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(KEPT, token)]),
            body,
        }
    }

    #[test]
    fn only_who_was_asked_may_keep_what_it_streams() {
        const TOKEN: &str = "0123456789abcdef0123456789abcdef";
        let streaming = || {
            let (_, reader) = spool(&Store::default(), 1, None);
            AnswerBody::Streaming(reader)
        };
        let kept = |asked: bool, token: &str, body: AnswerBody| {
            let kept = handover(asked).kept(&answer(token, body));
            kept.map(|kept| kept.is_some())
        };
        assert_eq!(kept(true, TOKEN, streaming()), Ok(true));
        assert_eq!(kept(false, TOKEN, streaming()), Ok(false));
        // Nothing that is no body is taken for one.
        assert_eq!(kept(true, "x", streaming()), Err(Cause::BadResponse));
        let piece = AnswerBody::Piece(Bytes::new());
        assert_eq!(kept(true, TOKEN, piece), Err(Cause::BadResponse));
    }
}
