//! Runs calls that nobody waits for, by requests of the server to itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, StatusCode};

use crate::client_address::ClientAddress;
use crate::front::{self, Front, Origin, RequestBody, Told};
use crate::functions::calls::{Answered, Input, Runner};
use crate::functions::Chain;

/// A front, which has these calls among what it serves.
pub(in crate::server) struct WithinFront(Weak<Front>);

impl WithinFront {
    pub(in crate::server) fn new(front: &Arc<Front>) -> Self {
        Self(Arc::downgrade(front))
    }
}

impl Runner for WithinFront {
    fn refusal(&self, chain: &Chain) -> Option<Told> {
        let front = self.0.upgrade()?;
        front::refusal(&front, chain)
    }

    fn run(
        &self,
        request: Request<Input>,
        client: ClientAddress,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let front = self.0.upgrade();
        Box::pin(async move {
            let answered = match front {
                Some(front) => {
                    let request = request.map(RequestBody::within);
                    front.within(Origin::new(client), request).await
                }
                None => {
                    // It is about to end: nothing comes of this any more.
                    let body = Empty::new().map_err(|never| match never {});
                    let mut gone = Response::new(body.boxed_unsync());
                    *gone.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    return gone;
                }
            };
            let answered = match answered {
                Ok(answered) => answered,
                Err(never) => match never {},
            };
            answered.map(|body| body.map_err(|abort| abort.to_string()).boxed_unsync())
        })
    }
}
