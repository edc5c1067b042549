//! Answers that wait for their clients at one-time addresses: a hub says where, and their bodies go past it.
//!
//! An address is a capability. It is told to nobody but the client that was answered, and never logged in full.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Method, Response};
use tokio::time::Instant;

use super::cause::Cause;
use super::fetch::{without_body, Whose};
use super::one_time::Token;
use super::reply::Reply;
use crate::ops::Ops;
use crate::tls::ServerTls;

/// How long an answer waits.
const WAITS: Duration = Duration::from_secs(20);

/// How many may wait, at most; the bodies of more go through the hub.
const MOST: usize = 1024;

/// Where an answer can be fetched, as yet without one.
pub(super) struct Address {
    token: Token,
    location: HeaderValue,
}

struct Waiting {
    whose: Whose,
    response: Response<Reply>,
    until: Instant,
}

#[derive(Default)]
struct State {
    waiting: HashMap<Token, Waiting>,
    /// The same, by the end of their time.
    ends: BTreeSet<(Instant, Token)>,
    /// Whether a task looks after the ends.
    watched: bool,
}

impl State {
    fn take(&mut self, token: &Token) -> Option<Waiting> {
        let waiting = self.waiting.remove(token)?;
        self.ends.remove(&(waiting.until, *token));
        Some(waiting)
    }

    /// What has waited for too long.
    fn take_expired(&mut self) -> Vec<Waiting> {
        let mut expired = Vec::new();
        let now = Instant::now();
        while let Some((_, token)) = self.ends.first().filter(|(until, _)| *until <= now) {
            let token = *token;
            expired.extend(self.take(&token));
        }
        expired
    }
}

/// The answers of one server that wait.
pub struct Redirects {
    /// What clients are told, without a `/` at its end.
    url: String,
    /// What those who come there shake hands with, if they speak TLS with this server.
    tls: Option<Arc<ServerTls>>,
    state: Mutex<State>,
}

