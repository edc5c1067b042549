//! A request of a session: found by its cookie, or begun by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{self, HeaderMap};
use hyper::Request;

use super::cause::Cause;
use super::headers::{X_FORWARDED_PREFIX, X_FORWARDED_PROTO};
use super::queue::{self, named};
use super::request_body::RequestBody;
use super::route::page_of;
use crate::lock::{Lease, Refused, Ticket};
use crate::pool::Pool;
use crate::sessions::{cookie_name, new_cookie, take_cookies, Hold, Page, Sessions};
use crate::worker::Worker;

/// A request to a pool with sessions. A session that it began and that its client does not hear of ends with it.
pub struct SessionRequest {
    sessions: Arc<Sessions>,
    hold: Option<Hold>,
    page: Option<Page>,
    /// The client is to hear of it.
    is_new: bool,
    cookie_name: String,
    /// Where the app is, as the client sees it.
    path: String,
    secure: bool,
}

impl SessionRequest {
    /// Takes the session's cookie out of a request. One that is forged, or of a worker that is gone, counts as none.
    pub fn new(sessions: &Arc<Sessions>, request: &mut Request<RequestBody>) -> Self {
        let page = page_of(request);
        let authority = request
            .uri()
            .authority()
            .map(|authority| authority.as_str());
        let host = request.headers().get(header::HOST);
        let cookie_name =
            cookie_name(authority.or_else(|| host.and_then(|host| host.to_str().ok())));
        let cookies = take_cookies(request.headers_mut());
        let mut found = cookies.iter();
        Self {
            sessions: sessions.clone(),
            hold: found.find_map(|cookie| sessions.resume(cookie, page)),
            page,
            is_new: false,
            cookie_name,
            path: String::new(),
            secure: false,
        }
    }

    /// Takes note of how the client has come, in the words of the headers that its worker gets.
    pub fn note_terms(&mut self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let path = text(X_FORWARDED_PREFIX).unwrap_or("/");
        path.clone_into(&mut self.path);
        let protocol = text(X_FORWARDED_PROTO).and_then(|value| value.split(',').next());
        self.secure = protocol.is_some_and(|protocol| protocol.trim() == "https");
    }

    /// A lease on the session's worker, and how long it was waited for. Without a session, one is begun on the worker that has
    /// the fewest; if all are full, that is waited for as for a free worker. `ticket` is that of an earlier lease.
    pub async fn acquire(
        &mut self,
        pool: &Pool,
        mut ticket: Option<Ticket>,
        arrived: Instant,
    ) -> (Result<Lease<Worker>, Cause>, Duration) {
        let mut waited = Duration::ZERO;
        loop {
            let member = match &self.hold {
                Some(hold) => hold.member(),
                None => {
                    let (slot, time) = queue::acquire(&pool.table, None, arrived).await;
                    waited = waited.max(time);
                    match slot {
                        Ok(slot) => self.begin(slot).member(),
                        Err(cause) => return (Err(cause), waited),
                    }
                }
            };
            let (lease, time) = queue::acquire_on(&pool.table, member, ticket, arrived).await;
            waited = waited.max(time);
            match lease {
                // Nothing was sent: another worker will do.
                Err(Refused::Gone) => self.give_up(),
                lease => return (lease.map_err(named), waited),
            }
            ticket = None;
            let patience = pool.limits.queue_timeout;
            if patience.is_some_and(|patience| arrived.elapsed() >= patience) {
                return (Err(Cause::QueueTimeout), waited);
            }
        }
    }

    fn begin(&mut self, slot: Lease<Worker>) -> &Hold {
        self.is_new = true;
        self.hold.insert(self.sessions.begin(slot, self.page))
    }

    /// The session's worker is gone.
    fn give_up(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.sessions.forget(hold.id());
        }
    }

    /// Another hold on the session.
    pub fn hold(&self) -> Option<Hold> {
        self.hold.as_ref().map(Hold::another)
    }

    /// The request is answered: tells the client of a new session.
    pub fn tell(&mut self, headers: &mut HeaderMap) {
        let Some(hold) = self.hold.as_ref().filter(|_| self.is_new) else {
            return;
        };
        let token = self.sessions.token(hold.id());
        let cookie = new_cookie(&self.cookie_name, &token, &self.path, self.secure);
        if let Some(cookie) = cookie {
            headers.append(header::SET_COOKIE, cookie);
            self.is_new = false;
        }
    }
}

impl Drop for SessionRequest {
    fn drop(&mut self) {
        if self.is_new {
            self.give_up();
        }
    }
}
