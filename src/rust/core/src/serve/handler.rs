//! Who handles the requests that come over a worker's socket.

use std::future::Future;
use std::sync::Arc;

use super::answer::Answer;
use super::dispatcher::{Dispatcher, Outcome, Ticket, Why};
use super::request::Request;

/// Handles requests, each known by the number that the front gives it.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Handles a request; `None` if it was given up before it was begun. Dropped when the request's connection is gone: then
    /// nobody wants the answer.
    fn handle(
        self: Arc<Self>,
        number: Option<u64>,
        request: Request,
    ) -> impl Future<Output = Option<Answer>> + Send;

    /// Breaks a request off; resolves when that is under way, or it is over.
    fn interrupt(&self, number: u64, why: Why) -> impl Future<Output = Outcome> + Send;

    /// Lets it be known that the client has left. Whether the request is still at work.
    fn tell(&self, number: u64) -> bool;
}

/// Whoever stops to wait for an answer, its connection being gone, leaves the dispatcher.
struct Waiting<'a> {
    dispatcher: &'a Dispatcher,
    ticket: Option<Ticket>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.dispatcher.abandon(ticket);
        }
    }
}

/// One that hands them to another thread.
impl Handler for Dispatcher {
    async fn handle(self: Arc<Self>, number: Option<u64>, request: Request) -> Option<Answer> {
        let (ticket, answer) = self.submit(number, request);
        let mut waiting = Waiting {
            dispatcher: &self,
            ticket: Some(ticket),
        };
        let answer = answer.await;
        waiting.ticket = None;
        // Without an answer: it was cancelled before it was begun.
        answer.ok()
    }

    fn interrupt(&self, number: u64, why: Why) -> impl Future<Output = Outcome> + Send {
        Dispatcher::interrupt(self, number, why)
    }

    fn tell(&self, number: u64) -> bool {
        Dispatcher::tell(self, number)
    }
}