impl Redirects {
    pub fn new(url: String, tls: Option<Arc<ServerTls>>) -> Arc<Self> {
        Arc::new(Self {
            url,
            tls,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What clients are told, to which an address adds its path.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn tls(&self) -> Option<&Arc<ServerTls>> {
        self.tls.as_ref()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// An address for one more answer; none if `most` wait already, or there are no random numbers: its body goes through the hub.
    pub(super) fn address(&self, ops: &Ops, most: usize) -> Option<Address> {
        if self.waiting() >= most.min(MOST) {
            ops.metrics.redirect("full");
            return None;
        }
        let token = Token::new()?;
        let location = HeaderValue::try_from(format!("{}/{token}", self.url)).ok()?;
        Some(Address { token, location })
    }

    /// Keeps an answer at its address, which is returned. To be called in a runtime.
    pub(super) fn keep(
        self: &Arc<Self>,
        Address { token, location }: Address,
        whose: Whose,
        response: Response<Reply>,
    ) -> HeaderValue {
        let until = Instant::now() + WAITS;
        let waiting = Waiting {
            whose,
            response,
            until,
        };
        let watched = {
            let mut state = self.lock();
            state.waiting.insert(token, waiting);
            state.ends.insert((until, token));
            std::mem::replace(&mut state.watched, true)
        };
        if !watched {
            tokio::spawn(self.clone().expire());
        }
        location
    }

    /// Drops what has waited for too long, until nothing waits.
    async fn expire(self: Arc<Self>) {
        loop {
            let (expired, next) = {
                let mut state = self.lock();
                let expired = state.take_expired();
                let next = state.ends.first().map(|(until, _)| *until);
                state.watched = next.is_some();
                (expired, next)
            };
            for Waiting { whose, .. } in expired {
                whose.ops.metrics.redirect("expired");
            }
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => return,
            }
        }
    }

    /// What is there for a request. GET takes it, once; all else leaves it there.
    ///
    /// # Errors
    /// [`Cause::NoRoute`] for what is no address, [`Cause::Gone`] for one where nothing waits (any more), and
    /// [`Cause::MethodNotAllowed`].
    pub(super) fn find(
        &self,
        method: &Method,
        path: &str,
    ) -> Result<(Whose, Response<Reply>), Cause> {
        let token = path.strip_prefix('/').and_then(Token::parse);
        let token = token.ok_or(Cause::NoRoute)?;
        let mut state = self.lock();
        if *method == Method::GET {
            let Waiting {
                whose, response, ..
            } = state.take(&token).ok_or(Cause::Gone)?;
            drop(state);
            whose.ops.metrics.redirect("fetched");
            return Ok((whose, response));
        }
        let waiting = state.waiting.get(&token).ok_or(Cause::Gone)?;
        let response = without_body(method, &waiting.response).ok_or(Cause::MethodNotAllowed)?;
        Ok((waiting.whose.clone(), response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{spool, SpoolWriter, Store};
    use crate::ops::access::AccessLog;
    use crate::ops::log::Log;
    use crate::ops::metrics::Metrics;

    struct Answered {
        metrics: Metrics,
        redirects: Arc<Redirects>,
        ops: Arc<Ops>,
    }

    impl Answered {
        fn new() -> Self {
            let metrics = Metrics::default();
            Self {
                ops: Arc::new(Ops {
                    pool: Arc::default(),
                    metrics: metrics.of_pool(&Arc::default()),
                    access: Arc::new(AccessLog::none()),
                    log: Arc::new(Log::default()),
                }),
                redirects: Redirects::new("http://worker:8081".into(), None),
                metrics,
            }
        }

        /// One more answer, of which nothing has come, and its path.
        fn keep(&self, most: usize) -> Option<(SpoolWriter, String)> {
            let (writer, reader) = spool(&Store::default(), 1, None);
            let whose = Whose {
                ops: self.ops.clone(),
                id: HeaderValue::from_static("a"),
                worker: None,
            };
            let response = Response::new(Reply::spool(reader));
            let address = self.redirects.address(&self.ops, most)?;
            let location = self.redirects.keep(address, whose, response);
            let url = location.to_str().expect("text");
            let path = url.strip_prefix("http://worker:8081").expect("its URL");
            Some((writer, path.to_owned()))
        }

        fn find(&self, path: &str) -> Option<Cause> {
            self.redirects.find(&Method::GET, path).err()
        }

        fn counted(&self, outcome: &str) -> bool {
            let line = format!("faucet_redirects_total{{pool=\"\",outcome=\"{outcome}\"}} 1");
            let status = crate::ops::status::ServerStatus {
                manages: false,
                pools: Vec::new(),
                starting: false,
                draining: false,
            };
            let page = self.metrics.render(&status, 0, 0);
            page.lines().any(|known| known == line)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_fetches_goes_and_its_worker_hears_of_it() {
        let answered = Answered::new();
        let (writer, path) = answered.keep(10).expect("room");
        tokio::time::sleep(WAITS / 2).await;
        let (_second, other) = answered.keep(10).expect("room");
        writer.left().await;
        assert!(answered.counted("expired"));
        assert_eq!(answered.find(&path), Some(Cause::Gone));
        // The other one came later.
        assert_eq!(answered.redirects.waiting(), 1);
        assert_eq!(answered.find(&other), None);
        assert!(answered.counted("fetched"));
        // One that comes when none is left is looked after, too.
        tokio::time::sleep(WAITS).await;
        let (writer, _) = answered.keep(10).expect("room");
        writer.left().await;
        assert_eq!(answered.redirects.waiting(), 0);
        assert!(answered.redirects.lock().ends.is_empty());
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let answered = Answered::new();
        let (_writer, path) = answered.keep(1).expect("room");
        assert!(answered.keep(1).is_none());
        assert!(answered.counted("full"));
        assert_eq!(answered.find(&path), None);
        assert!(answered.keep(1).is_some());
    }
}
